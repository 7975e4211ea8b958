/**
 * Many answers at a time out of one model. Requests come and go between any two passes over the weights; a pass takes the
 * next token of every answer and, beside them, a piece of the prompts that are still to be read. What a request gets is what
 * it would get alone, to the last bit: it has its own sampler, grammar, stop strings and cache, and the bits of a row do not
 * depend on the rows beside it.
 */
import { commonPrefix } from '../backend/caches.ts';
import { HartonomousError, SQLSTATE } from '../errors.ts';
import type { Intervention } from '../model/intervention.ts';
import type { KvCache, Model } from '../model/model.ts';
import type { Continuation, Step } from '../sampling/continuation.ts';
import { divideRows } from './divide-rows.ts';
import { Priorities } from './priorities.ts';

/** What is computed for a request. */
export interface Task {
  readonly continuation: Continuation;
  readonly intervention: Intervention | undefined;
}

/** A request, as it is asked and told by the scheduler. Errors that it throws are its own, but for those of `fail`. */
export interface Job {
  /** Whose it is. Of several owners that wait for a place the one with the fewest gets it. */
  readonly owner?: string;
  /** Higher gets a place first; 0 where there is none. */
  readonly priority?: number;
  /** Whether `openCache` may give what another request of the owner, which says the same, has read. */
  readonly sharesBeginning?: boolean;
  /** There is a place: what there is to compute, or null where nothing is. Called once. */
  begin(): Task | null;
  /**
   * A cache for a sequence that goes on after these ids, of which it may hold leading ones, but not all. Called again where
   * its memory was needed for another request. Throws outOfMemory.
   */
  openCache(ids: readonly number[]): KvCache;
  /** Take back what `openCache` gave. */
  closeCache(cache: KvCache): void;
  /** So many of its ids are about to be computed. */
  onRows?(rows: number): void;
  /** The prompt was read; its first token is about to be chosen. */
  onRead?(): void;
  /** Whether choosing its tokens may take long, so that it waits for a later pass where others did in this one. */
  readonly choosesSlowly?: boolean;
  /** Have `work` choose its next token; may throw rather than let that take too long. */
  choose?(work: () => Step): Step;
  /** A step was taken. */
  onStep?(step: Step): void;
  /** Whether no more steps are wanted, though the answer may go on. Asked after each step. */
  isEnough?(): boolean;
  /** The last step was taken; the cache was closed before. */
  end(): void;
  /** It ends without an answer; its cache was closed before. What this throws ends the pass. */
  fail(error: unknown): void;
}

interface Waiting {
  readonly job: Job;
  /** Null for one that has not begun. */
  readonly task: Task | null;
  /** It had a place, or was offered one, when there was no memory: it comes before all others. */
  readonly isFirst?: boolean;
}

interface Running {
  readonly job: Job;
  readonly task: Task;
  readonly cache: KvCache;
}

/** One that waits until another has read what both begin with, rather than reading it as well. */
interface Following extends Waiting {
  readonly task: Task;
  readonly leader: Running;
  /** Ids that they begin with. */
  readonly common: number;
}

/** Ids of one of them that a pass computes; `whole` is how many it will have in all. */
interface Taking {
  readonly who: Running;
  readonly ids: number[];
  readonly whole: number;
}

/** How one of them came to its end in a pass. */
interface Ending {
  readonly who: Running;
  readonly failed: boolean;
  readonly error?: unknown;
}

/** Ids that another is about to read, for which it is worth waiting. */
const WORTH_WAITING = 64;

const NONE: ReadonlySet<number> = new Set();

function isOutOfMemory(error: unknown): boolean {
  return error instanceof HartonomousError && error.sqlerrcode === SQLSTATE.outOfMemory;
}

export class Scheduler {
  /** Who comes next first. */
  private waiting: Waiting[] = [];
  /** Who came first first. */
  private running: Running[] = [];
  private following: Following[] = [];
  private readonly priorities = new Priorities();
  /** Memory ran short: nobody is let in until somebody leaves. */
  private isFull = false;
  /** Logits (vocabSize) that wait to be chosen from, the first of them for the longest. */
  private readonly held = new Map<Running, Float32Array>();
  /** Milliseconds for which tokens that are chosen slowly were chosen in this pass. */
  private chosenMs = 0;

