/** An ingest shows bytes, rate and time left in every phase: of GGUF, of SafeTensors, and of what is pulled. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ingest } from '../../cli/ingest/ingest.ts';
import { download } from '../../cli/sources/remote/download.ts';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { writeHuggingFaceFolder } from '../unit/hugging-face-writer.ts';
import { ModelServer } from '../unit/model-server.ts';
import { hartonomous } from './program.ts';
import { PseudoTerminal } from './pseudo-terminal.ts';

const MODEL = modelPath('zoo/qwen2-tiny-f32.gguf');
const PHASES = ['hash', 'vocabulary', 'tensors', 'embeddings'];
const NAMES = ['reading file', 'tokens', 'weights', 'embeddings'];
const BYTES = String.raw`[\d.]+ k?M?B`;

const folder = new FileFolder();
const server = new ModelServer();
let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await server.start();
  writeHuggingFaceFolder(MODEL, join(folder.path, 'folder'));
});
afterAll(async () => {
  await server.stop();
  await database.drop();
  folder.remove();
});

test.each([
  ['GGUF', () => MODEL],
  ['SafeTensors', () => join(folder.path, 'folder')],
])('%s: every phase goes from little to all of its bytes', async (name, path) => {
  const seen = new Map<string, { done: number; total: number }[]>();
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await ingest(client, path(), {
    name,
    batchBytes: 1 << 16,
    onProgress: (phase, done, total) => seen.set(phase, [...(seen.get(phase) ?? []), { done, total }]),
  });
  // What a model shares with another is not sent.
  await client.query('select hartonomous.remove_model($1)', [name]);
  await client.end();
  expect([...seen.keys()]).toEqual(PHASES);
  for (const [phase, steps] of seen) {
    expect(new Set(steps.map(({ total }) => total)).size, phase).toBe(1);
    expect(
      steps.map(({ done }) => done),
      phase,
    ).toEqual(steps.map(({ done }) => done).sort((a, b) => a - b));
    expect(steps.at(-1)!.done, phase).toBe(steps[0]!.total);
    // The file is smaller than what is read at once.
    if (phase !== 'hash') expect(new Set(steps.map(({ done }) => done)).size, phase).toBeGreaterThan(5);
  }
});

test('a terminal shows bytes, rate and time left, and fits', async () => {
  for (const columns of [100, 40]) {
    const terminal = new PseudoTerminal(['ingest', MODEL, '--name', `terminal-${columns}`], {
      url: database.url,
      columns,
    });
    expect(await terminal.end()).toBe(0);
    const lines = terminal.lines();
    for (const [i, name] of NAMES.entries()) {
      expect(lines[i], `${columns} ${name}`).toMatch(
        columns === 100
          ? new RegExp(`^${name} =+ 100 %  ${BYTES} of ${BYTES}, ${BYTES}/s, 0 s left$`)
          : new RegExp(`^${name} .*100 %`),
      );
    }
  }
});

test('without a terminal each phase has a line', async () => {
  const { stderr, code } = await hartonomous(['ingest', MODEL, '--name', 'plain'], { url: database.url });
  expect(code, stderr).toBe(0);
  // A phase that takes long has more.
  const lines = stderr.trim().split('\n');
  const phases = lines.map((line) => line.split(':')[0]!);
  expect([...new Set(phases)]).toEqual(NAMES);
  for (const line of lines) expect(line).toMatch(new RegExp(`^[a-z ]+: ${BYTES} of ${BYTES}`));
});

test('a pull of several files shows each of them', async () => {
  const repository = join(folder.path, 'folder');
  for (const file of readdirSync(repository)) {
    server.files.set(`/me/tiny/resolve/main/${file}`, readFileSync(join(repository, file)));
  }
  const { code, stderr } = await hartonomous(['ingest', 'me/tiny', '--source', 'hf'], {
    url: database.url,
    env: { HF_ENDPOINT: server.url, HARTONOMOUS_MODELS: join(folder.path, 'cache'), HF_TOKEN: '' },
  });
  expect(code, stderr).toBe(0);
  const pulled = stderr.split('\n').filter((line) => line.startsWith('pulling'));
  const files = readdirSync(join(folder.path, 'cache/hf/me/tiny'));
  expect(pulled.length).toBeGreaterThanOrEqual(files.length);
  for (const line of pulled) expect(line).toMatch(new RegExp(`^pulling: ${BYTES} of ${BYTES}`));
});

test('the digest of a download of several parts is told of', async () => {
  const bytes = readFileSync(MODEL);
  server.files.set('/long', bytes);
  const checked: number[] = [];
  const path = join(folder.path, 'long');
  await download(`${server.url}/long`, path, { partBytes: 1 << 16, onCheck: (done) => checked.push(done) });
  expect(checked.at(-1)).toBe(bytes.length);
});
