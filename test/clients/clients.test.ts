/**
 * Other people's clients against `serve`: npm run test:clients. Their packages are large, so they are kept in the cache beside
 * the models, in environments that are made once for each list of versions; where a registry cannot be reached the suites
 * that need it are skipped.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { cacheFolder } from '../../python-package.mjs';
import { startTestServer } from '../cli/test-server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';

const run = promisify(execFile);
const FOLDER = join(packageRoot(), 'test/clients');
/** Milliseconds that an install may take, a hundred packages over a slow line, and a suite. */
const INSTALL_MS = 900_000;
const SUITE_MS = 120_000;

/** Fill an empty folder with what a list names. */
type Install = (folder: string, list: string) => Promise<unknown>;

const withPip: Install = async (folder, list) => {
  await run('python3', ['-m', 'venv', folder]);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--requirement', list];
  await run(join(folder, 'bin/python'), pip, { timeout: INSTALL_MS });
};

const withNpm: Install = async (folder, list) => {
  copyFileSync(list, join(folder, 'package.json'));
  const npm = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
  await run('npm', npm, { cwd: folder, timeout: INSTALL_MS });
};

const environments = new Map<string, Promise<string | null>>();

/** The folder with what a list names, made once for each content of the list; null where that cannot be. */
function environment(name: string, install: Install): Promise<string | null> {
  const made = environments.get(name) ?? make(join(FOLDER, name), install);
  environments.set(name, made);
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

/** What a suite that failed says at its end; empty where it passed. */
async function complaint(program: string, args: string[], env = process.env): Promise<string> {
  try {
    await run(program, args, { env, timeout: SUITE_MS });
    return '';
  } catch (error) {
    const { message, stderr } = error as Error & { stderr?: string };
    return stderr?.trim().split('\n').slice(-4).join('\n') || message;
  }
}

let database: TestDatabase;
let server: RunningServer;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'tiny');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

test.for([
  ['openai', 'requirements-openai.txt'],
  ['ollama', 'requirements-openai.txt'],
  ['langchain', 'requirements-openai.txt'],
  ['litellm', 'requirements-openai.txt'],
  ['llamaindex', 'requirements-llamaindex.txt'],
  ['instructor', 'requirements-llamaindex.txt'],
  ['pydantic_ai', 'requirements-pydantic-ai.txt'],
] as const)('%s in Python', { timeout: INSTALL_MS + SUITE_MS }, async ([suite, list], context) => {
  const folder = await environment(list, withPip);
  if (folder === null) return context.skip();
  // LiteLLM would fetch a list of prices.
  const env = { ...process.env, LITELLM_LOCAL_MODEL_COST_MAP: 'True', PYTHONDONTWRITEBYTECODE: '1' };
  expect(await complaint(join(folder, 'bin/python'), [join(FOLDER, 'suites.py'), suite, server.url], env)).toBe('');
});

test(
  "Vercel's AI SDK",
  async (context) => {
    const folder = await environment('package.json', withNpm);
    if (folder === null) return context.skip();
    // Node.js looks for packages beside the file.
    copyFileSync(join(FOLDER, 'ai-sdk.mjs'), join(folder, 'ai-sdk.mjs'));
    expect(await complaint(process.execPath, [join(folder, 'ai-sdk.mjs'), server.url])).toBe('');
  },
  INSTALL_MS + SUITE_MS,
);
