/** Multiples of a number. A text is one of them where a division in doubles says so, which is how validators ask. */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';
import type { Component } from './machine.ts';
import type { NumberBounds } from './number-range.ts';
import { decimalsOf } from './number-range.ts';
import { at } from './schema-keywords.ts';

/** Remainders that a machine counts; a larger multipleOf is listed multiple by multiple. */
const MAX_REMAINDERS = 10_000;

/** Multiples that are listed one by one, those nearest to zero. */
const MAX_LISTED = 4_000;

/** Numbers that are tried one by one for a multipleOf with decimals. */
const MAX_TRIED = 1_000_000;

/** Whole parts before such decimals. */
const MAX_WHOLE = 10_000;

/** Texts of the multiples of `step`, which stand beside those within the bounds. */
export function multiplesOf(
  expressions: Expressions,
  step: number,
  bounds: NumberBounds,
  path: string,
): Expression | Component {
  if (Number.isInteger(step) && step <= MAX_REMAINDERS) return remainders(expressions, step);
  const decimals = decimalsOf(step);
  if (decimals > 9 || step > 1e14) refuseMultiple(step, path);
  const whole = Math.min(MAX_WHOLE, MAX_TRIED / 10 ** decimals);
  const nearest = nearestToZero(bounds);
  if (decimals === 0 || whole < 1 || Math.abs(nearest) >= whole) return listed(expressions, step, nearest, bounds);
  return decimalMultiples(expressions, step, decimals, whole);
}

/** Texts of integers, decimals of zeros allowed, that `step` divides: a state counts the remainder. */
export function remainders(expressions: Expressions, step: number): Component {
  // 0 is NEVER; then start, after the sign, after the point with and without remainder; then the remainders.
  const [START, SIGN, ZEROS, FIRST] = [1, 2, 3, 4] as const;
  const classes = expressions.partitions.partition((byte) => {
    const digit = byte - 0x30;
    if (digit >= 0 && digit <= 9) return String(digit % step) + (digit === 0 ? 'z' : '');
    return byte === 0x2d ? '-' : byte === 0x2e ? '.' : '';
  });
  const digits = (remainder: number, byte: number): number =>
    byte >= 0x30 && byte <= 0x39 ? FIRST + ((remainder * 10 + byte - 0x30) % step) : NEVER;
  return {
    start: START,
    next(state, byte) {
      if (state === START) return byte === 0x2d ? SIGN : digits(0, byte);
      if (state === SIGN) return digits(0, byte);
      if (state === ZEROS) return byte === 0x30 ? ZEROS : NEVER;
      // Decimals that are not zero make no integer.
      if (byte === 0x2e) return state === FIRST ? ZEROS : NEVER;
      return digits(state - FIRST, byte);
    },
    accepts: (state) => state === FIRST || state === ZEROS,
    classes: () => classes,
  };
}

/**
 * Decimals up to `whole` that a division finds to be multiples; beyond them integers, where one divided by `step` is one. A
 * state is what stands before the point, or a tree of what may stand behind it, of which equal ones are one.
 */
function decimalMultiples(expressions: Expressions, step: number, decimals: number, whole: number): Component {
  const scale = 10 ** decimals;
  const isMultiple = (scaled: number): boolean => Number.isInteger(scaled / scale / step);
  const [START, SIGN, LARGE, FIRST] = [1, 2, 3, 4] as const;
  const END = FIRST + whole;
  const trees: { accepting: boolean; next: readonly number[] }[] = [{ accepting: true, next: [] }]; // numbered from END on
  const known = new Map<string | number, number>();
  /** Decimals from one place on, as a state; NEVER where none leads to a multiple. */
  const tree = (scaled: number, place: number): number => {
    const accepting = place > 0 && isMultiple(scaled);
    const unit = 10 ** (decimals - place - 1);
    const isLast = unit === 1;
    let multiples = 0; // of the last decimals, as bits
    const next: number[] = [];
    for (let digit = 0; digit < 10; digit++) {
      if (isLast) multiples |= isMultiple(scaled + digit) ? 1 << digit : 0;
      else next.push(tree(scaled + digit * unit, place + 1));
    }
    const key = isLast ? multiples * 2 + Number(accepting) : `${accepting},${next.join()}`;
    let state = known.get(key);
    if (state === undefined) {
      if (isLast) for (let digit = 0; digit < 10; digit++) next.push((multiples >> digit) & 1 ? END : NEVER);
      const isDead = !accepting && next.every((to) => to === NEVER);
      known.set(key, (state = isDead ? NEVER : END + trees.push({ accepting, next }) - 1));
    }
    return state;
  };
  const large = dividesIntegers(step, scale) ? LARGE : NEVER;
  const classes = expressions.partitions.partition((byte) =>
    (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x2e ? String(byte) : '',
  );
  const digits = (before: number, byte: number): number => {
    if (byte < 0x30 || byte > 0x39) return NEVER;
    const value = before * 10 + byte - 0x30;
    return value < whole ? FIRST + value : large;
  };
  return {
    start: START,
    next(state, byte) {
      if (state === START && byte === 0x2d) return SIGN;
      if (state <= SIGN) return digits(0, byte);
      if (state === LARGE) return digits(whole, byte);
      if (state < END) return byte === 0x2e ? tree((state - FIRST) * scale, 0) : digits(state - FIRST, byte);
      return trees[state - END]!.next[byte - 0x30] ?? NEVER;
    },
    accepts(state) {
      if (state >= END) return trees[state - END]!.accepting;
      return state === LARGE || (state >= FIRST && isMultiple((state - FIRST) * scale));
    },
    classes: () => classes,
  };
}

/** Whether `integer / step` is exact for all integers: 1 / step is one, and the double that stands for `step` is near enough. */
function dividesIntegers(step: number, scale: number): boolean {
  const units = Math.round(step * scale);
  if (scale % units !== 0) return false;
  // step = units / scale * (1 + error), |error| <= 2 ** -54: then the quotient is rounded to the integer.
  const exact = BigInt(units) << 80n;
  const error = BigInt(step * 2 ** 80) * BigInt(scale) - exact;
  return (error < 0n ? -error : error) << 54n <= exact;
}

function nearestToZero({ least, most }: NumberBounds): number {
  return Math.min(Math.max(0, least), most);
}

/** The multiples nearest to zero, or to the bound that is, as far as division in doubles finds them to be ones. */
function listed(expressions: Expressions, step: number, nearest: number, bounds: NumberBounds): Expression {
  const decimals = decimalsOf(step);
  const first = Math.round(nearest / step);
  const texts: Expression[] = [];
  for (let i = 0; i < MAX_LISTED; i++) {
    // 0, 1, -1, 2, -2, ...
    const value = Number(((first + (i % 2 === 1 ? (i + 1) / 2 : -i / 2)) * step).toFixed(decimals));
    if (value < bounds.least || value > bounds.most || !Number.isInteger(value / step)) continue;
    texts.push(expressions.literal(decimals === 0 ? String(value) : value.toFixed(decimals).replace(/\.?0+$/, '')));
  }
  return expressions.any(texts);
}

export function refuseMultiple(step: number, path: string): never {
  raise(SQLSTATE.featureNotSupported, `schema keyword "multipleOf" ${step} at ${at(path)} is not supported`);
}
