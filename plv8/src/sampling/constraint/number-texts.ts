/** Numbers: bounds, multiples and denied values at once. */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';
import { NUMBER_FORMATS } from './formats.ts';
import type { Component } from './machine.ts';
import { combine } from './machine.ts';
import type { NumberBounds } from './number-range.ts';
import { decimalsOf, numbersWithin } from './number-range.ts';
import type { Alternative, Leaf } from './schema-expansion.ts';
import { listedValues } from './schema-expansion.ts';
import { brief } from '../../format/visible-text.ts';
import { at, invalid, show } from './schema-keywords.ts';

/** Remainders that a machine counts; a larger multipleOf is listed multiple by multiple. */
const MAX_REMAINDERS = 10_000;

/** Multiples that are listed one by one, those nearest to zero. */
const MAX_LISTED = 4_000;

export function numberTexts(
  expressions: Expressions,
  leaves: Alternative,
  onlyIntegers: boolean,
  path: string,
): Expression {
  const bounds: NumberBounds = {
    integer: onlyIntegers,
    least: -Infinity,
    leastExcluded: false,
    most: Infinity,
    mostExcluded: false,
  };
  const multiples: number[] = [];
  const unwanted: (Expression | Component)[] = [];
  for (const leaf of leaves) {
    if (leaf.denied === undefined) {
      narrow(bounds, leaf);
      const step = multipleOf(leaf);
      if (step !== null) multiples.push(step);
      continue;
    }
    const step = leaf.denied === 'multipleOf' ? multipleOf(leaf) : null;
    if (step !== null && !Number.isInteger(step)) refuseMultiple(step, leaf.path);
    if (step !== null) unwanted.push(remainders(expressions, step));
    for (const value of listedValues(leaf.schema) ?? []) {
      if (typeof value === 'number') unwanted.push(spellings(expressions, value));
    }
  }
  // A multiple of an integer is an integer.
  if (multiples.some((step) => Number.isInteger(step))) bounds.integer = true;
  bounds.decimals = Math.max(0, ...multiples.map(decimalsOf));
  const range = numbersWithin(expressions, bounds);
  if (range === NEVER && leaves.length === 1) invalid(path, 'no number is within minimum and maximum');
  if (multiples.length === 0 && unwanted.length === 0) return range;
  const wanted = multiples.map((step) =>
    Number.isInteger(step) && step <= MAX_REMAINDERS
      ? remainders(expressions, step)
      : listed(expressions, step, bounds, path),
  );
  const found = combine(expressions, [range, ...wanted], unwanted);
  if (found === NEVER && leaves.length === 1) {
    invalid(path, `no multiple of ${brief(multiples.join(' and '))} is within minimum and maximum`);
  }
  return found;
}

function multipleOf({ schema, path }: Leaf): number | null {
  const step = schema.multipleOf;
  if (step === undefined) return null;
  if (typeof step !== 'number' || !Number.isFinite(step) || step <= 0) {
    invalid(path, `multipleOf must be a number greater than 0, got ${show(step)}`);
  }
  return step;
}

/** Take in the bounds of a leaf, the narrower of two on one side. */
function narrow(bounds: NumberBounds, { schema, path }: Leaf): void {
  const bound = (key: string): number | null => {
    const value = schema[key];
    if (value === undefined || typeof value === 'boolean') return null;
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      invalid(path, `${key} must be a number, got ${show(value)}`);
    }
    return value;
  };
  const from = (value: number | null, excluded: boolean): void => {
    if (value === null || value < bounds.least || (value === bounds.least && !excluded)) return;
    bounds.least = value;
    bounds.leastExcluded = excluded;
  };
  const to = (value: number | null, excluded: boolean): void => {
    if (value === null || value > bounds.most || (value === bounds.most && !excluded)) return;
    bounds.most = value;
    bounds.mostExcluded = excluded;
  };
  // Draft 4 says `true` for what later drafts give as a bound of its own.
  from(bound('minimum'), schema.exclusiveMinimum === true);
  from(bound('exclusiveMinimum'), true);
  to(bound('maximum'), schema.exclusiveMaximum === true);
  to(bound('exclusiveMaximum'), true);
  const format = typeof schema.format === 'string' ? schema.format : '';
  if (Object.hasOwn(NUMBER_FORMATS, format)) {
    const [least, most] = NUMBER_FORMATS[format]!;
    bounds.integer = true;
    from(least, false);
    to(most, false);
  }
}

/** Texts of integers, decimals of zeros allowed, that `step` divides: a state counts the remainder. */
function remainders(expressions: Expressions, step: number): Component {
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

/** The multiples nearest to zero, or to the bound that is, as far as division in doubles finds them to be ones. */
function listed(expressions: Expressions, step: number, bounds: NumberBounds, path: string): Expression {
  const decimals = decimalsOf(step);
  if (decimals > 9 || step > 1e14) refuseMultiple(step, path);
  const nearest = Math.min(Math.max(0, bounds.least), bounds.most);
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

/** The ways in which a number may be written. */
function spellings(expressions: Expressions, value: number): Expression {
  const zeros = expressions.repeat(expressions.literal('0'), 0, Infinity);
  const text = expressions.literal(String(value));
  if (Number.isInteger(value)) {
    return expressions.sequence(text, expressions.optional(expressions.sequence(expressions.literal('.'), zeros)));
  }
  return expressions.sequence(text, zeros);
}

function refuseMultiple(step: number, path: string): never {
  raise(SQLSTATE.featureNotSupported, `schema keyword "multipleOf" ${step} at ${at(path)} is not supported`);
}
