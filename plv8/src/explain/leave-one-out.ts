/**
 * What the model would have said without parts of its prompt (Li, Monroe and Jurafsky 2016,
 * https://arxiv.org/abs/1612.08220). A deletion closes up the positions behind it; what stands before it is not computed
 * again, so deleting each of n tokens costs about n / 2 passes over the sequence.
 */
import { HartonomousError, SQLSTATE } from '../errors.ts';
import { Random } from '../sampling/random.ts';
import type { KvCache, Model, Step } from '../model/model.ts';
import { logprobOf } from './distribution.ts';
import type { Unit } from './units.ts';

/** A token explained: the one at `position + 1` of the sequence. */
export interface Asked {
  position: number;
  id: number;
}

/** Parts of the prompt left out together, and the tokens whose log-probabilities without them are wanted. */
export interface Deletion {
  /** Ascending, apart. */
  units: readonly Unit[];
  /** Ascending, none before the prompt's last position. */
  asked: readonly Asked[];
}

/** Random deletions that the top deletion is compared with. */
const RANDOM_DELETIONS = 3;
/** Of so many parts one is deleted in the check, and never fewer than two: what was deleted alone is known already. */
const PARTS_PER_DELETION = 10;
const LEAST_DELETED = 2;
/** Tokens that are made ready for the model at once, about. */
const LOT_TOKENS = 8192;
/** A sequence's cache is copied for deletions where it takes no more. */
const MAX_COPY_BYTES = 64 * 1024 * 1024;

/** A copy of a cache that deletions write over; null where that would take too much memory, or more than there is. */
export function copyForDeletions(model: Model, cache: KvCache, poll: () => void): KvCache | null {
  if (cache.bytes > MAX_COPY_BYTES) return null;
  const copy = model.newCache(cache.limit);
  try {
    copy.copyFrom(cache, cache.length, poll);
    return copy;
  } catch (error) {
    copy.free();
    if (error instanceof HartonomousError && error.sqlerrcode === SQLSTATE.outOfMemory) return null;
    throw error;
  }
}

/** The sequence with parts of it deleted, in a cache that keeps as much of the original as it can. */
export class Deletions {
  /** Leading ids of the sequence that the cache holds in their own places. */
  private intact: number;

  /**
   * `cache` holds the whole of `ids`, or all but the last of them. `copy` holds what it does: from there it has what deletions have
   * written over, which is computed again where there is none.
   */
  constructor(
    private readonly model: Model,
    private readonly ids: readonly number[],
    private readonly cache: KvCache,
    private readonly poll: () => void,
    private readonly copy: KvCache | null = null,
  ) {
    this.intact = cache.length;
  }

  /**
   * (deletions, asked) log-probability of each asked token; null where nothing is left before it. The deletions that
   * leave most of the beginning come first, so that one cache serves all of them, and they go through the model together.
   */
  logprobs(deletions: readonly Deletion[]): (number | null)[][] {
    const found = deletions.map(({ asked }) => asked.map((): number | null => null));
    const order = deletions
      .map((deletion, index) => ({ index, start: startOf(deletion) }))
      .filter((one): one is { index: number; start: number } => one.start !== null)
      .sort((a, b) => b.start - a.start);
    for (let next = 0; next < order.length;) {
      const lot: typeof order = [];
      for (let tokens = 0; next < order.length && tokens < LOT_TOKENS; next++) {
        lot.push(order[next]!);
        tokens += this.ids.length - order[next]!.start;
      }
      this.compute(lot, deletions, found);
    }
    return found;
  }

  /** Have the cache hold the first `length` ids again. */
  private restore(length: number): void {
    const { model, cache, poll, ids, copy } = this;
    cache.truncate(this.intact);
    // Keys that were rotated otherwise are of no use.
    if (copy !== null && copy.far === cache.far && copy.length > this.intact) {
      const copied = Math.min(length, copy.length);
      cache.copyFrom(copy, copied, poll, this.intact);
      this.intact = copied;
    }
    if (length > this.intact) model.fill(ids.slice(this.intact, length), cache, { poll });
    this.intact = length;
  }

