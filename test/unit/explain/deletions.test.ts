/** Deletions computed together give the bits that each gives alone, in a cache of its own and from its first token on. */
import { describe, expect, it } from 'vitest';
import { distribution } from '../../../plv8/src/explain/distribution.ts';
import type { Deletion } from '../../../plv8/src/explain/leave-one-out.ts';
import { checkDeletions, copyForDeletions, Deletions, leaveOneOut } from '../../../plv8/src/explain/leave-one-out.ts';
import { readConfig } from '../../../plv8/src/model/config.ts';
import type { KvCache } from '../../../plv8/src/model/model.ts';
import { Model, onEvaluated } from '../../../plv8/src/model/model.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const poll = (): void => undefined;

const MODELS = [
  'llama-260k/llama-260k-f32',
  'llama-260k/llama-260k-q8_0',
  'zoo/gemma3-tiny-f32',
  'zoo/gpt2-tiny-f32',
  'quants/qwen2-256-q4_1',
];

function loadModel(file: string): Model {
  const { architecture, hyperparameters, source } = readGguf(goldenPath(`${file}.gguf`));
  const config = readConfig(architecture, hyperparameters, source.tensors());
  return Model.load(config, source, { precision: 'auto', poll });
}

/** `length` ids of a vocabulary, always the same. */
function idsOf(length: number, vocabSize: number): number[] {
  return Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 8) % vocabSize);
}

describe.each(MODELS)('deletions of %s', (file) => {
  const model = loadModel(file);
  const prompt = 75;
  const ids = idsOf(prompt + 6, model.config.vocabSize);
  /** Tokens at these positions of the sequence. */
  const askedAt = (...positions: number[]) => positions.map((at) => ({ position: at - 1, id: ids[at]! }));

  function whole(copied = false): Deletions {
    const cache = model.newCache(ids.length);
    model.fill(ids, cache, { poll });
    return new Deletions(model, ids, cache, poll, copied ? copyForDeletions(model, cache, poll) : null);
  }

  /** Log-probability of each asked token after what is left before it, each computed afresh. */
  function alone({ units, asked }: Deletion): (number | null)[] {
    return asked.map(({ position, id }) => {
      const left = ids.filter((_, p) => p <= position && units.every(({ from, to }) => p < from || p >= to));
      if (left.length === 0) return null;
      const cache = model.newCache(left.length);
      const { logprob } = distribution(model.forward(left, cache, { poll }), id, 0);
      cache.free();
      return logprob;
    });
  }

  it('are those of every token alone, for one token asked and for several', () => {
    const units = Array.from({ length: prompt }, (_, from) => ({ from, to: from + 1 }));
    for (const asked of [askedAt(prompt), askedAt(prompt, prompt + 1, prompt + 5)]) {
      const expected = units.map((unit) => alone({ units: [unit], asked }));
      expect(leaveOneOut(whole(), units, asked)).toEqual(expected);
    }
  });

  it('may leave out several parts, come in any order and after others', () => {
    const asked = askedAt(prompt + 1, prompt + 4);
    const sets: Deletion[] = [
      {
        units: [
          { from: 40, to: 42 },
          { from: 60, to: 70 },
        ],
        asked,
      },
      { units: [{ from: 0, to: prompt }], asked },
      { units: [{ from: 3, to: 50 }], asked: askedAt(prompt) },
      { units: [{ from: prompt - 1, to: prompt }], asked: askedAt(prompt) },
      {
        units: [
          { from: 0, to: 1 },
          { from: 2, to: 3 },
          { from: 74, to: 75 },
        ],
        asked,
      },
      { units: [{ from: 70, to: 75 }], asked },
    ];
    for (const deletions of [whole(), whole(true)]) {
      for (const some of [sets, sets.slice(0, 1), [...sets].reverse(), sets.slice(3, 4)]) {
        expect(deletions.logprobs(some)).toEqual(some.map(alone));
      }
    }
  });

  it('may have nothing to copy, as of a prompt of one token', () => {
    const asked = askedAt(1);
    const cache = model.newCache(ids.length);
    const deletions = new Deletions(model, ids.slice(0, 1), cache, poll, copyForDeletions(model, cache, poll));
    expect(leaveOneOut(deletions, [{ from: 0, to: 1 }], asked)).toEqual([[null]]);
  });

  it('give null for a token that nothing is left before', () => {
    const asked = askedAt(prompt, prompt + 1);
    const [logprobs] = whole().logprobs([{ units: [{ from: 0, to: prompt }], asked }]);
    expect(logprobs![0]).toBeNull();
    expect(logprobs![1]).toBe(alone({ units: [{ from: 0, to: prompt }], asked })[1]);
  });
});

