/** The sets of allowed tokens, which trees and states that stand for many others give, against trying every token. */
import { expect, test } from 'vitest';
import type { Grammar } from '../../../../plv8/src/sampling/constraint/grammar.ts';
import { Constraint } from '../../../../plv8/src/sampling/constraint/constraint.ts';
import { createTokenizer } from '../../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../../golden/gguf-vocabulary.ts';
import { goldenPath } from '../../golden-model.ts';

const BUDGET = 500;
const STEPS = 12;
const poll = (): undefined => undefined;

/** With tokens of every length up to 40, of several characters, some of them twice. */
const tokenizer = (() => {
  const vocabulary = readGgufVocabulary(goldenPath('zoo', 'qwen2-tiny-f32.gguf'));
  const more = Array.from(
    { length: 120 },
    (_, i) => `${'ab"'[i % 3]}${'aé'[i % 2]!.repeat(i % 40)}${i % 5 === 0 ? '"' : ''}`,
  );
  const byteText = (text: string): string => text.replaceAll('é', 'Ã©'); // as byte-level vocabularies write it
  const tokens = [...vocabulary.tokens, ...more.map(byteText)];
  const types = tokens.map((_, id) => vocabulary.types[id] ?? 1);
  return createTokenizer({ ...vocabulary, tokens, types });
})();

function after(grammar: Grammar, tokens: readonly number[]): Constraint {
  const constraint = new Constraint(tokenizer, grammar, BUDGET, poll);
  for (const token of tokens) constraint.advance(token);
  return constraint;
}

function isPossible(grammar: Grammar, tokens: readonly number[], next: number): boolean {
  try {
    after(grammar, [...tokens, next]);
    return true;
  } catch {
    return false;
  }
}

const schema = (of: unknown): Grammar => ({ kind: 'json_schema', schema: of });

test.each<[string, Grammar]>([
  ['a short text', schema({ type: 'string', maxLength: 25 })],
  ['a long text', schema({ type: 'string', minLength: 100 })],
  ['a text between bounds', schema({ type: 'string', minLength: 12, maxLength: 30 })],
  ['a list of texts', schema({ type: 'array', items: { type: 'string', minLength: 1, maxLength: 3 }, minItems: 30 })],
  ['a pattern', { kind: 'regex', pattern: '(a{3,20}|b[aé]{10,}"){2,9}' }],
])('of %s are all those that can go on', (_, grammar) => {
  const written: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const bits = after(grammar, written).allowed(BUDGET);
    const ending = new Set(tokenizer.endOfGeneration);
    const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id).filter(
      (id) => !ending.has(id) && tokenizer.tokenBytes(id).length > 0,
    );
    const allowed = ids.filter((id) => ((bits[id >> 5]! >>> (id & 31)) & 1) === 1);
    expect(allowed, `after ${JSON.stringify(written)}`).toEqual(ids.filter((id) => isPossible(grammar, written, id)));
    if (allowed.length === 0) break;
    written.push(allowed[(step * 7919) % allowed.length]!);
  }
});
