/**
 * Other people's clients against `serve`: npm run test:clients. Their packages are large, so npm test does without; where a
 * registry cannot be reached the suites that need it are skipped.
 */
import { execFile } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { availableSmollm2 } from '../golden/smollm2-file.ts';
import { environment, INSTALL_MS, withNpm, withPip } from '../package-environment.ts';

const run = promisify(execFile);
const FOLDER = join(packageRoot(), 'test/clients');
/** Milliseconds that a suite may take: a trained model writes some hundred tokens in each. */
const SUITE_MS = 600_000;

/** Who calls tools: a trained model where there is one. */
const smollm2 = availableSmollm2();
const caller = smollm2 === null ? 'tiny' : 'smollm2';
test.skipIf(smollm2 === null)('tools are called by a trained model', () => expect(caller).toBe('smollm2'));

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
  if (smollm2 !== null) await ingestFile(database.url, smollm2, 'smollm2');
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
  const folder = await environment(join(FOLDER, list), withPip);
  if (folder === null) return context.skip();
  // LiteLLM would fetch a list of prices.
  const env = { ...process.env, LITELLM_LOCAL_MODEL_COST_MAP: 'True', PYTHONDONTWRITEBYTECODE: '1' };
  expect(await complaint(join(folder, 'bin/python'), [join(FOLDER, 'suites.py'), suite, server.url, caller], env)).toBe(
    '',
  );
});

test(
  "Vercel's AI SDK",
  async (context) => {
    const folder = await environment(join(FOLDER, 'package.json'), withNpm);
    if (folder === null) return context.skip();
    // Node.js looks for packages beside the file.
    copyFileSync(join(FOLDER, 'ai-sdk.mjs'), join(folder, 'ai-sdk.mjs'));
    expect(await complaint(process.execPath, [join(folder, 'ai-sdk.mjs'), server.url, caller])).toBe('');
  },
  INSTALL_MS + SUITE_MS,
);
