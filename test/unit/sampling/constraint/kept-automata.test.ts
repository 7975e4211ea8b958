/** Compiled grammars that are kept: whose they are, how many, and what they may take. */
import { describe, expect, it } from 'vitest';
import { USUAL_ROOM } from '../../../../plv8/src/sampling/constraint/automaton.ts';
import { Constraint } from '../../../../plv8/src/sampling/constraint/constraint.ts';
import { OutOfRoom } from '../../../../plv8/src/sampling/constraint/expression.ts';
import type { Grammar } from '../../../../plv8/src/sampling/constraint/grammar.ts';
import { KeptAutomata } from '../../../../plv8/src/sampling/constraint/kept-automata.ts';
import { createTokenizer } from '../../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../../golden/gguf-vocabulary.ts';
import { goldenPath } from '../../golden-model.ts';

const tokenizer = createTokenizer(readGgufVocabulary(goldenPath('zoo', 'qwen2-tiny-f32.gguf')));
const poll = (): undefined => undefined;
const regex = (pattern: string): Grammar => ({ kind: 'regex', pattern });

describe('compiled grammars', () => {
  it('are found again by their owner alone, the latest of them', () => {
    const kept = new KeptAutomata(2);
    const find = (owner: string, pattern: string): unknown => kept.find(tokenizer, owner, regex(pattern), poll);
    const first = find('anna', 'a+');
    expect(find('anna', 'a+')).toBe(first);
    const other = find('ben', 'a+');
    expect(other).not.toBe(first);
    expect(find('anna', 'a+')).toBe(first);
    find('anna', 'b');
    expect(find('anna', 'a+')).toBe(first);
    expect(find('ben', 'a+')).not.toBe(other);
  });

  it('are forgotten where all take too much, the least recently used first, and none that is in use', () => {
    const kept = new KeptAutomata(8);
    const patterns = ['a{9}', 'b{9}', 'c{9}', 'd{9}'];
    const made = patterns.map((pattern) => kept.find(tokenizer, '', regex(pattern), poll));
    const bytes = made.map((automaton) => automaton.bytes);
    expect(Math.min(...bytes)).toBeGreaterThan(0);
    kept.trim([tokenizer], new Set([made[0]!]), bytes[0]! + bytes[3]!);
    const after = patterns.map((pattern) => kept.find(tokenizer, '', regex(pattern), poll));
    expect(after.map((automaton, i) => automaton === made[i])).toEqual([true, false, false, true]);
  });

  it.each<[string, object, Grammar, string]>([
    ['states', { states: 50 }, { kind: 'json_object' }, ''],
    ['states, as it is written', { states: 200 }, regex('[ab]*a[ab]{30}c'), 'aaaaaaaaaaaaaaaaaaaa'],
    ['remembered derivatives', { derivatives: 20 }, regex('[ab]*a[ab]{30}c'), 'aaaaaaaaaaaaaaaaaaaa'],
    ['bytes of shortest texts', { textBytes: 100 }, regex('x{200}'), ''],
    ['bytes of one shortest text', { shortestBytes: 100 }, regex('x{200}'), ''],
  ])('take no more than there is room for: %s', (_, room, grammar, text) => {
    const write = (kept: KeptAutomata): void => {
      const constraint = new Constraint(tokenizer, grammar, 2000, poll, { kept });
      for (const id of tokenizer.encode(text, { addSpecial: false, parseSpecial: false })) {
        constraint.allowed(1000);
        constraint.advance(id);
      }
    };
    write(new KeptAutomata());
    expect(() => write(new KeptAutomata(1, { ...USUAL_ROOM, ...room }))).toThrow(OutOfRoom);
  });

  it('allow the same tokens with small tables', () => {
    const grammar: Grammar = { kind: 'json_object' };
    const small = new KeptAutomata(1, { ...USUAL_ROOM, maskBytes: 1, tableStates: 64 });
    const [one, other] = [{}, { kept: small }].map((keeping) => new Constraint(tokenizer, grammar, 500, poll, keeping));
    const ids = tokenizer.encode('{"a": [1, {"b": null}, "xyz"]', { addSpecial: false, parseSpecial: false });
    ids.forEach((id, i) => {
      expect(other!.allowed(400 - i)).toEqual(one!.allowed(400 - i));
      one!.advance(id);
      other!.advance(id);
    });
  });
});
