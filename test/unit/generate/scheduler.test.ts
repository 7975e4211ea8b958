/** Requests that come and go between passes: each gets the bits that it gets alone, and nobody's next token waits for a prompt. */
import { describe, expect, it, vi } from 'vitest';
import { HartonomousError, raise, SQLSTATE } from '../../../plv8/src/errors.ts';
import type { Job, Task } from '../../../plv8/src/generate/scheduler.ts';
import { Scheduler } from '../../../plv8/src/generate/scheduler.ts';
import { ablation } from '../../../plv8/src/model/ablation.ts';
import { readConfig } from '../../../plv8/src/model/config.ts';
import type { CacheHooks } from '../../../plv8/src/model/kv-cache.ts';
import type { KvCache } from '../../../plv8/src/model/model.ts';
import { CHUNK_TOKENS, Model, onEvaluated } from '../../../plv8/src/model/model.ts';
import type { DoneReason, GeneratedToken, Step } from '../../../plv8/src/sampling/continuation.ts';
import { Continuation } from '../../../plv8/src/sampling/continuation.ts';
import { parseOptions } from '../../../plv8/src/sampling/options.ts';
import { Random } from '../../../plv8/src/sampling/random.ts';
import type { Tokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { createTokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../golden/gguf-vocabulary.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const PLACES = 16;
const CONTEXT = 640;
const poll = (): void => undefined;

interface Subject {
  model: Model;
  tokenizer: Tokenizer;
}

function load(name: string): Subject {
  const path = goldenPath(`${name}.gguf`);
  const { architecture, hyperparameters, source } = readGguf(path);
  const config = readConfig(architecture, hyperparameters, source.tensors());
  return {
    model: Model.load(config, source, { precision: 'auto', poll }),
    tokenizer: createTokenizer(readGgufVocabulary(path)),
  };
}

/** An answer, with the numbers that show the bits of its logits. */
interface Answer {
  tokens: GeneratedToken[];
  text: string;
  doneReason: DoneReason | null;
  ended: GeneratedToken | null;
}

interface Asked {
  promptIds: number[];
  options: Record<string, unknown>;
}

function taskOf({ model, tokenizer }: Subject, { promptIds, options }: Asked): Task {
  const parsed = parseOptions({ top_logprobs: 5, ...options });
  const context = Math.min(CONTEXT, model.config.contextLength);
  const continuation = new Continuation({
    tokenizer,
    options: parsed,
    vocabSize: model.config.vocabSize,
    promptIds,
    context,
    logprobs: true,
    thinking: null,
    poll,
  });
  return { continuation, intervention: parsed.ablate === null ? undefined : ablation(model, parsed.ablate) };
}

function answerOf({ tokens, text, doneReason, ended }: Continuation): Answer {
  return { tokens, text, doneReason, ended };
}

/** The prompt in one go, then token after token, with nobody beside it. */
function alone(subject: Subject, asked: Asked): Answer {
  const { model } = subject;
  const { continuation, intervention } = taskOf(subject, asked);
  const cache = model.newCache(CONTEXT);
  let logits = model.forward(asked.promptIds, cache, { poll, intervention });
  for (;;) {
    const { token, doneReason } = continuation.next(logits);
    if (doneReason !== null) break;
    logits = model.forward([token!.id], cache, { poll, intervention });
  }
  cache.free();
  return answerOf(continuation);
}

/** A request that notes what becomes of it. */
class Asking implements Job {
  task: Task | null = null;
  cache: KvCache | null = null;
  opened = 0;
  reads = 0;
  rows = 0;
  ended = 0;
  error: unknown = null;
  /** Number of the step at which its caller fails. */
  failsAt = Infinity;

  constructor(
    private readonly subject: Subject,
    readonly asked: Asked,
    private readonly hooks: CacheHooks = {},
  ) {}

  get written(): number {
    return this.task?.continuation.tokens.length ?? 0;
  }

  get isOver(): boolean {
    return this.ended > 0 || this.error !== null;
  }

  get answer(): Answer {
    return answerOf(this.task!.continuation);
  }

  begin(): Task {
    this.task = taskOf(this.subject, this.asked);
    return this.task;
  }

  openCache(ids: readonly number[]): KvCache {
    this.opened++;
    const cache = this.subject.model.newCache(CONTEXT, this.hooks);
    cache.reserve(ids.length, poll);
    this.cache = cache;
    return cache;
  }

  closeCache(cache: KvCache): void {
    expect(cache).toBe(this.cache);
    this.cache = null;
    cache.free();
  }

  onRows(rows: number): void {
    this.rows += rows;
  }

  onRead(): void {
    this.reads++;
  }

  onStep(): void {
    if (this.written >= this.failsAt) throw new HartonomousError(SQLSTATE.dataCorrupted, `step ${this.failsAt}`);
  }

  end(): void {
    this.ended++;
  }

  fail(error: unknown): void {
    expect(this.error).toBeNull();
    this.error = error;
  }
}

const LENGTHS = [1, 2, 5, 31, 32, 33, 64, 100, 200];

/** Random requests: prompts of many lengths, all kinds of sampling, answers that end for every reason. */
function requests({ model, tokenizer }: Subject, random: Random, count: number): Asked[] {
  const below = (n: number): number => Math.floor(random.next() * n);
  const { vocabSize } = model.config;
  const kinds: Record<string, unknown>[] = [
    { temperature: 0 },
    { temperature: 0.8, top_k: 40 },
    { temperature: 1.2, top_k: 0, typical_p: 0.9, repeat_penalty: 1.3 },
    { temperature: 1, min_p: 0.05, presence_penalty: 0.5, frequency_penalty: 0.2 },
    { temperature: 1, stop: [tokenizer.tokenText(below(vocabSize)) || 'a', 'e'] },
    { temperature: 1, response_format: { type: 'json_object' }, num_predict: 24 },
    { temperature: 0.7, ablate: { ffns: [{ layer: 0 }], from: below(4) } },
  ];
  return Array.from({ length: count }, (_, i) => ({
    promptIds: Array.from({ length: LENGTHS[below(LENGTHS.length)]! }, () => below(vocabSize)),
    options: { num_predict: 1 + below(20), seed: 100 + i, ...kinds[i % kinds.length] },
  }));
}

const MODELS = [
  'llama-260k/llama-260k-f32',
  'llama-260k/llama-260k-q4_0',
  'zoo/qwen2-tiny-f32',
  'zoo/phi3-tiny-f32',
  'zoo/gemma3-tiny-f32',
  'zoo/gpt2-tiny-f32',
  'quants/qwen2-256-q8_0',
  'quants/qwen2-256-q4_k_m-mix',
];

describe.each(MODELS)('requests to %s', (name) => {
  const subject = load(name);
  const { model } = subject;
  const layers = vi.spyOn(model as unknown as { runLayers(): void }, 'runLayers');

  it('that come and go at any time get what they get alone, and a next token waits for one pass', () => {
    const random = new Random(7);
    const below = (n: number): number => Math.floor(random.next() * n);
    const asked = requests(subject, random, 40);
    const expected = asked.map((each) => alone(subject, each));
    const before = model.memoryBytes;
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    const jobs = asked.map((each) => new Asking(subject, each));
    const removed = new Set<Asking>();
    const failing = new Set(jobs.filter((_, i) => i % 9 === 4));
    for (const job of failing) job.failsAt = 1 + below(3);
    let rows = 0;
    onEvaluated((tokens) => (rows += tokens));
    let next = 0;
    let most = 0;
    for (let more = true; more || next < jobs.length;) {
      while (next < jobs.length && below(3) > 0) scheduler.add(jobs[next++]!);
      const there = jobs.slice(0, next).filter((job) => !job.isOver && !removed.has(job));
      if (below(8) === 0 && there.length > 0) {
        const job = there[below(there.length)]!;
        removed.add(job);
        scheduler.remove(job);
      }
      const writing = jobs.filter((job) => job.written > 0 && !job.isOver && !removed.has(job));
      const lengths = writing.map((job) => job.written);
      rows = 0;
      layers.mockClear();
      more = scheduler.pass();
      expect(rows).toBeLessThanOrEqual(CHUNK_TOKENS);
      expect(layers.mock.calls.length).toBeLessThanOrEqual(1);
      writing.forEach((job, i) => expect(job.isOver ? 1 : job.written - lengths[i]!).toBe(1));
      most = Math.max(most, writing.length);
    }
    onEvaluated(() => undefined);
    expect(scheduler.size).toBe(0);
    expect(most).toBeGreaterThan(4);
    expect(removed.size).toBeGreaterThan(0);
    jobs.forEach((job, i) => {
      const place = `request ${i}`;
      expect(job.cache, place).toBeNull();
      if (removed.has(job)) expect([job.ended, job.error], place).toEqual([0, null]);
      else if (job.failsAt <= expected[i]!.tokens.length)
        expect(job.error, place).toMatchObject({ message: `step ${job.failsAt}` });
      else {
        expect(job.answer, place).toEqual(expected[i]);
        expect([job.ended, job.reads, job.opened, job.error], place).toEqual([1, 1, 1, null]);
        // Nothing is computed of the last token, and the end of an answer is none.
        const { tokens, ended } = expected[i]!;
        expect(job.rows, place).toBe(asked[i]!.promptIds.length + tokens.length - (ended === null ? 1 : 0));
      }
    });
    expect(jobs.filter((job) => job.error !== null).length).toBeGreaterThan(0);
    expect(model.memoryBytes).toBe(before);
  });

  it('wait, or are computed again, while memory is short, and get what they get alone', () => {
    const asked = requests(subject, new Random(11), 24);
    const expected = asked.map((each) => alone(subject, each));
    const before = model.memoryBytes;
    // Room for the longest prompt and its answer, and for little beside it.
    const longest = model.newCache(CONTEXT);
    longest.reserve(256, poll);
    const budget = longest.bytes;
    longest.free();
    const makeRoom = (bytes: number): void => {
      if (model.cacheBytes + bytes > budget) raise(SQLSTATE.outOfMemory, `${bytes} bytes are too many`);
    };
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    const jobs = asked.map((each) => new Asking(subject, each, { makeRoom }));
    for (const job of jobs) scheduler.add(job);
    while (scheduler.pass()) expect(model.cacheBytes).toBeLessThanOrEqual(budget);
    jobs.forEach((job, i) => {
      expect(job.error).toBeNull();
      expect(job.answer, `request ${i}`).toEqual(expected[i]);
      expect([job.ended, job.reads], `request ${i}`).toEqual([1, 1]);
    });
    expect(Math.max(...jobs.map((job) => job.opened))).toBeGreaterThan(1);
    expect(model.memoryBytes).toBe(before);
  });

  it('get what they get alone where prompts are taken whole', () => {
    const asked = requests(subject, new Random(17), 30);
    const jobs = asked.map((each) => new Asking(subject, each));
    const scheduler = new Scheduler(model, PLACES, Infinity, poll);
    for (const job of jobs) scheduler.add(job);
    while (scheduler.pass());
    jobs.forEach((job, i) => expect(job.answer, `request ${i}`).toEqual(alone(subject, asked[i]!)));
  });

  it('go on where a pass was cut off anywhere', () => {
    const asked = requests(subject, new Random(13), 6);
    const expected = asked.map((each) => alone(subject, each));
    for (let cutAt = 1; cutAt < 400; cutAt += 57) {
      let polls = 0;
      let cuts = 0;
      const cut = (): void => {
        if (++polls === cutAt || polls === 2 * cutAt + 1) throw new Error('cut off');
      };
      const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, cut);
      const jobs = asked.map((each) => new Asking(subject, each));
      for (const job of jobs) scheduler.add(job);
      for (let more = true; more;) {
        try {
          more = scheduler.pass();
        } catch (error) {
          expect(error).toMatchObject({ message: 'cut off' });
          cuts++;
        }
      }
      expect(cuts).toBeGreaterThan(0);
      jobs.forEach((job, i) => expect(job.answer, `${i}, cut at ${cutAt}`).toEqual(expected[i]));
    }
  });
});

describe('a scheduler', () => {
  const subject = load('llama-260k/llama-260k-q8_0');
  const { model } = subject;
  const ids = (length: number): number[] => Array.from({ length }, (_, i) => 3 + ((7 * i * i + 11 * i) % 500));
  const asking = (length: number, options: object = {}, hooks: CacheHooks = {}): Asking =>
    new Asking(subject, { promptIds: ids(length), options: { temperature: 0, num_predict: 3, ...options } }, hooks);

  it('fails who needs more memory than there is, and nobody else', () => {
    const makeRoom = (bytes: number): void => {
      if (bytes > 0) raise(SQLSTATE.outOfMemory, 'there is none');
    };
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    const jobs = [asking(9, {}, { makeRoom }), asking(9), asking(9, {}, { makeRoom }), asking(9)];
    for (const job of jobs) scheduler.add(job);
    while (scheduler.pass());
    expect(jobs.map((job) => (job.error as Error | null)?.message ?? null)).toEqual([
      'there is none',
      null,
      'there is none',
      null,
    ]);
    expect(jobs[1]!.answer).toEqual(jobs[3]!.answer);
  });

  it('fails who runs out of memory with nobody beside it', () => {
    let allowed = 1;
    const makeRoom = (): void => {
      if (--allowed < 0) raise(SQLSTATE.outOfMemory, 'there is no more');
    };
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    const job = asking(30, { num_predict: 20 }, { makeRoom });
    scheduler.add(job);
    while (scheduler.pass());
    expect(job.error).toMatchObject({ message: 'there is no more' });
    expect(job.written).toBeGreaterThan(0);
    expect(scheduler.size).toBe(0);
  });

  it('takes no more at a time than it has places, and the next as one ends', () => {
    const scheduler = new Scheduler(model, 2, CHUNK_TOKENS, poll);
    const jobs = [asking(4, { num_predict: 5 }), asking(4, { num_predict: 1 }), asking(4), asking(4)];
    for (const job of jobs) scheduler.add(job);
    const open: number[] = [];
    for (let more = true; more;) {
      more = scheduler.pass();
      open.push(jobs.filter((job) => job.cache !== null).length);
    }
    expect(Math.max(...open)).toBeLessThanOrEqual(2);
    expect(jobs.map((job) => job.written)).toEqual([5, 1, 3, 3]);
    expect(open.length).toBeLessThan(5 + 1 + 3 + 3);
  });

  it('ends a request of which no more steps are wanted, and another one goes on where it was', () => {
    const options = { num_predict: 9, temperature: 1, seed: 3 };
    const whole = alone(subject, { promptIds: ids(20), options });
    expect(whole.tokens.length).toBeGreaterThan(4);
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    let known: GeneratedToken[] = [];
    for (const most of [1, 2, 100]) {
      const job = asking(20, options);
      const begin = job.begin.bind(job);
      const wanted = known.length + most;
      const goingOn = (): Task => {
        const task = begin();
        task.continuation.replay(known);
        return task;
      };
      scheduler.add(Object.assign(job, { begin: goingOn, isEnough: () => job.written >= wanted }));
      while (scheduler.pass());
      expect(job.answer.tokens).toEqual(whole.tokens.slice(0, wanted));
      if (most === 100) expect(job.answer).toEqual(whole);
      known = job.answer.tokens;
    }
  });

  /** The order in which these get a place, of owners that their names begin with and who may have a priority. */
  function order(places: number, names: readonly string[], priorities: Record<string, number> = {}): string[] {
    const scheduler = new Scheduler(model, places, CHUNK_TOKENS, poll);
    const begun: string[] = [];
    for (const name of names) {
      const owner = name[0]!;
      const job = asking(4, { num_predict: 4 });
      const begin = job.begin.bind(job);
      const noted = (): Task => {
        begun.push(name);
        return begin();
      };
      scheduler.add(Object.assign(job, { owner, priority: priorities[owner], begin: noted }));
    }
    while (scheduler.pass());
    return begun;
  }

  it('gives a place to the owner with the fewest, in the order in which they came', () => {
    // Two end at a time here: who has none goes first, and among equals who came first.
    const begun = order(2, ['a1', 'a2', 'a3', 'b1', 'c1', 'b2', 'a4']);
    expect(begun).toEqual(['a1', 'b1', 'a2', 'c1', 'a3', 'b2', 'a4']);
  });

  it('gives it to those of the highest priority before all others, among whom as ever', () => {
    const begun = order(2, ['a1', 'b1', 'b2', 'b3', 'c1', 'd1', 'b4'], { b: 5, c: 5, d: 1 });
    expect(begun).toEqual(['b1', 'c1', 'b2', 'b3', 'b4', 'd1', 'a1']);
  });

  it('gives every eighth that a lower priority waits for to that', () => {
    const many = Array.from({ length: 16 }, (_, i) => `b${i}`);
    const begun = order(1, ['a1', 'a2', ...many], { b: 1 });
    expect([begun.indexOf('a1'), begun.indexOf('a2')]).toEqual([7, 15]);
  });

  describe('whose requests begin alike', () => {
    const beginning = ids(150);
    const tails = [[], [7], ids(40), [9, 8, 7], ids(3)];
    /** Requests that take over what the caches of others hold, as those of an engine do. */
    const alike = (owners: string): Asking[] => {
      const jobs = tails.map((tail, i) => {
        const promptIds = [...beginning, 20 + i, ...tail];
        return new Asking(subject, { promptIds, options: { temperature: 0, num_predict: 4 } });
      });
      jobs.forEach((job, i) => {
        const openCache = (wanted: readonly number[]): KvCache => {
          const held = jobs.filter((other, k) => other.cache !== null && owners[k] === owners[i]);
          const common = held.map(({ cache }) => {
            let n = 0;
            while (n < Math.min(cache!.length, wanted.length - 1) && cache!.ids[n] === wanted[n]) n++;
            return n;
          });
          const best = Math.max(0, ...common);
          job.cache = model.newCache(CONTEXT);
          if (best > 0) job.cache.beginAs(held[common.indexOf(best)]!.cache!, best, wanted.length, poll);
          return job.cache;
        };
        Object.assign(job, { owner: owners[i], sharesBeginning: true, openCache });
      });
      return jobs;
    };
    const run = (
      jobs: readonly Asking[],
      between: (scheduler: Scheduler, passes: number) => void = () => undefined,
    ) => {
      const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
      for (const job of jobs) scheduler.add(job);
      for (let passes = 1; scheduler.pass(); passes++) between(scheduler, passes);
      expect(scheduler.size).toBe(0);
    };
    const rowsOf = (jobs: readonly Asking[]): number => jobs.reduce((sum, job) => sum + job.rows, 0);
    const own = tails.reduce((sum, tail) => sum + 1 + tail.length + 4, 0);

    it('has the first read the beginning, and the others take it over, with the answers that they get alone', () => {
      const jobs = alike('aaaaa');
      run(jobs);
      for (const job of jobs) expect(job.answer).toEqual(alone(subject, job.asked));
      expect(rowsOf(jobs)).toBeLessThanOrEqual(beginning.length + own);
      expect(model.cacheBytes).toBe(0);
    });

    it('has each owner read it', () => {
      const jobs = alike('ababa');
      run(jobs);
      for (const job of jobs) expect(job.answer).toEqual(alone(subject, job.asked));
      const rows = rowsOf(jobs);
      expect(rows).toBeGreaterThan(2 * beginning.length);
      expect(rows).toBeLessThanOrEqual(2 * beginning.length + own);
    });

    it('lets another role have a place before more of those that waited for their own', () => {
      const jobs = alike('aaaab');
      const begun: Asking[] = [];
      for (const job of jobs) {
        const openCache = job.openCache.bind(job);
        Object.assign(job, {
          openCache: (wanted: readonly number[]): KvCache => {
            begun.push(job);
            return openCache(wanted);
          },
        });
      }
      const scheduler = new Scheduler(model, 2, CHUNK_TOKENS, poll);
      for (const job of jobs.slice(0, 4)) scheduler.add(job);
      scheduler.pass();
      // All of its role wait for what the first one reads, when the other role comes; which then has a place at once.
      scheduler.add(jobs[4]!);
      while (scheduler.pass());
      expect(begun.slice(0, 2)).toEqual([jobs[0], jobs[4]]);
      for (const job of jobs) expect(job.answer).toEqual(alone(subject, job.asked));
      // And where they are let in at the same time, too.
      const late = alike('aaaab');
      const places = new Scheduler(model, 2, CHUNK_TOKENS, poll);
      for (const job of late.slice(0, 4)) places.add(job);
      while (late[0]!.written === 0) places.pass();
      places.remove(late[0]!);
      places.add(late[4]!);
      places.pass();
      expect(late[4]!.cache).not.toBeNull();
      while (places.pass());
    });

    it('goes on with another where the one that reads it, or one that waits for it, is let go of', () => {
      const jobs = alike('aaaaa');
      run(jobs, (scheduler, passes) => {
        if (passes === 2) scheduler.remove(jobs[0]!);
        if (passes === 3) scheduler.remove(jobs[4]!);
      });
      for (const job of jobs.slice(1, 4)) expect(job.answer).toEqual(alone(subject, job.asked));
      expect([jobs[0]!.ended, jobs[4]!.ended, jobs[4]!.cache]).toEqual([0, 0, null]);
      expect(model.cacheBytes).toBe(0);
      const closed = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
      for (const job of alike('aaaaa')) closed.add(job);
      closed.pass();
      expect(closed.size).toBe(5);
      closed.close();
      expect([closed.size, model.cacheBytes]).toEqual([0, 0]);
    });
  });

  it('has nothing to do with requests that need no computing, or cannot begin', () => {
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    const nothing: Job = {
      begin: () => null,
      openCache: () => raise(SQLSTATE.internalError, 'not to be called'),
      closeCache: () => undefined,
      end: () => raise(SQLSTATE.internalError, 'not to be called'),
      fail: (error) => {
        throw error;
      },
    };
    scheduler.add(nothing);
    expect(scheduler.pass()).toBe(false);
    const failed: unknown[] = [];
    scheduler.add({
      ...nothing,
      begin: () => raise(SQLSTATE.invalidParameterValue, 'no'),
      fail: (e) => failed.push(e),
    });
    const other = asking(4);
    scheduler.add(other);
    while (scheduler.pass());
    expect(failed).toMatchObject([{ message: 'no' }]);
    expect(other.ended).toBe(1);
    scheduler.add({ ...nothing, begin: () => raise(SQLSTATE.invalidParameterValue, 'mine') });
    expect(() => scheduler.pass()).toThrow('mine');
  });

  it('gives all memory back when it is closed', () => {
    const before = model.memoryBytes;
    const scheduler = new Scheduler(model, 2, CHUNK_TOKENS, poll);
    const jobs = [asking(40), asking(40), asking(40)];
    for (const job of jobs) scheduler.add(job);
    scheduler.pass();
    expect(model.memoryBytes).toBeGreaterThan(before);
    scheduler.close();
    expect([scheduler.size, model.memoryBytes]).toEqual([0, before]);
    expect(scheduler.pass()).toBe(false);
    expect(jobs.map((job) => job.ended)).toEqual([0, 0, 0]);
  });
});

describe('sequences that outgrow the original context of LongRoPE', () => {
  const subject = load('zoo/phi3-longrope-f32');
  const { model } = subject;
  const original = model.config.originalContext!;
  const layers = vi.spyOn(model as unknown as { runLayers(): void }, 'runLayers');

  it('are computed again a piece a pass, and get what they get alone', () => {
    const asked = [original - 4, original + 60, 20, original - 1, 2 * original, 3].map((length, i) => ({
      promptIds: Array.from({ length }, (_, at) => 3 + ((7 * at * at + 11 * i) % 500)),
      options: { num_predict: 12, seed: i, temperature: 1 },
    }));
    const expected = asked.map((each) => alone(subject, each));
    const jobs = asked.map((each) => new Asking(subject, each));
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll);
    for (const job of jobs) scheduler.add(job);
    for (let more = true; more;) {
      layers.mockClear();
      more = scheduler.pass();
      expect(layers.mock.calls.length).toBeLessThanOrEqual(1);
    }
    jobs.forEach((job, i) => expect(job.answer, `request ${i}`).toEqual(expected[i]));
  });
});

