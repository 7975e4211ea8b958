import { describe, expect, it } from 'vitest';
import type { SamplerOptions } from '../../../plv8/src/sampling/sampler.ts';
import { Sampler } from '../../../plv8/src/sampling/sampler.ts';
import { Random } from '../../../plv8/src/sampling/random.ts';

const DRAWS = 20_000;

const neutral = (changes: Partial<SamplerOptions>): SamplerOptions => ({
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repeatPenalty: 1,
  repeatLastN: 64,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  seed: 42,
  ...changes,
});

/** Logits whose probabilities are the given ones. */
const logitsOf = (probabilities: number[]): Float32Array => Float32Array.from(probabilities, (p) => Math.log(p));

const P = [0.05, 0.3, 0.1, 0.25, 0.02, 0.2, 0.08];

/** Probabilities after keeping the places in `kept`. */
const keep = (weights: number[], kept: number[]): number[] => {
  const sum = kept.reduce((total, i) => total + weights[i]!, 0);
  return weights.map((p, i) => (kept.includes(i) ? p / sum : 0));
};

describe('sampler', () => {
  it.each<[string, Partial<SamplerOptions>, number[]]>([
    ['no filter', {}, P],
    ['top_k 3', { topK: 3 }, keep(P, [1, 3, 5])],
    ['top_p 0.7', { topP: 0.7 }, keep(P, [1, 3, 5])],
    ['min_p 0.3', { minP: 0.3 }, keep(P, [1, 2, 3, 5])],
    // Entropy 1.70 nats: nearest to it are 0.2 (1.61), 0.25 (1.39), 0.3 (1.20), which together pass 0.7.
    ['typical_p 0.7', { typicalP: 0.7 }, keep(P, [1, 3, 5])],
    ['temperature 2', { temperature: 2 }, keep(P.map(Math.sqrt), [0, 1, 2, 3, 4, 5, 6])],
    [
      'logit_bias',
      { logitBias: new Map([[4, Math.log(10)]]) },
      keep(
        P.map((p, i) => (i === 4 ? p * 10 : p)),
        [0, 1, 2, 3, 4, 5, 6],
      ),
    ],
    [
      'presence_penalty',
      { presencePenalty: Math.log(2) },
      keep(
        P.map((p, i) => (i === 1 || i === 3 ? p / 2 : p)),
        [0, 1, 2, 3, 4, 5, 6],
      ),
    ],
    [
      'frequency_penalty',
      { frequencyPenalty: Math.log(2) },
      keep(
        P.map((p, i) => (i === 1 ? p / 4 : i === 3 ? p / 2 : p)),
        [0, 1, 2, 3, 4, 5, 6],
      ),
    ],
    [
      'repeat_penalty',
      { repeatPenalty: 2 },
      keep(
        P.map((p, i) => (i === 1 || i === 3 ? p * p : p)),
        [0, 1, 2, 3, 4, 5, 6],
      ),
    ],
    // llama.cpp's default chain: each of these comes out otherwise in another order.
    ['logit_bias before top_k', { logitBias: new Map([[4, Math.log(100)]]), topK: 1 }, keep(P, [4])],
    [
      'penalties before top_k',
      { frequencyPenalty: Math.log(2), topK: 2 },
      keep(
        P.map((p, i) => (i === 3 ? p / 2 : p)),
        [3, 5],
      ),
    ],
    ['top_k before top_p', { topK: 2, topP: 0.5 }, keep(P, [1])],
    ['typical_p before top_p', { typicalP: 0.4, topP: 0.5 }, keep(P, [3])],
    [
      'top_p and min_p before temperature',
      { topP: 0.9, minP: 0.5, temperature: 4 },
      keep(
        P.map((p) => p ** 0.25),
        [1, 3, 5],
      ),
    ],
  ])('draws as often as expected: %s', (_, changes, expected) => {
    const sampler = new Sampler(neutral(changes), P.length);
    const counts = P.map(() => 0);
    for (let i = 0; i < DRAWS; i++) counts[sampler.sample(logitsOf(P), [1, 3, 1]).id]!++;
    let chiSquare = 0;
    expected.forEach((p, i) => {
      if (p === 0) expect(counts[i], `token ${i} was cut`).toBe(0);
      else chiSquare += (counts[i]! - DRAWS * p) ** 2 / (DRAWS * p);
    });
    // 0.999 quantile of chi-square with 6 degrees of freedom; the seed is fixed, so this never flickers.
    expect(chiSquare).toBeLessThan(22.46);
  });

  it('takes the highest logit at temperature 0, the first among equals', () => {
    const sampler = new Sampler(neutral({ temperature: 0 }), 4);
    expect(sampler.sample(Float32Array.of(1, 5, 5, 0), []).id).toBe(1);
    const biased = new Sampler(neutral({ temperature: 0, logitBias: new Map([[3, 9]]) }), 4);
    expect(biased.sample(Float32Array.of(1, 5, 5, 0), []).id).toBe(3);
  });

  it('repeats its draws for a seed and differs for another', () => {
    const draw = (seed: number | bigint): number[] => {
      const sampler = new Sampler(neutral({ seed }), P.length);
      return Array.from({ length: 50 }, () => sampler.sample(logitsOf(P), []).id);
    };
    expect(draw(7)).toEqual(draw(7n));
    expect(draw(7)).not.toEqual(draw(8));
    expect(draw(-1)).toEqual(draw(2n ** 64n - 1n));
  });

  it('looks back repeat_last_n tokens', () => {
    const logits = Float32Array.of(2, 1.5);
    const pick = (repeatLastN: number, history: number[]): number =>
      new Sampler(neutral({ temperature: 0, repeatPenalty: 2, repeatLastN }), 2).sample(logits, history).id;
    expect(pick(1, [0])).toBe(1);
    expect(pick(1, [0, 1, 1])).toBe(0);
    expect(pick(0, [0])).toBe(0);
    expect(pick(-1, [0, 9, 9, 9])).toBe(1);
  });

  it('reports the log-probability of the unmodified distribution and leaves the logits alone', () => {
    const logits = logitsOf(P);
    const before = logits.slice();
    const { id, logprob } = new Sampler(neutral({ topK: 1, temperature: 5, repeatPenalty: 3 }), P.length).sample(
      logits,
      [0],
      { logprob: true },
    );
    expect(id).toBe(1);
    expect(logprob).toBeCloseTo(Math.log(0.3), 5);
    expect(logits).toEqual(before);
  });

  it('traces candidates from raw logit to final probability', () => {
    const sampler = new Sampler(neutral({ topK: 4, topP: 0.8, temperature: 0.5, repeatPenalty: 1.5 }), P.length);
    const sampled = sampler.sample(logitsOf(P), [5], { traceTop: 7 });
    const trace = new Map(sampled.trace!.map((candidate) => [candidate.id, candidate]));
    expect(trace.get(1)).toMatchObject({ cutBy: null });
    expect(trace.get(1)!.scaled).toBeCloseTo(Math.log(0.3) / 0.5, 5);
    expect(trace.get(5)!.penalised).toBeCloseTo(Math.log(0.2) * 1.5, 5);
    expect(trace.get(4)).toMatchObject({ cutBy: 'top_k', probability: 0, scaled: null });
    const cut = [...trace.values()].filter((candidate) => candidate.cutBy === 'top_p');
    expect(cut.length).toBeGreaterThan(0);
    expect([...trace.values()].reduce((sum, candidate) => sum + candidate.probability, 0)).toBeCloseTo(1, 9);
    expect(sampler.sample(logitsOf(P), [5]).trace).toBeUndefined();
  });

  it('selects the same candidates as a full sort', () => {
    const random = new Random(3);
    const logits = Float32Array.from({ length: 5000 }, () => Math.fround(random.next() * 20 - 10));
    const best = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, 40);
    for (const topK of [40, 0]) {
      const traced = new Sampler(neutral({ topK, topP: 0.01 }), logits.length).sample(logits, [], {
        traceTop: 40,
      }).trace!;
      expect(traced.find((candidate) => candidate.probability > 0)!.id).toBe(best[0]);
    }
    const sampler = new Sampler(neutral({ topK: 40 }), logits.length);
    expect(
      sampler
        .sample(logits, [], { traceTop: 40 })
        .trace!.slice(0, 40)
        .map((candidate) => candidate.id),
    ).toEqual(best);
  });

  it.each([
    [Float32Array.of(0, NaN, 1), 'logit of token 1 is not a number'],
    [Float32Array.of(-Infinity, -Infinity, -Infinity), 'highest logit is -Infinity, expected a finite number'],
  ])('refuses logits that mean nothing', (logits, message) => {
    for (const changes of [{}, { temperature: 0 }, { temperature: 0, logitBias: new Map([[2, 1]]) }])
      expect(() => new Sampler(neutral(changes), 3).sample(logits, [])).toThrow(message);
  });

  it('survives -Infinity for some tokens and extreme options', () => {
    const logits = Float32Array.of(-Infinity, 3, -Infinity);
    for (const changes of [{ typicalP: 0.1 }, { topP: 0 }, { minP: 1 }, { temperature: 0.001 }, { temperature: 100 }]) {
      expect(new Sampler(neutral(changes), 3).sample(logits, []).id).toBe(1);
    }
    expect(() => new Sampler(neutral({ logitBias: new Map([[3, 1]]) }), 3)).toThrow(
      'option logit_bias names token 3, the vocabulary has ids 0 to 2',
    );
  });
});

