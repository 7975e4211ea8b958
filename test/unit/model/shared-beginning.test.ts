/** Caches whose leading tokens stand in one place: each gives the bits of one that has all of them itself, whatever becomes of the others. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { raise, SQLSTATE } from '../../../plv8/src/errors.ts';
import { Arena } from '../../../plv8/src/model/arena.ts';
import { readConfig } from '../../../plv8/src/model/config.ts';
import { bytesOfCaches } from '../../../plv8/src/model/kv-cache.ts';
import type { KvCache } from '../../../plv8/src/model/model.ts';
import { Model } from '../../../plv8/src/model/model.ts';
import { Random } from '../../../plv8/src/sampling/random.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const poll = (): void => undefined;
const CONTEXT = 512;

function loadModel(name: string): Model {
  const { architecture, hyperparameters, source } = readGguf(goldenPath(`${name}.gguf`));
  const config = readConfig(architecture, hyperparameters, source.tensors());
  return Model.load(config, source, { precision: 'auto', poll });
}

describe.each(['llama-260k/llama-260k-q4_0', 'zoo/qwen2-tiny-f32', 'zoo/gemma3-tiny-f32', 'zoo/phi3-tiny-f32'])(
  'caches of %s',
  (name) => {
    const model = loadModel(name);
    const { vocabSize } = model.config;
    /** A sequence of which every other one begins with its first tokens, and that of a number other than 0 goes on otherwise. */
    const idsOf = (branch: number, from: number, length: number): number[] =>
      Array.from({ length }, (_, i) => (7 * i * i + 11 * i + (i < from ? 0 : branch * (i + 3))) % vocabSize);
    const logitsAfter = (ids: readonly number[]): number[] => {
      const cache = model.newCache(CONTEXT);
      const logits = Array.from(model.forward(ids, cache, { poll }));
      cache.free();
      return logits;
    };
    /** Bring a cache to hold all of the ids; the logits after them. */
    const advance = (cache: KvCache, ids: readonly number[], cut = poll): number[] => {
      let same = 0;
      while (same < Math.min(cache.length, ids.length - 1) && cache.ids[same] === ids[same]) same++;
      cache.truncate(same);
      cache.reserve(ids.length, cut);
      return Array.from(model.forward(ids.slice(same), cache, { poll: cut }));
    };

    it('hold a beginning once, and give it back with the last of them', () => {
      const before = model.memoryBytes;
      const first = model.newCache(CONTEXT);
      advance(first, idsOf(0, 300, 300));
      const whole = first.bytes;
      const others = [1, 2, 3, 4].map((branch) => {
        const cache = model.newCache(CONTEXT);
        cache.beginAs(first, 300 - branch, 310, poll);
        expect(advance(cache, idsOf(branch, 300 - branch, 310))).toEqual(logitsAfter(idsOf(branch, 300 - branch, 310)));
        return cache;
      });
      const all = [first, ...others];
      // Of its own each has what its block of attention goes back over, and what it wrote.
      expect(bytesOfCaches(all)).toBeLessThan(3.2 * whole);
      expect(model.cacheBytes).toBe(bytesOfCaches(all));
      expect(model.memoryBytes - before).toBeGreaterThanOrEqual(bytesOfCaches(all));
      model.sweep(new Set(all));
      first.free();
      expect(advance(others[0]!, idsOf(1, 299, 320))).toEqual(logitsAfter(idsOf(1, 299, 320)));
      model.sweep(new Set(others));
      for (const cache of others) {
        expect(model.cacheBytes).toBeGreaterThan(whole);
        cache.free();
      }
      expect(model.cacheBytes).toBe(0);
      expect(model.memoryBytes).toBe(before);
    });

    it('take nothing where a fork cannot be made, and keep no room for what is not there', () => {
      const before = model.memoryBytes;
      for (const room of [160, 500]) {
        const first = model.newCache(CONTEXT);
        first.reserve(room, poll);
        advance(first, idsOf(0, 150, 150));
        const taken = model.memoryBytes;
        for (let most = 0; most < 3 * model.config.nLayers; most++) {
          const cache = model.newCache(CONTEXT);
          let polls = 0;
          const cut = (): void => {
            if (polls++ === most) throw new Error('cut off');
          };
          let isMade = true;
          try {
            cache.beginAs(first, 149, 160, cut);
          } catch (error) {
            expect(error).toMatchObject({ message: 'cut off' });
            isMade = false;
          }
          if (isMade) expect(advance(cache, idsOf(1, 149, 160))).toEqual(logitsAfter(idsOf(1, 149, 160)));
          cache.free();
          // Once the beginning is set apart, both have the end of it.
          if (first.commonBeginning === null) expect(model.memoryBytes).toBe(taken);
        }
        // Rooms of 160 tokens, or of the 149 that are shared.
        const least = model.newCache(CONTEXT);
        least.reserve(160, poll);
        expect(first.commonBeginning!.bytes).toBeLessThanOrEqual(least.bytes);
        least.free();
        expect(first.commonBeginning!.users).toBe(1);
        expect(advance(first, idsOf(2, 150, 170))).toEqual(logitsAfter(idsOf(2, 150, 170)));
        first.free();
        expect(model.memoryBytes).toBe(before);
      }
    });

    it('fork, forget, go on, are copied and freed in any order, cut off anywhere', () => {
      const random = new Random(5);
      const below = (n: number): number => Math.floor(random.next() * n);
      const before = model.memoryBytes;
      let caches: KvCache[] = [];
      let [shared, cuts] = [0, 0];
      for (let round = 0; round < 400; round++) {
        let left = below(4) === 0 ? below(60) : Infinity;
        const cut = (): void => {
          if (left-- <= 0) throw new Error('cut off');
        };
        const pick = caches[below(caches.length)];
        try {
          const action = pick === undefined ? 0 : below(10);
          if (action === 0) {
            caches.push(model.newCache(CONTEXT));
            advance(caches.at(-1)!, idsOf(below(5), below(300), 1 + below(300)), cut);
          } else if (action <= 3) {
            if (pick!.length === 0) continue;
            const cache = model.newCache(CONTEXT);
            caches.push(cache);
            cache.beginAs(pick!, pick!.length - below(Math.ceil(pick!.length / 2)), 1 + below(400), cut);
          } else if (action === 4) {
            pick!.truncate(below(pick!.length + 1));
          } else if (action === 5) {
            pick!.free();
            caches = caches.filter((cache) => cache !== pick);
          } else if (action === 6) {
            const cache = model.newCache(CONTEXT);
            caches.push(cache);
            cache.copyFrom(pick!, below(pick!.length + 1), cut);
          } else {
            const ids = [...pick!.ids.slice(0, below(pick!.length + 1)), ...idsOf(below(5), 0, 1 + below(80))];
            expect(advance(pick!, ids, cut)).toEqual(logitsAfter(ids));
          }
        } catch (error) {
          if (!(error instanceof Error) || error.message !== 'cut off') throw error;
          cuts++;
          model.sweep(new Set(caches)); // as every call begins
        }
        for (const cache of caches) if (cache.commonBeginning !== null && cache.commonBeginning.users > 1) shared++;
        while (caches.length > 6) caches.shift()!.free();
      }
      expect(shared).toBeGreaterThan(30);
      expect(cuts).toBeGreaterThan(5);
      for (const cache of caches) {
        const ids = [...cache.ids, 5];
        expect(advance(cache, ids)).toEqual(logitsAfter(ids));
        cache.free();
      }
      model.sweep(new Set());
      expect(model.memoryBytes).toBe(before);
    });
  },
);

