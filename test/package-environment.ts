/**
 * Environments of other people's packages, kept in the cache beside the models and made once for each list of versions; where
 * a registry cannot be reached there is none, and the tests that need it are skipped.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../python-package.mjs';

const run = promisify(execFile);

/** Milliseconds that an install may take: a hundred packages over a slow line. */
export const INSTALL_MS = 900_000;

/** Fill an empty folder with what a list names. */
export type Install = (folder: string, list: string) => Promise<unknown>;

export const withPip: Install = async (folder, list) => {
  await run('python3', ['-m', 'venv', folder]);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--requirement', list];
  await run(join(folder, 'bin/python'), pip, { timeout: INSTALL_MS });
};

export const withNpm: Install = async (folder, list) => {
  copyFileSync(list, join(folder, 'package.json'));
  const npm = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
  await run('npm', npm, { cwd: folder, timeout: INSTALL_MS });
};

const environments = new Map<string, Promise<string | null>>();

/** The folder with what a list names, made once for each content of the list; null where that cannot be. */
export function environment(list: string, install: Install): Promise<string | null> {
  const made = environments.get(list) ?? make(list, install);
  environments.set(list, made);
  return made;
}

async function make(list: string, install: Install): Promise<string | null> {
  const digest = createHash('sha256').update(readFileSync(list)).digest('hex');
  const folder = join(cacheFolder(), `clients-${digest.slice(0, 12)}`);
  const complete = join(folder, 'complete');
  if (existsSync(complete)) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  try {
    await install(folder, list);
  } catch (error) {
    console.log(`${list} cannot be installed: ${(error as Error).message.split('\n').slice(0, 2).join(' ')}`);
    return null;
  }
  writeFileSync(complete, '');
  return folder;
}