describe('a sampler that may choose some tokens only', () => {
  const only = (ids: number[]): Uint32Array => Uint32Array.of(ids.reduce((bits, id) => bits | (1 << id), 0));

  it('draws them as often as their probabilities say', () => {
    const sampler = new Sampler(neutral({}), P.length);
    const expected = keep(P, [0, 2, 4]);
    const counts = P.map(() => 0);
    for (let i = 0; i < DRAWS; i++) counts[sampler.sample(logitsOf(P), [], { allowed: only([0, 2, 4]) }).id]!++;
    let chiSquare = 0;
    expected.forEach((p, i) => {
      if (p === 0) expect(counts[i]).toBe(0);
      else chiSquare += (counts[i]! - DRAWS * p) ** 2 / (DRAWS * p);
    });
    expect(chiSquare).toBeLessThan(13.82); // 0.999 quantile, 2 degrees of freedom
  });

  it('takes the highest of them at temperature 0 and tells what the others were cut by', () => {
    const sampler = new Sampler(neutral({ temperature: 0 }), P.length);
    const sampled = sampler.sample(logitsOf(P), [], { allowed: only([0, 2, 4]), traceTop: 3, topLogprobs: 2 });
    expect(sampled.id).toBe(2);
    expect(sampled.trace!.map(({ id, cutBy }) => [id, cutBy])).toEqual([
      [1, 'constraint'],
      [3, 'constraint'],
      [5, 'constraint'],
      [2, null],
      [0, null], // the next of those that were allowed
    ]);
    expect(sampled.topLogprobs.map(({ id }) => id)).toEqual([1, 3]);
    expect(sampled.topLogprobs[0]!.logprob).toBeCloseTo(Math.log(0.3), 5);
  });
});

describe('random', () => {
  it('is uniform', () => {
    const random = new Random(1);
    const counts = new Array<number>(100).fill(0);
    for (let i = 0; i < 100_000; i++) counts[Math.floor(random.next() * 100)]!++;
    const chiSquare = counts.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0);
    expect(chiSquare).toBeGreaterThan(60);
    expect(chiSquare).toBeLessThan(149); // 0.999 quantile, 99 degrees of freedom
  });
});
