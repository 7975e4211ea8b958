/** Runs the built program as a child process, as a shell does. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../cli/package-root.ts';

const PROGRAM = join(packageRoot(), 'dist/cli/main.js');
/** Hang guard; hardly a command of these tests takes a tenth of it. */
const TIMEOUT_MS = 120_000;

export interface ProgramResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface ProgramOptions {
  /** Connection string given as DATABASE_URL; none when left out. */
  url?: string;
  env?: Record<string, string>;
  stdin?: string;
  /** Hang guard of a command that takes longer than others. */
  timeoutMs?: number;
  /** Called with the process once it runs. */
  onStart?(child: ChildProcess): void;
}

/** Start `hartonomous ARGS` and wait for its end. */
export function hartonomous(args: string[], options: ProgramOptions = {}): Promise<ProgramResult> {
  const env: NodeJS.ProcessEnv = { ...process.env, ...options.env };
  delete env.DATABASE_URL;
  if (options.url !== undefined) env.DATABASE_URL = options.url;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...args], { env, timeout: options.timeoutMs ?? TIMEOUT_MS });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.stdin ?? '');
    options.onStart?.(child);
  });
}
