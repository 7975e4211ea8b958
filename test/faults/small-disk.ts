/** A file system that is soon full. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Mount a file system of so many megabytes that the server may write into; null, and a line that says so, where that is not permitted. */
export function smallDisk(megabytes: number): string | null {
  const path = mkdtempSync(join(tmpdir(), 'hartonomous-disk-'));
  try {
    const owner = execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }).trim();
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,uid=${owner},mode=700`, 'tmpfs', path], {
      stdio: 'ignore',
    });
    return path;
  } catch {
    rmSync(path, { recursive: true });
    console.log('skipped: this user may not mount a small file system');
    return null;
  }
}

export function growDisk(path: string, megabytes: number): void {
  execFileSync('mount', ['-o', `remount,size=${megabytes}m`, path]);
}

export function releaseDisk(path: string): void {
  execFileSync('umount', [path]);
  rmSync(path, { recursive: true });
}
