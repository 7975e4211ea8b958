/**
 * Files whose metadata was once passed over without a word, key by key, through SQL: the logits are llama.cpp's, or those of a
 * float64 pass where llama.cpp is not followed (make-metadata-cases.py).
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { cosine, decodeFloats, maxDifference } from './agreement.ts';
import { modelPath } from './model-files.ts';
import type { MoreKeys } from './zoo-file.ts';
import { zooFile } from './zoo-file.ts';
import { zooPrompt } from './zoo-prompt.ts';

interface Case {
  file: string;
  /** In place of the file's own; null takes one away. */
  keys: MoreKeys;
  /** Every eighth logit after so many tokens, from the remainder on. */
  items: { tokens: number; best: number; values: string }[];
}

const golden = JSON.parse(readFileSync(modelPath('goldens/metadata-cases.json'), 'utf8')) as Record<string, Case>;
const TOLERANCE = 1e-3;

const folder = new FileFolder();
let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(async () => {
  await database?.drop();
  folder.remove();
});

async function logits(model: string, tokens: number): Promise<number[]> {
  const { rows } = await database.pool.query<{ logits: number[] }>(
    `select hartonomous.logits($1, $2, '{"precision": "f32"}') as logits`,
    [zooPrompt(tokens), model],
  );
  return rows[0]!.logits;
}

test.each(Object.entries(golden))('%s', async (name, { file, keys, items }) => {
  await ingestFile(database.url, folder.write(zooFile(file, keys)), name);
  for (const { tokens, best, values } of items) {
    const found = await logits(name, tokens);
    const kept = found.filter((_, i) => i % 8 === tokens % 8);
    expect(maxDifference(kept, decodeFloats(values)), `${tokens} tokens`).toBeLessThanOrEqual(TOLERANCE);
    expect(cosine(kept, decodeFloats(values))).toBeGreaterThan(0.9999);
    expect(found.indexOf(Math.max(...found))).toBe(best);
  }
  // And not those of the file without these keys.
  await ingestFile(database.url, modelPath(`zoo/${file}.gguf`), file);
  const { tokens, values } = items[2]!;
  const plain = (await logits(file, tokens)).filter((_, i) => i % 8 === tokens % 8);
  expect(maxDifference(plain, decodeFloats(values))).toBeGreaterThan(10 * TOLERANCE);
});

test('attention in both directions embeds and writes nothing', async () => {
  const file = 'llama-untied-gqa-f32';
  await ingestFile(database.url, folder.write(zooFile(file, { 'attention.causal': false })), 'both');
  await expect(logits('both', 5)).rejects.toThrow('a model of architecture llama reads text and writes none');
  // metadata-keys.test.ts has llama.cpp's numbers. In one direction the first token sees itself only.
  const first = async (model: string, text: string): Promise<unknown> => {
    const { rows } = await database.pool.query<{ first: number[] }>(
      `select hartonomous.embed($1, $2, '{"pooling": "cls"}') as first`,
      [text, model],
    );
    return rows[0]!.first;
  };
  expect(await first('both', 'a cat')).not.toEqual(await first('both', 'a cat and a dog'));
  await ingestFile(database.url, modelPath(`zoo/${file}.gguf`), file);
  expect(await first(file, 'a cat')).toEqual(await first(file, 'a cat and a dog'));
});
