/** What is asked of a row of logits, one for each token of the vocabulary: the highest, the best k, their order, their total. */
import { raise, SQLSTATE } from '../errors.ts';

/** Place of the highest of n logits, the first among equals. Throws for a NaN, and when the highest is not finite. */
export function highest(logits: Float32Array, n: number): number {
  let best = 0;
  let maximum = -Infinity;
  for (let i = 0; i < n; i++) {
    const logit = logits[i]!;
    // One comparison a logit: true for what is higher, and for a NaN.
    if (!(logit <= maximum)) {
      if (logit !== logit) raise(SQLSTATE.dataCorrupted, `logit of token ${i} is not a number`);
      maximum = logit;
      best = i;
    }
  }
  if (maximum === -Infinity || maximum === Infinity) {
    raise(SQLSTATE.dataCorrupted, `highest logit is ${maximum}, expected a finite number`);
  }
  return best;
}

/** Logarithm of the sum of e^logit over the vocabulary: what a logit is above its log-probability. Throws as `highest`. */
export function logTotal(logits: Float32Array): number {
  const maximum = logits[highest(logits, logits.length)]!;
  return maximum + Math.log(sumOfExponents(logits, logits.length, maximum));
}

/** Table of e^(-i / EXP_STEPS); what lies further below the maximum than EXP_RANGE adds less than a rounding error. */
const EXP_RANGE = 40;
const EXP_STEPS = 128;
let exponents: Float64Array | null = null;

/** The table, made when it is used first: a session whose calls an engine computes never does. */
function exponentTable(): Float64Array {
  if (exponents !== null) return exponents;
  const table = new Float64Array(EXP_RANGE * EXP_STEPS + 1);
  for (let i = 0; i < table.length; i++) table[i] = Math.exp(-i / EXP_STEPS);
  return (exponents = table);
}

/** Sum of e^(logit - maximum): table value times the series of the rest, relative error below 2e-10 a term. */
export function sumOfExponents(logits: Float32Array, n: number, maximum: number): number {
  const table = exponentTable();
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const below = (maximum - logits[i]!) * EXP_STEPS;
    if (below < EXP_RANGE * EXP_STEPS) {
      const step = below | 0;
      const rest = (below - step) / EXP_STEPS;
      sum += table[step]! * (1 - rest * (1 - rest * (0.5 - rest / 6)));
    }
  }
  return sum;
}

/** Ids per sort key: a key is the value's rank bits times this plus the id, exact in a double. */
const KEY_IDS = 2 ** 21;

/** Fill `ids` with all places, highest value first, the lower place first among equals. */
export function sortAll(values: Float32Array, ids: Int32Array): void {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  const keys = new Float64Array(values.length);
  for (let i = 0; i < keys.length; i++) {
    // The bits of a float order like an integer, negative ones backwards; -0 equals 0.
    const pattern = values[i] === 0 ? 0 : bits[i]!;
    const ascending = pattern < 0 ? 0x7fffffff - (pattern & 0x7fffffff) : 0x7fffffff + pattern;
    keys[i] = (0xffffffff - ascending) * KEY_IDS + i;
  }
  keys.sort();
  for (let i = 0; i < keys.length; i++) ids[i] = keys[i]! % KEY_IDS;
}

/**
 * Write the places of the k highest values into `out`, best first, the lower place first among equals; how many. One
 * pass with a heap of k whose root is the worst kept.
 */
export function selectTop(values: Float32Array, k: number, out: Int32Array): number {
  const worse = (a: number, b: number): boolean => values[a]! < values[b]! || (values[a] === values[b] && a > b);
  const sink = (start: number, size: number): void => {
    const moved = out[start]!;
    let at = start;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && worse(out[child + 1]!, out[child]!)) child++;
      if (!worse(out[child]!, moved)) break;
      out[at] = out[child]!;
      at = child;
    }
    out[at] = moved;
  };
  for (let i = 0; i < k; i++) out[i] = i;
  for (let i = (k >> 1) - 1; i >= 0; i--) sink(i, k);
  let bar = values[out[0]!]!;
  for (let i = k; i < values.length; i++) {
    if (values[i]! > bar) {
      out[0] = i;
      sink(0, k);
      bar = values[out[0]!]!;
    }
  }
  for (let size = k - 1; size > 0; size--) {
    const worst = out[0]!;
    out[0] = out[size]!;
    out[size] = worst;
    sink(0, size);
  }
  return k;
}