  private compute(
    lot: readonly { index: number; start: number }[],
    deletions: readonly Deletion[],
    found: (number | null)[][],
  ): void {
    const { model, cache, poll } = this;
    const most = lot[0]!.start;
    if (most > this.intact) this.restore(most);
    const steps: Step[] = [];
    const shown: Set<number>[] = [];
    for (const { index, start } of lot) {
      const { units, asked } = deletions[index]!;
      steps.push({ ids: this.shortened(units, start, asked[asked.length - 1]!.position), cache, start });
      shown.push(new Set(asked.map((one) => placeOf(one, units) - start)));
    }
    model.forwardEach(steps, { poll, shown }, (step, place, logits) => {
      const { index, start } = lot[step]!;
      const { units, asked } = deletions[index]!;
      asked.forEach((one, i) => {
        if (placeOf(one, units) - start === place) found[index]![i] = logprobOf(logits, one.id);
      });
    });
    this.intact = lot[lot.length - 1]!.start;
  }

  /** Ids of positions [from, last] that are in none of the units. */
  private shortened(units: readonly Unit[], from: number, last: number): number[] {
    const left: number[] = [];
    let next = from;
    for (const unit of units) {
      while (next < unit.from) left.push(this.ids[next++]!);
      next = Math.max(next, unit.to);
    }
    while (next <= last) left.push(this.ids[next++]!);
    return left;
  }
}

/** Place in the shortened sequence of the position before an asked token; negative when nothing is left there. */
function placeOf({ position }: Asked, units: readonly Unit[]): number {
  return units.reduce((place, { from, to }) => place - (to - from), position);
}

/**
 * Leading ids that need not be computed again: those before the deletion, or one less where its logits are wanted. Null
 * where nothing is left before any asked token.
 */
function startOf({ units, asked }: Deletion): number | null {
  const places = asked.map((one) => placeOf(one, units)).filter((place) => place >= 0);
  return places.length === 0 ? null : Math.min(units[0]!.from, ...places);
}

/** (units, asked) log-probabilities without each unit alone. */
export function leaveOneOut(
  deletions: Deletions,
  units: readonly Unit[],
  asked: readonly Asked[],
): (number | null)[][] {
  return deletions.logprobs(units.map((unit) => ({ units: [unit], asked })));
}

/** Whether the attribution means anything: probability lost without the most influential parts together, and without others. */
export interface DeletionCheck {
  /** Parts deleted together. */
  count: number;
  /** Probability lost without the top parts. */
  topLost: number;
  /** Mean probability lost without as many others. */
  randomLost: number;
}

/**
 * For each asked token the check, or null where there are too few parts. `logprobs` (asked) are those with everything
 * there, `without` (parts, asked) those without each part alone. The check deletes parts together, which nobody has
 * measured before, so it may turn out that the top ones cost less.
 */
export function checkDeletions(
  deletions: Deletions,
  parts: readonly (readonly Unit[])[],
  asked: readonly Asked[],
  logprobs: readonly number[],
  without: readonly (readonly (number | null)[])[],
): (DeletionCheck | null)[] {
  const count = Math.max(LEAST_DELETED, Math.round(parts.length / PARTS_PER_DELETION));
  if (parts.length < 2 * count) return asked.map(() => null);
  const lost = (a: number, left: number | null): number => Math.exp(logprobs[a]!) - Math.exp(left ?? logprobs[a]!);
  const together = asked.flatMap((one, a) => {
    const order = [...parts.keys()].sort((p, q) => lost(a, without[q]![a]!) - lost(a, without[p]![a]!) || p - q);
    const random = new Random(a);
    const others = order.slice(count);
    const sets = [
      order.slice(0, count),
      ...Array.from({ length: RANDOM_DELETIONS }, () => drawn(others, count, random)),
    ];
    return sets.map((set) => ({ units: set.sort((p, q) => p - q).flatMap((p) => parts[p]!), asked: [one] }));
  });
  const left = deletions.logprobs(together).map(([logprob]) => logprob!);
  return asked.map((_, a) => {
    const [topLost, ...randomLost] = left
      .slice(a * (1 + RANDOM_DELETIONS), (a + 1) * (1 + RANDOM_DELETIONS))
      .map((logprob) => lost(a, logprob));
    return { count, topLost: topLost!, randomLost: randomLost.reduce((sum, each) => sum + each, 0) / RANDOM_DELETIONS };
  });
}

/** `count` different members of `from`. */
function drawn(from: readonly number[], count: number, random: Random): number[] {
  const pool = [...from];
  return Array.from({ length: count }, () => pool.splice(Math.floor(random.next() * pool.length), 1)[0]!);
}
