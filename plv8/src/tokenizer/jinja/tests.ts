/** Jinja's tests: what may stand after `is`. */
import { bind } from './arguments.ts';
import type { Budget } from './budget.ts';
import { Markup } from './markup.ts';
import { arithmetic, isCompared } from './operators.ts';
import { isSequence } from './sequences.ts';
import { Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import {
  Callable,
  Dict,
  DictView,
  Float,
  Generator,
  isEqual,
  isInteger,
  None,
  numberOf,
  TemplateError,
  Undefined,
} from './values.ts';

type Test = (value: Value, args: readonly Value[], budget: Budget) => boolean;

const isRest = (value: Value, by: Value, rest: number, budget: Budget): boolean =>
  isEqual(arithmetic('%', value, by, budget), rest, budget);

const compared =
  (operator: string): Test =>
  (value, [other], budget) =>
    isCompared(operator, value, other!, budget);

/** Values that are one object in Python: constants, small texts and numbers, and objects themselves. */
function isSame(a: Value, b: Value): boolean {
  if (a instanceof Text && b instanceof Text) return a.chars === b.chars;
  return a === b;
}

const TESTS: Readonly<Record<string, Test>> = {
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  none: (value) => value instanceof None,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  integer: isInteger,
  float: (value) => value instanceof Float,
  number: (value) => numberOf(value) !== undefined,
  string: (value) => value instanceof Text,
  mapping: (value) => value instanceof Dict,
  sequence: (value) => isSequence(value) || value instanceof Dict || value instanceof Undefined,
  iterable: (value) =>
    isSequence(value) ||
    value instanceof Dict ||
    value instanceof DictView ||
    value instanceof Generator ||
    value instanceof Undefined,
  callable: (value) => value instanceof Callable || value instanceof Undefined,
  lower: (value) => value instanceof Text && /\p{Ll}/u.test(value.chars) && !/[\p{Lu}\p{Lt}]/u.test(value.chars),
  upper: (value) => value instanceof Text && /\p{Lu}/u.test(value.chars) && !/[\p{Ll}\p{Lt}]/u.test(value.chars),
  odd: (value, _, budget) => isRest(value, 2, 1, budget),
  even: (value, _, budget) => isRest(value, 2, 0, budget),
  divisibleby: (value, [by], budget) => isRest(value, by!, 0, budget),
  escaped: (value) => value instanceof Markup,
  sameas: (value, [other]) => isSame(value, other!),
  in: compared('in'),
  '==': compared('=='),
  '!=': compared('!='),
  '<': compared('<'),
  '<=': compared('<='),
  '>': compared('>'),
  '>=': compared('>='),
};

const OTHER_NAMES: Readonly<Record<string, string>> = {
  eq: '==',
  equalto: '==',
  ne: '!=',
  lt: '<',
  lessthan: '<',
  le: '<=',
  gt: '>',
  greaterthan: '>',
  ge: '>=',
};

const WITH_ARGUMENT: ReadonlySet<string> = new Set(['divisibleby', 'sameas', 'in', '==', '!=', '<', '<=', '>', '>=']);

export function callTest(name: string, value: Value, args: Arguments, budget: Budget): boolean {
  const known = OTHER_NAMES[name] ?? name;
  const test = Object.hasOwn(TESTS, known) ? TESTS[known] : undefined;
  if (test === undefined) throw new TemplateError(`No test named '${name}'`);
  const given = WITH_ARGUMENT.has(known) ? bind(name, args, ['other'], 1) : bind(name, args, []);
  return test(value, given as Value[], budget);
}

export function isTest(name: Value): boolean {
  return name instanceof Text && (Object.hasOwn(TESTS, name.chars) || Object.hasOwn(OTHER_NAMES, name.chars));
}
