/**
 * Token ids of all-MiniLM-L6-v2 for texts of many scripts against its own tokenizer (make-minilm-tokens.py). Where the
 * Python package cannot be fetched, CI fails and others are told.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readTokenizerJson } from '../../cli/sources/hugging-face/tokenizer-json.ts';
import type { Json } from '../../cli/sources/hugging-face/json-files.ts';
import { createTokenizer } from '../../plv8/src/tokenizer/tokenizer.ts';
import { minilmFolder } from './minilm-file.ts';

const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
const golden = read('minilm-tokens.json') as { texts: { text: string; ids: number[] }[] };
const { sha256 } = read('minilm.json') as { sha256: string };

function fetched(): string | null {
  try {
    return minilmFolder(sha256);
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`skipped all-MiniLM-L6-v2: it cannot be fetched (${String(error).split('\n')[0]})`);
    return null;
  }
}

const folder = fetched();

test.skipIf(folder === null)('ids of texts of many scripts are those of the model’s own tokenizer', () => {
  const file = JSON.parse(readFileSync(join(folder!, 'tokenizer.json'), 'utf8')) as Json;
  const vocabulary = readTokenizerJson(file, 0);
  const tokenizer = createTokenizer({
    model: vocabulary.model,
    pre: vocabulary.pre,
    tokens: vocabulary.tokens,
    types: vocabulary.types,
    scores: null,
    merges: null,
    settings: { ...vocabulary.settings },
  });
  const differing = golden.texts
    .map(({ text, ids }) => ({ text, ids, ours: tokenizer.encode(text, { addSpecial: true, parseSpecial: false }) }))
    .filter(({ ids, ours }) => ids.join() !== ours.join());
  expect(differing).toEqual([]);
});
