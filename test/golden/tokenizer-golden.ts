import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { createTokenizer } from '../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from './gguf-vocabulary.ts';

interface Case {
  text: string;
  ids: number[];
  detokenized?: string;
}

interface TokenizerGolden {
  bos: number | null;
  eos: number | null;
  sep: number | null;
  tokenizer_model: string;
  add_bos: boolean;
  add_eos: boolean;
  upstream_cases: Case[];
  cases: Case[];
  special_cases: Case[];
}

/** Where llama.cpp cuts a text for BERT otherwise than sentence-transformers, which is the reference there: it strips every mark. */
const OTHER_MARKS = /[\p{Mc}\p{Me}\u1100-\u11ff\v\f\x85]/u;

/** Compare every case of a golden with the vocabulary in `file`; how many cases there were. */
export function checkTokenizerGolden(file: string, goldenFile: string): number {
  const golden = JSON.parse(readFileSync(goldenFile, 'utf8')) as TokenizerGolden;
  const tokenizer = createTokenizer(readGgufVocabulary(file));
  expect([tokenizer.bosId, tokenizer.eosId]).toEqual([golden.bos, golden.eos]);
  expect([tokenizer.addBos, tokenizer.addEos]).toEqual([golden.add_bos, golden.add_eos]);
  const bos = golden.add_bos ? [golden.bos] : [];
  // A text of an encoder ends with the separator, whatever is said of EOS.
  const eos = golden.tokenizer_model === 'bert' ? [golden.sep] : golden.add_eos ? [golden.eos] : [];
  const check = (cases: Case[], parseSpecial: boolean, decoded: boolean): void => {
    for (const { text, ids, detokenized } of cases) {
      if (golden.tokenizer_model === 'bert' && OTHER_MARKS.test(text.normalize('NFD'))) continue;
      const label = JSON.stringify(text.slice(0, 60));
      expect(tokenizer.encode(text, { addSpecial: false, parseSpecial }), label).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecial: true, parseSpecial }), label).toEqual([...bos, ...ids, ...eos]);
      if (decoded) expect(tokenizer.decode(ids, { special: parseSpecial }), label).toBe(detokenized ?? text);
    }
  };
  check(golden.upstream_cases, false, false);
  check(golden.cases, false, true);
  check(golden.special_cases, true, true);
  return golden.upstream_cases.length + golden.cases.length + golden.special_cases.length;
}
