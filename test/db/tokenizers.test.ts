/** Token ids through SQL where vocabularies ask for Unicode's own rules: normal forms, categories, words of each family. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { writeHuggingFaceFolder } from '../unit/hugging-face-writer.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');
const folder = new FileFolder();
let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, QWEN, 'qwen');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
});
afterAll(async () => {
  await database.drop();
  folder.remove();
});

/** Token ids of each text. */
async function tokenize(texts: readonly string[], model: string): Promise<number[][]> {
  const { rows } = await database.pool.query<{ ids: number[] }>(
    'select hartonomous.tokenize(text, $2) as ids from unnest($1::text[]) with ordinality as given (text, n) order by n',
    [texts, model],
  );
  return rows.map(({ ids }) => ids);
}

test('a vocabulary that asks for NFC gets it, and none that does not', async () => {
  const path = join(folder.path, 'qwen-nfc');
  writeHuggingFaceFolder(QWEN, path);
  const file = join(path, 'tokenizer.json');
  const written = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...written, normalizer: { type: 'NFC' } }));
  await ingestFile(database.url, path, 'qwen-nfc');
  const composed = ['caf\u00e9', '\ud55c\uad6d', '\u1e69', '\u212b'.normalize('NFC')];
  const decomposed = ['cafe\u0301', '\u1112\u1161\u11ab\u1100\u116e\u11a8', 's\u0307\u0323', '\u212b'];
  expect(await tokenize(decomposed, 'qwen-nfc')).toEqual(await tokenize(composed, 'qwen-nfc'));
  expect(await tokenize(composed, 'qwen-nfc')).toEqual(await tokenize(composed, 'qwen'));
  const plain = await tokenize(decomposed, 'qwen');
  (await tokenize(composed, 'qwen')).forEach((ids, i) => expect(plain[i]).not.toEqual(ids));
});

test('BERT takes off marks without a width, and what has no letter there is an unknown word', async () => {
  const [plain, unknown] = await tokenize(['cat', '\u{1f600}'], 'bert');
  expect(await tokenize(['c\u0301at', 'CA\u0308T', 'cat\u0300\u0323', '\u200bcat'], 'bert')).toEqual(
    new Array(4).fill(plain),
  );
  // A mark with a width (Mc) stays part of its word; letters of Hangul are none that the vocabulary has.
  expect(await tokenize(['cat\u0903', '\ud55c\uad6d'], 'bert')).toEqual([unknown, unknown]);
});

test("letters are those of the project's Unicode, not of the V8 that runs", async () => {
  const path = join(folder.path, 'bert-letters');
  writeHuggingFaceFolder(modelPath('zoo/bert-tiny-f32.gguf'), path, { separateVocabulary: true });
  const file = join(path, 'vocab.txt');
  // Letters since Unicode 16: U+1C8A, and U+1C89, its capital.
  writeFileSync(file, readFileSync(file, 'utf8').replace(/.+\n$/, '\u1c8a\n'));
  await ingestFile(database.url, path, 'bert-letters');
  const [ids] = await tokenize(['\u1c89'], 'bert-letters');
  expect(ids).toEqual([511]);
});

/** Tokens of `x's aB12` that go over the border of a word somewhere. */
const JOINED = ["x'", "'s", 'aB', '12'];

test.each([
  ['qwen2', ["'s", 'aB']],
  ['gpt-4o', ["x'", '12']],
  ['tekken', ["'s"]],
  ['deepseek-llm', ['aB', '12']],
  ['deepseek-coder', ['aB']],
])('words of %s end where its makers end them', async (pre, joined) => {
  const path = join(folder.path, `words-${pre}`);
  writeHuggingFaceFolder(QWEN, path);
  const file = join(path, 'tokenizer.json');
  const written = JSON.parse(readFileSync(file, 'utf8')) as {
    model: { vocab: Record<string, number>; merges: string[] };
  };
  const { vocab, merges } = written.model;
  // In the place of the last tokens that are merged, before all others.
  const last = merges.splice(-JOINED.length).map((merge) => merge.replace(' ', ''));
  last.forEach((token, i) => {
    vocab[JOINED[i]!] = vocab[token]!;
    delete vocab[token];
  });
  merges.unshift(...JOINED.map((token) => [...token].join(' ')));
  writeFileSync(file, JSON.stringify(written));
  await ingestFile(database.url, path, pre);
  await database.pool.query(
    `update hartonomous.models set tokenizer = tokenizer || jsonb_build_object('tokenizer.ggml.pre', $1::text) where name = $1`,
    [pre],
  );
  const [ids] = await tokenize(["x's aB12"], pre);
  const { rows } = await database.pool.query<{ token: string }>(
    'select hartonomous.detokenize(array[id], $2) as token from unnest($1::int[]) as id',
    [ids, pre],
  );
  const found = rows.map(({ token }) => token);
  expect(found.join('')).toBe("x's aB12");
  expect(found.filter((token) => JOINED.includes(token))).toEqual(joined);
});
