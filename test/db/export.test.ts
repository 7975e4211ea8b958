import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportModel } from '../../cli/ingest/export.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { headerOf, splitGguf } from '../unit/gguf-splitter.ts';
import { createDatabase } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const folder = new FileFolder();
let database: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await database.drop();
  folder.remove();
});

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const FILES = [
  'llama-260k/llama-260k-q8_0.gguf',
  'llama-260k/llama-260k-q4_0.gguf',
  'zoo/qwen2-tiny-f32.gguf',
  'zoo/llama-untied-gqa-f32.gguf',
  'quants/qwen2-tiny-bf16.gguf',
];

test.each(FILES)('%s comes back byte for byte', async (name) => {
  const bytes = readFileSync(modelPath(name));
  await ingest(client, modelPath(name), { name });
  const out = join(folder.path, 'out.gguf');
  const result = await exportModel(client, name, out, { force: true });
  expect(result).toMatchObject({ bytes: bytes.length, digest: sha256(bytes), files: [out] });
  expect(sha256(readFileSync(out))).toBe(sha256(bytes));
  expect(await verify(client, name)).toMatchObject({ files: 1, differences: [] });
});

test.each([
  ['bytes after the last tensor', (bytes: Buffer) => Buffer.concat([bytes, Buffer.from('what is this?')])],
  [
    'padding that is not zero',
    (bytes: Buffer) => {
      const out = Buffer.from(bytes);
      out[headerOf(bytes).dataOffset - 1] ^= 7;
      return out;
    },
  ],
  [
    'a NUL in a text',
    (bytes: Buffer) => {
      const out = Buffer.from(bytes);
      out[out.indexOf('general.name') + 'general.name'.length + 4 + 8 + 1] = 0;
      return out;
    },
  ],
])('%s comes back too', async (title, change) => {
  const bytes = change(readFileSync(modelPath('llama-260k/llama-260k-q8_0.gguf')));
  await ingest(client, folder.write(bytes), { name: title });
  const out = join(folder.path, 'odd.gguf');
  await exportModel(client, title, out, { force: true });
  expect(readFileSync(out).equals(bytes)).toBe(true);
});

test('a split model is one model, and comes back as its parts', async () => {
  const whole = readFileSync(modelPath('zoo/qwen2-tiny-f32.gguf'));
  const parts = splitGguf(whole, 3).map((bytes, i) => folder.write(bytes, `tiny-0000${i + 1}-of-00003.gguf`));
  const result = await ingest(client, parts[0]!);
  expect(result).toMatchObject({ name: 'tiny', sentBytes: 0 });
  expect((await verify(client, 'tiny')).differences).toEqual([]);
  const out = join(folder.path, 'parts');
  await exportModel(client, 'tiny', out);
  expect(readdirSync(out).sort()).toEqual(parts.map((part) => part.split('/').at(-1)));
  for (const part of parts)
    expect(readFileSync(join(out, part.split('/').at(-1)!)).equals(readFileSync(part))).toBe(true);
  const logits = await client.query(
    `select hartonomous.logits(array[1, 2, 3], 'tiny') = hartonomous.logits(array[1, 2, 3], 'zoo/qwen2-tiny-f32.gguf') as same`,
  );
  expect(logits.rows).toEqual([{ same: true }]);
});

test.each([
  ['a part that is missing', (names: string[]) => names.slice(0, 2), /part.*00003-of-00003|00003-of-00003/],
  ['parts in the wrong order', (names: string[]) => [names[1]!, names[0]!, names[2]!], /split.no/],
])('a split model with %s is refused', async (title, arrange, message) => {
  const whole = readFileSync(modelPath('zoo/qwen2-tiny-f32.gguf'));
  const name = title.replaceAll(' ', '-');
  const written = splitGguf(whole, 3).map((bytes, i) => folder.write(bytes, `part-${i}`));
  const parts = arrange(written).map((path, i) =>
    folder.write(readFileSync(path), `${name}-0000${i + 1}-of-00003.gguf`),
  );
  await expect(ingest(client, parts[0]!)).rejects.toThrow(message);
});

test('export does not write over a file unless told to, and leaves no part of one that is damaged', async () => {
  const name = 'llama-260k/llama-260k-q8_0.gguf';
  const out = join(folder.path, 'mine.gguf');
  writeFileSync(out, 'mine');
  await expect(exportModel(client, name, out)).rejects.toThrow(/mine.gguf exists/);
  expect(readFileSync(out, 'utf8')).toBe('mine');
  await client.query('begin');
  await client.query(`update hartonomous.source_files set frame = set_byte(frame, 4, 77)
    where model_id = (select id from hartonomous.models where name = '${name}')`);
  await expect(exportModel(client, name, out, { force: true })).rejects.toThrow(/SHA-256/);
  expect((await verify(client, name)).differences).toEqual([
    expect.stringMatching(/^file llama-260k-q8_0.gguf has SHA-256/),
  ]);
  await client.query('rollback');
  expect(readFileSync(out, 'utf8')).toBe('mine');
  expect(readdirSync(folder.path).filter((each) => each.includes('.part-'))).toEqual([]);
});

test('a model that is not there is named', async () => {
  await expect(exportModel(client, 'nobody', join(folder.path, 'x'))).rejects.toThrow(/model nobody does not exist/);
});