describe('tokens that are chosen slowly', () => {
  const subject = load('llama-260k/llama-260k-q8_0');
  const { model } = subject;

  /** Takes so many milliseconds, of a clock that stands still otherwise, for each of its tokens. */
  class Slow extends Asking {
    readonly choosesSlowly = true;

    constructor(
      of: Subject,
      asked: Asked,
      private readonly clock: { ms: number },
      private readonly takes: number,
    ) {
      super(of, asked);
    }

    choose(work: () => Step): Step {
      this.clock.ms += this.takes;
      return work();
    }
  }

  it('wait for later passes in turn, and are what they are alone; others get one in each pass', () => {
    const clock = { ms: 1000 };
    const now = vi.spyOn(Date, 'now').mockImplementation(() => clock.ms);
    const asked = requests(subject, new Random(19), 12).map((each) => ({
      ...each,
      options: { ...each.options, num_predict: 12 },
    }));
    const expected = asked.map((each) => alone(subject, each));
    const jobs = asked.map((each, i) => (i % 3 === 0 ? new Asking(subject, each) : new Slow(subject, each, clock, 60)));
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll, 100);
    for (const job of jobs) scheduler.add(job);
    const waits = jobs.map(() => 0);
    let longest = 0;
    for (let more = true; more;) {
      const before = jobs.map((job) => job.written);
      const since = clock.ms;
      more = scheduler.pass();
      expect(clock.ms - since).toBeLessThanOrEqual(120); // a second one begins within 100, a third one does not
      jobs.forEach((job, i) => {
        const waited = before[i]! > 0 && !job.isOver && job.written === before[i];
        waits[i] = waited ? waits[i]! + 1 : 0;
        if (!(job instanceof Slow)) expect(waits[i]).toBe(0);
        longest = Math.max(longest, waits[i]!);
      });
    }
    now.mockRestore();
    // Eight of them, two in a pass, none of which is passed over.
    expect(longest).toBeGreaterThan(1);
    expect(longest).toBeLessThanOrEqual(4);
    jobs.forEach((job, i) => {
      expect(job.answer, `request ${i}`).toEqual(expected[i]);
      const { tokens, ended } = expected[i]!;
      expect(job.rows, `request ${i}`).toBe(asked[i]!.promptIds.length + tokens.length - (ended === null ? 1 : 0));
      expect(job.cache).toBeNull();
    });
  });

  it('are let go of with what they wait with', () => {
    const clock = { ms: 1000 };
    const now = vi.spyOn(Date, 'now').mockImplementation(() => clock.ms);
    const options = { temperature: 0, num_predict: 20 };
    const jobs = [3, 4, 5].map((id) => new Slow(subject, { promptIds: [1, id], options }, clock, 200));
    const scheduler = new Scheduler(model, PLACES, CHUNK_TOKENS, poll, 100);
    for (const job of jobs) scheduler.add(job);
    scheduler.pass();
    scheduler.remove(jobs[1]!);
    for (let i = 0; i < 3; i++) scheduler.pass();
    expect(jobs.map((job) => job.written)).toEqual([2, 0, 2]);
    scheduler.close();
    expect(jobs.map((job) => job.cache)).toEqual([null, null, null]);
    now.mockRestore();
  });
});
