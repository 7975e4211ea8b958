/**
 * Tokenizers on random Unicode texts against llama.cpp in the same run: TOKENIZER_TEXTS texts a vocabulary, 100 by default
 * and 5,000 for the long form. Where llama.cpp or the vocabularies cannot be fetched, CI fails and others are told.
 */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { installPeers } from '../../bench/llama.ts';
import { fetchVocabularies } from './fetch-vocabularies.mjs';
import { modelPath } from './model-files.ts';
import { tokenizerDifferences } from './random-texts.ts';

const TEXTS = Number(process.env.TOKENIZER_TEXTS ?? 100);
/** Not BERT's: it is to be what sentence-transformers has (minilm-tokens.test.ts), from which llama.cpp differs. */
const NAMES = ['qwen2', 'llama-bpe', 'gpt-2', 'llama-spm', 'phi-3', 'nomic-bert-moe', 'deepseek-llm', 'deepseek-coder'];
/** Byte-level ways of splitting words that no architecture here needs, compared in the long form. */
const OTHERS = ['starcoder', 'falcon', 'refact', 'command-r', 'mpt'];
const ZOO = ['gemma3-tiny-f32', 'llama32-ropefreqs-f32'];

function vocabularies(): string | null {
  try {
    installPeers();
    return fetchVocabularies();
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`skipped random texts: llama.cpp cannot be fetched (${String(error).split('\n')[0]})`);
    return null;
  }
}

const folder = vocabularies();
const FILES = [
  ...(TEXTS > 100 ? [...NAMES, ...OTHERS] : NAMES).map((name) => [name, join(folder ?? '', `ggml-vocab-${name}.gguf`)]),
  ...ZOO.map((name) => [name, modelPath(`zoo/${name}.gguf`)]),
] as [string, string][];

it.skipIf(folder === null).each(FILES)(
  `%s gives the ids and texts of llama.cpp for ${TEXTS} random texts`,
  (_name, file) => {
    expect(tokenizerDifferences(file, TEXTS)).toEqual([]);
  },
);
