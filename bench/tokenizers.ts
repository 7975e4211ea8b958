/**
 * Speed of the tokenizers on ordinary and hostile megabytes, outside of PostgreSQL: npx tsx bench/tokenizers.ts
 * That they give llama.cpp's ids is tested by test/golden/random-texts.test.ts.
 */
import { join } from 'node:path';
import { createTokenizer } from '../plv8/src/tokenizer/tokenizer.ts';
import { fetchVocabularies } from '../test/golden/fetch-vocabularies.mjs';
import { readGgufVocabulary } from '../test/golden/gguf-vocabulary.ts';

const NAMES = ['qwen2', 'llama-bpe', 'gpt-2', 'llama-spm', 'bert-bge', 'nomic-bert-moe'];
const MEGABYTE = 1 << 20;

const folder = fetchVocabularies();
for (const name of NAMES) {
  const tokenizer = createTokenizer(readGgufVocabulary(join(folder, `ggml-vocab-${name}.gguf`)));
  const times = ['the quick brown fox, 1984. ', 'a', ' ', '\n', '漢'].map((unit) => {
    const text = unit.repeat(MEGABYTE / unit.length);
    const started = performance.now();
    tokenizer.encode(text, { addSpecial: false, parseSpecial: true });
    return `${JSON.stringify(unit)} ${(performance.now() - started).toFixed(0)} ms`;
  });
  console.log(`${name}: a million characters of ${times.join(', ')}`);
}
