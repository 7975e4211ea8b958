/** Numbers: bounds, multiples and denied values at once. */
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';
import { NUMBER_FORMATS } from './formats.ts';
import type { Component } from './machine.ts';
import { combine } from './machine.ts';
import type { NumberBounds } from './number-range.ts';
import { refuseMultiple, remainders, multiplesOf } from './number-multiples.ts';
import { decimalsOf, numbersWithin } from './number-range.ts';
import type { Alternative, Leaf } from './schema-expansion.ts';
import { listedValues } from './schema-expansion.ts';
import { brief } from '../../format/visible-text.ts';
import { inPlace, invalid, show } from './schema-keywords.ts';

/** Of smaller ones no multiple but 0 has few enough digits. */
const LEAST_MULTIPLE = 1e-9;

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
  const range = inPlace(path, () => numbersWithin(expressions, bounds));
  if (range === NEVER && leaves.length === 1) invalid(path, 'no number is within minimum and maximum');
  if (multiples.length === 0 && unwanted.length === 0) return range;
  const wanted = multiples.map((step) => multiplesOf(expressions, step, bounds, path));
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
  if (step < LEAST_MULTIPLE) refuseMultiple(step, path);
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

/** The ways in which a number may be written. */
function spellings(expressions: Expressions, value: number): Expression {
  const zeros = expressions.repeat(expressions.literal('0'), 0, Infinity);
  const text = expressions.literal(String(value));
  if (Number.isInteger(value)) {
    return expressions.sequence(text, expressions.optional(expressions.sequence(expressions.literal('.'), zeros)));
  }
  return expressions.sequence(text, zeros);
}
