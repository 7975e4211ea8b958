/**
 * What the model would have said without parts of its prompt (Li, Monroe and Jurafsky 2016,
 * https://arxiv.org/abs/1612.08220). A deletion closes up the positions behind it; what stands before it is not computed
 * again, so deleting each of n tokens costs about n / 2 passes over the sequence.
 */
import { Random } from '../generate/random.ts';
import type { KvCache, Model } from '../model/model.ts';
import { distribution } from './distribution.ts';
import type { Unit } from './units.ts';

/** A token explained: the one at `position + 1` of the sequence. */
export interface Asked {
  position: number;
  id: number;
}

/** Random deletions that a top deletion of several units is compared with. */
const RANDOM_DELETIONS = 8;
/** Of so many units one is deleted in the check. */
const UNITS_PER_DELETION = 10;

/** The sequence with parts of it deleted, in a cache that keeps as much of the original as it can. */
export class Deletions {
  /** Leading ids of the sequence that the cache holds in their own places. */
  private intact: number;

  /** `cache` holds the whole of `ids`; `asked` ascending, all behind the prompt's last token. */
  constructor(
    private readonly model: Model,
    private readonly ids: readonly number[],
    private readonly cache: KvCache,
    private readonly asked: readonly Asked[],
    private readonly poll: () => void,
  ) {
    this.intact = cache.length;
  }

  /**
   * Log-probability of each asked token with these units (ascending, apart) deleted; null where nothing is left before
   * it.
   */
  logprobsWithout(units: readonly Unit[]): (number | null)[] {
    const { ids, asked, model, cache, poll } = this;
    const gone = (position: number): boolean => units.some((unit) => position >= unit.from && position < unit.to);
    const last = asked[asked.length - 1]!.position;
    const left: number[] = []; // original positions
    for (let position = 0; position <= last; position++) if (!gone(position)) left.push(position);
    // Place of the position whose logits are wanted: the last one left at or before the asked one.
    const places = asked.map(({ position }) => lastAtOrBefore(left, position));
    const first = units[0]?.from ?? 0;
    // One token more than need be where the place wanted lies before the deletion.
    const wanted = places.filter((place) => place >= 0);
    if (wanted.length === 0) return asked.map(() => null);
    const start = Math.min(first, this.intact, ...wanted);
    cache.truncate(start);
    this.intact = start;
    const { dim, nLayers } = model.config;
    const streams = new Map<number, Float32Array>();
    const end = left.length - 1;
    const logits = model.forward(
      left.slice(start).map((position) => ids[position]!),
      cache,
      {
        poll,
        observer: {
          residual(layer, stream) {
            if (layer < nLayers) return;
            for (const place of wanted) {
              const at = place - cache.length;
              if (at >= 0 && (at + 1) * dim <= stream.length)
                streams.set(place, stream.slice(at * dim, (at + 1) * dim));
            }
          },
          attention: () => undefined,
        },
      },
    );
    this.intact = Math.min(first, cache.length);
    // Of the last place the logits are there; its buffer serves for the others afterwards.
    const found = new Map<number, number>();
    const read = (i: number, values: Float32Array): void => {
      found.set(i, distribution(values, asked[i]!.id, 0).logprob);
    };
    places.forEach((place, i) => {
      if (place === end) read(i, logits);
    });
    places.forEach((place, i) => {
      if (place >= 0 && place !== end) read(i, model.unembed(streams.get(place)!, poll));
    });
    return asked.map((_, i) => found.get(i) ?? null);
  }
}

function lastAtOrBefore(sorted: readonly number[], position: number): number {
  let at = sorted.length - 1;
  while (at >= 0 && sorted[at]! > position) at--;
  return at;
}

/** (units, asked) log-probabilities without each unit alone, from the last unit to the first so that prefixes are shared. */
export function leaveOneOut(deletions: Deletions, units: readonly Unit[]): (number | null)[][] {
  const without = new Array<(number | null)[]>(units.length);
  for (let u = units.length - 1; u >= 0; u--) without[u] = deletions.logprobsWithout([units[u]!]);
  return without;
}

/** Whether the attribution means anything: probability lost without the most influential units, and without others. */
export interface DeletionCheck {
  /** Units deleted together. */
  count: number;
  /** Probability lost without the top units. */
  topLost: number;
  /** Mean probability lost without as many others. */
  randomLost: number;
}

/**
 * For each asked token the check, or null where there are too few units. `logprobs` are those with everything there,
 * `without` what leaveOneOut gave.
 */
export function checkDeletions(
  deletions: Deletions,
  units: readonly Unit[],
  logprobs: readonly number[],
  without: readonly (number | null)[][],
): (DeletionCheck | null)[] {
  const count = Math.max(1, Math.round(units.length / UNITS_PER_DELETION));
  return logprobs.map((logprob, asked) => {
    if (units.length < 2 * count) return null;
    const lost = (left: number | null | undefined): number => Math.exp(logprob) - Math.exp(left ?? logprob);
    const order = units.map((_, u) => u).sort((a, b) => lost(without[b]![asked]) - lost(without[a]![asked]) || a - b);
    const top = order.slice(0, count);
    const others = order.slice(count);
    if (count === 1) {
      const sum = others.reduce((total, u) => total + lost(without[u]![asked]), 0);
      return { count, topLost: lost(without[top[0]!]![asked]), randomLost: sum / others.length };
    }
    const together = (chosen: readonly number[]): number =>
      lost(deletions.logprobsWithout([...chosen].sort((a, b) => a - b).map((u) => units[u]!))[asked]);
    const random = new Random(asked);
    let sum = 0;
    for (let i = 0; i < RANDOM_DELETIONS; i++) sum += together(drawn(others, count, random));
    return { count, topLost: together(top), randomLost: sum / RANDOM_DELETIONS };
  });
}

/** `count` different members of `from`. */
function drawn(from: readonly number[], count: number, random: Random): number[] {
  const pool = [...from];
  return Array.from({ length: count }, () => pool.splice(Math.floor(random.next() * pool.length), 1)[0]!);
}
