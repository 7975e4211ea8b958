import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportModel } from '../../cli/ingest/export.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { writeQwenFolder } from '../unit/hugging-face-writer.ts';
import { createDatabase } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const STORIES = dirname(modelPath('tinystories-656k/model.safetensors'));
const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');
const TEXTS = ['Once upon a time, there was a', ' two  spaces', 'It\'s 1234 "quoted"\n\nlines', 'a', ''];

const folder = new FileFolder();
let database: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await ingest(client, join(STORIES, 'tinystories-656k-f32.gguf'), { name: 'stories-gguf' });
  await ingest(client, STORIES, { name: 'stories-hf' });
  await ingest(client, QWEN, { name: 'qwen-gguf' });
});
afterAll(async () => {
  await client.end();
  await database.drop();
  folder.remove();
});

async function sameTexts(one: string, other: string): Promise<void> {
  for (const text of TEXTS) {
    const { rows } = await client.query('select hartonomous.tokenize($1, $2) as a, hartonomous.tokenize($1, $3) as b', [
      text,
      one,
      other,
    ]);
    expect(rows[0].b, text).toEqual(rows[0].a);
  }
}

async function logits(model: string, ids: number[]): Promise<number[]> {
  const { rows } = await client.query<{ logits: number[] }>('select hartonomous.logits($1, $2) as logits', [
    ids,
    model,
  ]);
  return rows[0]!.logits;
}

function expectClose(found: number[], expected: number[]): void {
  const scale = Math.max(...expected.map(Math.abs));
  expect(found).toHaveLength(expected.length);
  expect(Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) / scale).toBeLessThan(1e-4);
}

test('a llama gives the same ids and logits from SafeTensors as from GGUF, though its rows are not permuted', async () => {
  await sameTexts('stories-gguf', 'stories-hf');
  const ids = [1, 147, 300, 45, 812, 90, 7, 1200];
  expectClose(await logits('stories-hf', ids), await logits('stories-gguf', ids));
  expect((await verify(client, 'stories-hf')).differences).toEqual([]);
});

test('its tensors are stored as they are in the file, those that GGUF does not permute only once', async () => {
  const { rows } = await client.query<{ shared: number }>(
    `select count(*)::int as shared from hartonomous.weight_matrices a join hartonomous.weight_matrices b using (name)
     join hartonomous.models m on m.id = a.model_id and m.name = 'stories-hf'
     join hartonomous.models n on n.id = b.model_id and n.name = 'stories-gguf'
     where a.atom_id = b.atom_id`,
  );
  expect(rows[0]!.shared).toBe(2 + 2 * 7);
});

test.each([
  ['one file and tokenizer.json', 1, true],
  ['three files and an index', 3, true],
  ['vocab.json and merges.txt', 1, false],
])('a qwen2 of %s is the model of the GGUF file', async (title, shards, withTokenizerJson) => {
  const path = join(folder.path, title.replaceAll(' ', '-'));
  writeQwenFolder(QWEN, path, shards, withTokenizerJson);
  const result = await ingest(client, path);
  expect(result.sentBytes).toBe(0);
  await sameTexts('qwen-gguf', result.name);
  expect(await logits(result.name, [5, 6, 7, 100])).toEqual(await logits('qwen-gguf', [5, 6, 7, 100]));
  const { rows } = await client.query(
    'select source_format, default_options, chat_template from hartonomous.models where name = $1',
    [result.name],
  );
  expect(rows[0]).toEqual({
    source_format: 'safetensors',
    default_options: { temperature: 0.5, top_k: 7, repeat_penalty: 1.5 },
    chat_template: '{{ messages }}',
  });
  const out = join(folder.path, `out-${shards}-${withTokenizerJson}`);
  await exportModel(client, result.name, out);
  expect(readdirSync(out)).toEqual(readdirSync(path));
  for (const name of readdirSync(path))
    expect(readFileSync(join(out, name)).equals(readFileSync(join(path, name)))).toBe(true);
  expect((await verify(client, result.name)).differences).toEqual([]);
  expect((await ingest(client, path)).alreadyThere).toBe(true);
});

test('one SafeTensors file stands for its folder', async () => {
  expect(await ingest(client, join(STORIES, 'model.safetensors'), { name: 'stories-hf' })).toMatchObject({
    alreadyThere: true,
  });
});

test('what is stored stays consistent', async () => {
  expect((await client.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
});
