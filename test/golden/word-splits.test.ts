/** Words of byte-level vocabularies against Hugging Face's tokenizers (make-word-splits.py). */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { splitWords, wordRules } from '../../plv8/src/tokenizer/word-splitter.ts';

interface Golden {
  texts: string[];
  words: Record<string, number[][]>;
}

const golden = JSON.parse(readFileSync(new URL('word-splits.json', import.meta.url), 'utf8')) as Golden;

test.each(Object.keys(golden.words))('%s splits texts into the words of its own tokenizer', (name) => {
  const rules = wordRules(name);
  const differing = golden.texts.flatMap((text, i) => {
    let start = 0;
    const lengths = splitWords(rules, text).map((end) => {
      const length = Array.from(text.slice(start, end)).length;
      start = end;
      return length;
    });
    const expected = golden.words[name]![i]!;
    return lengths.filter(Boolean).join() === expected.join() ? [] : [{ text, lengths, expected }];
  });
  expect(differing).toEqual([]);
});