  /**
   * Computes up to `places` requests at a time. A pass takes `rows` ids: CHUNK_TOKENS, of which a reasonable number of places
   * leaves half to prompts, go over the weights once; Infinity takes prompts whole, where nobody waits for a next token.
   * After `choosingMs` of them a pass leaves tokens that are chosen slowly to the next one.
   */
  constructor(
    private readonly model: Model,
    private readonly places: number,
    private readonly rows: number,
    private readonly poll: () => void,
    private readonly choosingMs = Infinity,
  ) {}

  /** Requests that have not come to their end. */
  get size(): number {
    return this.waiting.length + this.following.length + this.running.length;
  }

  add(job: Job): void {
    this.waiting.push({ job, task: null });
  }

  /** Let go of a request that nobody waits for any more; its place is free for the next pass. It is told nothing. */
  remove(job: Job): void {
    this.waiting = this.waiting.filter((other) => other.job !== job);
    this.following = this.following.filter((other) => other.job !== job);
    const who = this.running.find((other) => other.job === job);
    if (who !== undefined) this.leave(who);
  }

  /** Let go of all of them. */
  close(): void {
    this.waiting = [];
    this.following = [];
    for (const who of this.running) this.leave(who);
  }

  /**
   * One pass of at most `rows` ids. Whether there is more to do. Where `poll` throws in the midst of
   * it, what was complete stays, and the next pass goes on from there.
   */
  pass(): boolean {
    this.chosenMs = 0;
    this.chooseHeld();
    this.letIn();
    const taking = this.divide()
      .map(({ who, rows }) => {
        const { cache, task } = who;
        const { history } = task.continuation;
        return { who, ids: history.slice(cache.length, cache.length + rows), whole: history.length };
      })
      .filter(({ ids }) => ids.length > 0);
    if (taking.length > 0) this.forward(taking);
    return this.size > 0;
  }

  private forward(taking: readonly Taking[]): void {
    const sequences = taking.map(({ who, ids, whole }) => {
      const { cache, task } = who;
      return { ids, cache, whole, intervention: task.intervention };
    });
    const shown = sequences.map(({ ids, cache, whole }) =>
      cache.length + ids.length === whole ? new Set([ids.length - 1]) : NONE,
    );
    for (const { who, ids } of taking) who.job.onRows?.(ids.length);
    const endings: Ending[] = [];
    this.model.forwardEach(sequences, { poll: this.poll, shown }, (i, _index, logits) => {
      this.poll();
      const { who } = taking[i]!;
      if (who.job.choosesSlowly === true && this.chosenMs >= this.choosingMs) {
        this.held.set(who, logits.slice());
        return;
      }
      const ending = this.choose(who, logits);
      if (ending !== null) endings.push(ending);
    });
    this.finish(endings);
  }

  /** Choose from the logits of passes before, who has waited longest first. */
  private chooseHeld(): void {
    for (const [who, logits] of this.held) {
      if (this.chosenMs >= this.choosingMs) break;
      this.poll();
      this.held.delete(who);
      const ending = this.choose(who, logits);
      if (ending !== null) this.finish([ending]);
    }
  }

  private finish(endings: readonly Ending[]): void {
    for (const { who } of endings) this.leave(who);
    for (const { who, failed, error } of endings) {
      if (failed) who.job.fail(error);
      else who.job.end();
    }
  }

  /** Have waiting requests begin while there are places and memory for them. */
  private letIn(): void {
    this.endFollowing();
    while (!this.isFull && this.running.length < this.places && this.waiting.length > 0) {
      const { job, task: begun } = this.takeNext();
      try {
        const task = begun ?? job.begin();
        if (task === null) continue;
        const following = this.leaderOf(job, task);
        if (following !== null) {
          this.following.push(following);
          continue;
        }
        const cache = this.openCache(job, task);
        if (cache !== null) this.running.push({ job, task, cache });
      } catch (error) {
        job.fail(error);
      }
    }
  }

  /** Those whose leader has read what they begin with, or has left, wait for a place, before others of their owner. */
  private endFollowing(): void {
    const isOver = ({ leader, common }: Following): boolean =>
      leader.cache.length >= common || !this.running.includes(leader);
    const over = this.following.filter(isOver);
    const at = this.waiting.findIndex(({ isFirst }) => isFirst !== true);
    this.waiting.splice(at < 0 ? this.waiting.length : at, 0, ...over);
    this.following = this.following.filter((each) => !isOver(each));
  }

