/** What goes out of an answer, token by token: stop strings and characters lie across any tokens. */
import { describe, expect, it } from 'vitest';
import type { ContinuationInput } from '../../../plv8/src/sampling/continuation.ts';
import { Continuation } from '../../../plv8/src/sampling/continuation.ts';
import { parseOptions } from '../../../plv8/src/sampling/options.ts';
import { Random } from '../../../plv8/src/sampling/random.ts';
import type { Tokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { createTokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../golden/gguf-vocabulary.ts';
import { goldenPath } from '../golden-model.ts';

const TOKENIZERS = ['qwen2-tiny-f32', 'llama-untied-gqa-f32'].map((name) =>
  createTokenizer(readGgufVocabulary(goldenPath('zoo', `${name}.gguf`))),
);
const END = -1; // stands for the vocabulary's own end

interface Written {
  pieces: string[];
  reason: string | null;
  history: number[];
}

/** Feed chosen ids: logits that leave nothing else, at temperature 0. Who is told the tokens has the same steps. */
function write(tokenizer: Tokenizer, ids: readonly number[], options: Record<string, unknown>): Written {
  const input: ContinuationInput = {
    tokenizer,
    options: parseOptions({ temperature: 0, repeat_penalty: 1, num_predict: ids.length, ...options }),
    vocabSize: tokenizer.vocabSize,
    promptIds: [0],
    context: 10_000,
    logprobs: false,
    thinking: null,
    poll: () => undefined,
  };
  const continuation = new Continuation(input);
  const pieces: string[] = [];
  for (const id of ids) {
    if (continuation.doneReason !== null) break;
    const logits = new Float32Array(tokenizer.vocabSize);
    logits[id === END ? [...tokenizer.endOfGeneration][0]! : id] = 9;
    pieces.push(continuation.next(logits).text);
  }
  expect(pieces.join('')).toBe(continuation.text);
  const told = new Continuation(input);
  const steps = told.replay(continuation.tokens);
  if (continuation.ended !== null) steps.push(told.endAt(continuation.ended));
  expect(steps.map(({ text }) => text)).toEqual(pieces);
  expect([told.doneReason, told.ended]).toEqual([continuation.doneReason, continuation.ended]);
  return { pieces, reason: continuation.doneReason, history: continuation.history };
}

/** Bytes of the ids as text, ill-formed ones as U+FFFD, as the web's decoder has it. */
function decoded(tokenizer: Tokenizer, ids: readonly number[]): string {
  return Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id)))
    .toString('utf8')
    .replaceAll('\0', '\uFFFD');
}

const pick = (random: Random, n: number): number => Math.floor(random.next() * n);

/** Tokens that stand for text, single bytes among them. */
function textTokens(tokenizer: Tokenizer): number[] {
  return Array.from({ length: tokenizer.vocabSize }, (_, id) => id).filter(
    (id) => !tokenizer.isControl(id) && !tokenizer.isEndOfGeneration(id) && tokenizer.tokenBytes(id).length > 0,
  );
}

describe.each(TOKENIZERS.map((tokenizer, i) => [['byte-level BPE', 'SentencePiece'][i]!, tokenizer] as const))(
  'an answer of %s',
  (_, tokenizer) => {
    const tokens = textTokens(tokenizer);

    it('of any tokens goes out as whole characters, 2000 of them', () => {
      const random = new Random(1);
      for (let n = 0; n < 2000; n++) {
        const ids = Array.from({ length: 1 + pick(random, 12) }, () => tokens[pick(random, tokens.length)]!);
        expect(write(tokenizer, ids, {}).pieces.join('')).toBe(decoded(tokenizer, ids));
      }
    });

    it('of well-formed text never shows half a character', () => {
      const random = new Random(2);
      const characters = ['a', 'é', '☔', '🎈', ' ', '日', '\n', 'ß'];
      for (let n = 0; n < 500; n++) {
        const text = Array.from({ length: 8 }, () => characters[pick(random, characters.length)]).join('');
        // The text's own bytes, one token each: the worst cut there is.
        const ids = [...Buffer.from(text)].map((byte) =>
          tokens.find((id) => {
            const bytes = tokenizer.tokenBytes(id);
            return bytes.length === 1 && bytes[0] === byte;
          })!,
        );
        if (ids.includes(undefined as unknown as number)) continue;
        const { pieces } = write(tokenizer, ids, {});
        expect(pieces.join('')).toBe(text);
        for (const piece of pieces) expect(piece).not.toContain('\uFFFD');
      }
    });

    it('ends before the first stop string, wherever the tokens are cut', () => {
      const random = new Random(3);
      for (let n = 0; n < 1000; n++) {
        const ids = Array.from({ length: 12 }, () => tokens[pick(random, tokens.length)]!);
        const whole = decoded(tokenizer, ids);
        const from = pick(random, whole.length);
        const stops = [whole.slice(from, from + 1 + pick(random, 5)), 'never in it'].filter((stop) => stop !== '');
        if (stops.some((stop) => /[\uD800-\uDFFF\uFFFD]/.test(stop))) continue;
        const { pieces, reason } = write(tokenizer, ids, { stop: stops });
        const at = whole.indexOf(stops[0]!);
        expect(pieces.join('')).toBe(whole.slice(0, at));
        expect(reason).toBe('stop');
      }
    });

    it('gives out what was held back when no stop string came of it', () => {
      const ids = tokenizer.encode('one two', { addSpecial: false, parseSpecial: false });
      const whole = decoded(tokenizer, ids);
      const { pieces, reason } = write(tokenizer, [...ids, END], { stop: 'two three', num_predict: 100 });
      expect(pieces.join('')).toBe(whole);
      expect(reason).toBe('stop');
      expect(pieces[pieces.length - 1]).toContain('two');
    });
  },
);