describe('a beginning that others have, too', () => {
  afterEach(() => vi.restoreAllMocks());

  const idsOf = (length: number, { config }: Model): number[] =>
    Array.from({ length }, (_, i) => (7 * i * i + 11 * i) % config.vocabSize);

  it('is computed anew by a sequence that outgrows the original context, and stays right for the others', () => {
    const model = loadModel('zoo/phi3-longrope-f32');
    const original = model.config.originalContext!;
    const ids = idsOf(original + 40, model);
    const near = ids.slice(0, original);
    const expected = [ids, near].map((some) => {
      const alone = model.newCache(2 * original);
      const logits = Array.from(model.forward(some, alone, { poll }));
      alone.free();
      return logits;
    });
    const first = model.newCache(2 * original);
    model.forward(ids.slice(0, original - 10), first, { poll });
    const second = model.newCache(2 * original);
    second.beginAs(first, original - 20, original, poll);
    expect(Array.from(model.forward(ids.slice(original - 20), second, { poll }))).toEqual(expected[0]);
    expect(Array.from(model.forward(near.slice(original - 10), first, { poll }))).toEqual(expected[1]);
  });

  it('is given back where the end of a cache is cut off', () => {
    const model = loadModel('llama-260k/llama-260k-q4_0');
    const before = model.memoryBytes;
    const first = model.newCache(CONTEXT);
    model.forward(idsOf(300, model), first, { poll });
    const second = model.newCache(CONTEXT);
    second.beginAs(first, 290, 300, poll);
    vi.spyOn(Arena.prototype, 'release').mockImplementationOnce(() => {
      throw new Error('cut off');
    });
    expect(() => second.free()).toThrow('cut off');
    model.sweep(new Set([first]));
    expect(first.commonBeginning!.users).toBe(1);
    first.free();
    model.sweep(new Set());
    expect([model.cacheBytes, model.memoryBytes]).toEqual([0, before]);
  });

  it('is copied where there is no memory to set it apart', () => {
    const model = loadModel('llama-260k/llama-260k-q4_0');
    const ids = idsOf(200, model);
    const expected = model.newCache(CONTEXT);
    const logits = Array.from(model.forward(ids, expected, { poll }));
    expected.free();
    const source = model.newCache(CONTEXT);
    source.reserve(CONTEXT, poll);
    model.forward(ids.slice(0, 160), source, { poll });
    const copy = model.newCache(CONTEXT);
    const allocate = Arena.prototype.allocate;
    copy.reserve(200, poll);
    let left = copy.bytes; // as much as a copy needs
    copy.free();
    vi.spyOn(Arena.prototype, 'allocate').mockImplementation(function (this: Arena, bytes) {
      if (bytes > left) raise(SQLSTATE.outOfMemory, 'there is no more');
      left -= bytes;
      return allocate.call(this, bytes);
    });
    const release = Arena.prototype.release;
    vi.spyOn(Arena.prototype, 'release').mockImplementation(function (this: Arena, at, bytes) {
      left += bytes;
      release.call(this, at, bytes);
    });
    const fork = model.newCache(CONTEXT);
    fork.beginAs(source, 150, 200, poll);
    expect(source.commonBeginning).toBeNull();
    expect(Array.from(model.forward(ids.slice(150), fork, { poll }))).toEqual(logits);
  });
});