  /** Whom a request is to follow, if anybody is about to read enough of what it begins with. */
  private leaderOf(job: Job, task: Task): Following | null {
    if (job.sharesBeginning !== true) return null;
    const ids = task.continuation.history;
    for (const leader of this.running) {
      if (leader.job.sharesBeginning !== true || leader.job.owner !== job.owner) continue;
      const { history } = leader.task.continuation;
      if (this.model.isFar(history.length) !== this.model.isFar(ids.length)) continue;
      const common = commonPrefix(ids, history, ids.length);
      if (common >= leader.cache.length + WORTH_WAITING) return { job, task, leader, common };
    }
    return null;
  }

  /** Of those that wait: who is first for want of memory, else by priority, and who came first of the owner with the fewest places. */
  private takeNext(): Waiting {
    const places = new Map<string | undefined, number>();
    for (const { job } of this.running) places.set(job.owner, (places.get(job.owner) ?? 0) + 1);
    const heldBy = ({ job }: Waiting): number => places.get(job.owner) ?? 0;
    let next = this.waiting[0]!;
    if (next.isFirst !== true) {
      const candidates = this.priorities.next(this.waiting, ({ job }) => job.priority ?? 0);
      next = candidates.reduce((fewest, each) => (heldBy(each) < heldBy(fewest) ? each : fewest));
    }
    return this.waiting.splice(this.waiting.indexOf(next), 1)[0]!;
  }

  /** Null where there is no memory now, but may be later: then it waits, before all others. */
  private openCache(job: Job, task: Task): KvCache | null {
    try {
      return job.openCache(task.continuation.history);
    } catch (error) {
      if (!isOutOfMemory(error) || this.running.length === 0) throw error;
      this.waiting.unshift({ job, task, isFirst: true });
      this.isFull = true;
      return null;
    }
  }

  /** Rows that each of the running requests gets in the next pass, for which its cache has room; whose logits are held gets none. */
  private divide(): { who: Running; rows: number }[] {
    for (;;) {
      const active = this.running.filter((who) => !this.held.has(who));
      const rows = divideRows(
        active.map(({ task: { continuation }, cache }) => {
          const { history, tokens } = continuation;
          // The last id is computed again where a pass was cut off before its logits were seen.
          if (!this.model.suits(cache, history.length)) cache.truncate(0);
          cache.truncate(history.length - 1);
          const pending = history.length - cache.length;
          return { pending, writing: pending === 1 && tokens.length > 0 };
        }),
        this.rows,
      );
      if (active.every((who, i) => this.hasRoom(who, rows[i]!)))
        return active.map((who, i) => ({ who, rows: rows[i]! }));
    }
  }

  /**
   * Take memory for so many ids more. Where there is none, false: then who came last waits for another's end and is computed
   * again from its beginning, or this one has failed, because nobody else could make room.
   */
  private hasRoom(who: Running, rows: number): boolean {
    try {
      who.cache.reserve(who.cache.length + rows, this.poll);
      return true;
    } catch (error) {
      if (!(error instanceof HartonomousError)) throw error;
      const last = this.running.at(-1)!;
      if (isOutOfMemory(error) && this.running.length > 1) {
        this.leave(last);
        this.waiting.unshift({ job: last.job, task: last.task, isFirst: true });
        this.isFull = true;
      } else {
        this.leave(who);
        who.job.fail(error);
      }
      return false;
    }
  }

  /** Choose the next token of an answer; how it ended, or null where it goes on. */
  private choose(who: Running, logits: Float32Array): Ending | null {
    const { job, task } = who;
    const since = Date.now();
    try {
      if (task.continuation.tokens.length === 0) job.onRead?.();
      const next = (): Step => task.continuation.next(logits);
      const step = job.choose === undefined ? next() : job.choose(next);
      job.onStep?.(step);
      return step.doneReason === null && job.isEnough?.() !== true ? null : { who, failed: false };
    } catch (error) {
      return { who, failed: true, error };
    } finally {
      if (job.choosesSlowly === true) this.chosenMs += Date.now() - since;
    }
  }

  private leave(who: Running): void {
    this.running = this.running.filter((other) => other !== who);
    this.held.delete(who);
    this.isFull = false;
    who.job.closeCache(who.cache);
  }
}