describe('the cost of deletions', () => {
  const model = loadModel('llama-260k/llama-260k-f32');
  const n = 150; // more tokens in all than are made ready at once
  const ids = idsOf(n, model.config.vocabSize);
  const cache = model.newCache(n);
  const logits = model.forward(ids, cache, { poll });
  const asked = [{ position: n - 1, id: 7 }];
  const whole = distribution(logits, 7, 0).logprob;
  const units = ids.map((_, from) => ({ from, to: from + 1 }));
  const deletions = new Deletions(model, ids, cache, poll);

  it('is less than (n + 1) / 2 passes for n of them, and of the check less than one for each of its four', () => {
    let evaluated = 0;
    onEvaluated((tokens) => (evaluated += tokens));
    const without = leaveOneOut(deletions, units, asked);
    expect(evaluated / n).toBeLessThan((n + 1) / 2);
    evaluated = 0;
    const [check] = checkDeletions(
      deletions,
      units.map((unit) => [unit]),
      asked,
      [whole],
      without,
    );
    expect(evaluated / n).toBeLessThan(4);
    const most = without
      .map((each, u) => ({ u, logprob: each[0]! }))
      .sort((a, b) => a.logprob - b.logprob)
      .slice(0, check!.count)
      .map(({ u }) => u);
    const left = ids.filter((_, p) => !most.includes(p));
    const fresh = model.newCache(n);
    const { logprob } = distribution(model.forward(left, fresh, { poll }), 7, 0);
    expect(check).toMatchObject({ count: 15, topLost: Math.exp(whole) - Math.exp(logprob) });
  });

  it('does not compute again what was copied', () => {
    const [own, other] = [model.newCache(n), model.newCache(n)];
    for (const each of [own, other]) model.fill(ids, each, { poll });
    const evaluated = [null, copyForDeletions(model, other, poll)].map((copy, i) => {
      let tokens = 0;
      onEvaluated((more) => (tokens += more));
      const some = new Deletions(model, ids, i === 0 ? own : other, poll, copy);
      const found = [10, 140].map((u) => leaveOneOut(some, [units[u]!], asked));
      onEvaluated(() => undefined);
      return { tokens, found };
    });
    expect(evaluated[1]!.found).toEqual(evaluated[0]!.found);
    // Those behind the first deletion and before the second.
    expect(evaluated[0]!.tokens - evaluated[1]!.tokens).toBe(130);
  });

  it('copies no cache that takes much memory', () => {
    const large = { bytes: 65 * 1024 * 1024 } as KvCache;
    expect(copyForDeletions(model, large, poll)).toBeNull();
  });

  it('leaves a cache that says what it holds when it is cut off anywhere', () => {
    for (let stopAt = 1; stopAt < 400; stopAt += 37) {
      const own = model.newCache(n);
      model.fill(ids, own, { poll });
      let polls = 0;
      const cut = new Deletions(model, ids, own, () => {
        if (++polls === stopAt) throw new Error('cut off');
      });
      expect(() => leaveOneOut(cut, units, asked)).toThrow('cut off');
      const held = [...own.ids];
      const afresh = model.newCache(n);
      const next = Array.from(model.forward([...held, 5], afresh, { poll }));
      expect(Array.from(model.forward([5], own, { poll }))).toEqual(next);
      own.free();
      afresh.free();
    }
  });
});
