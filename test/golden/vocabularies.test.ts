/** Full vocabularies against llama.cpp. They are fetched once; where they cannot be, CI fails and others are told. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fetchVocabularies } from './fetch-vocabularies.mjs';
import { createTokenizer } from '../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from './gguf-vocabulary.ts';
import { checkTokenizerGolden } from './tokenizer-golden.ts';

const NAMES = ['llama-spm', 'qwen2', 'llama-bpe', 'gpt-2', 'bert-bge'];

function vocabularies(): string | null {
  try {
    return fetchVocabularies();
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    console.warn(`skipped ${NAMES.length} tokenizer goldens: vocabularies cannot be fetched (${reason})`);
    return null;
  }
}

const folder = vocabularies();

describe('full vocabularies', () => {
  it.skipIf(folder === null).each(NAMES)('%s gives the ids and texts of llama.cpp', (name) => {
    const golden = new URL(`models/goldens/tokenizer-${name}.json`, import.meta.url).pathname;
    expect(checkTokenizerGolden(join(folder!, `ggml-vocab-${name}.gguf`), golden)).toBeGreaterThan(200);
  });

  // llama.cpp's own test inputs and the ids that each model's original tokenizer gave for them.
  it.skipIf(folder === null).each(['deepseek-llm', 'deepseek-coder'])('%s gives the ids of its original', (name) => {
    const file = join(folder!, `ggml-vocab-${name}.gguf`);
    const tokenizer = createTokenizer(readGgufVocabulary(file));
    const texts = readFileSync(`${file}.inp`, 'utf8').split('\n__ggml_vocab_test__\n');
    const expected = readFileSync(`${file}.out`, 'utf8').split('\n');
    const ids = texts.map((text) => tokenizer.encode(text, { addSpecial: false, parseSpecial: false }).join(' '));
    expect(texts.length).toBeGreaterThan(40);
    expect(ids).toEqual(texts.map((_, i) => expected[i]!.trim()));
  });
});
