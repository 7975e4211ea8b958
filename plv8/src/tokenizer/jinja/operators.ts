/** Python's arithmetic, with whole numbers of any size. */
import type { Budget } from './budget.ts';
import { formatPercent } from './format.ts';
import { escapeText, Markup } from './markup.ts';
import { joinTexts, Text } from './text.ts';
import type { Value } from './values.ts';
import {
  compare,
  Dict,
  DictView,
  Float,
  Generator,
  integer,
  isEqual,
  isInteger,
  iterate,
  lengthOf,
  List,
  needDefined,
  numberOf,
  Range,
  TemplateError,
  Tuple,
  typeName,
  Undefined,
} from './values.ts';

/** Digits that a power may have. */
const MAX_POWER_DIGITS = 10_000;

export function arithmetic(operator: string, left: Value, right: Value, budget: Budget): Value {
  needDefined(left);
  if (operator === '%' && left instanceof Text) return formatPercent(left, right, budget);
  needDefined(right);
  if (operator === '+') {
    if (left instanceof Text && right instanceof Text) {
      budget.make(left.length + right.length);
      if (left instanceof Markup || right instanceof Markup)
        return new Markup(joinTexts([escapeText(left), escapeText(right)]));
      return joinTexts([left, right]);
    }
    if (left instanceof List && right instanceof List) return new List(joined(left, right, budget));
    if (left instanceof Tuple && right instanceof Tuple) return new Tuple(joined(left, right, budget));
  }
  if (operator === '*') {
    const repeated = repeat(left, right, budget) ?? repeat(right, left, budget);
    if (repeated !== undefined) return repeated;
  }
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a === undefined || b === undefined) {
    const sign = operator === '**' ? '** or pow()' : operator;
    throw new TemplateError(`unsupported operand type(s) for ${sign}: '${typeName(left)}' and '${typeName(right)}'`);
  }
  return left instanceof Float || right instanceof Float
    ? floats(operator, Number(a), Number(b))
    : integers(operator, a, b);
}

function joined(left: List | Tuple, right: List | Tuple, budget: Budget): Value[] {
  budget.makeList(left.items.length + right.items.length);
  return [...left.items, ...right.items];
}

function repeat(value: Value, by: Value, budget: Budget): Value | undefined {
  if (!(value instanceof Text || value instanceof List || value instanceof Tuple)) return undefined;
  if (!isInteger(by) && typeof by !== 'boolean') return undefined;
  const times = Math.max(0, Number(by));
  if (value instanceof Text) budget.make(times * value.length);
  else budget.makeList(times * value.items.length);
  if (times * lengthOf(value)! === 0) return value instanceof Text ? value.slice(0, 0) : repeated(value, 0);
  if (value instanceof Text)
    return value.spans.length === 0
      ? new Text(value.chars.repeat(times))
      : joinTexts(Array.from({ length: times }, () => value));
  return repeated(value, times);
}

function repeated(value: List | Tuple, times: number): Value {
  const items = Array.from({ length: times }, () => value.items).flat();
  return value instanceof List ? new List(items) : new Tuple(items);
}

function integers(operator: string, a: number | bigint, b: number | bigint): Value {
  if (typeof a === 'number' && typeof b === 'number') {
    const quick = operator === '+' ? a + b : operator === '-' ? a - b : operator === '*' ? a * b : NaN;
    if (Number.isSafeInteger(quick)) return quick + 0;
  }
  const [x, y] = [BigInt(a), BigInt(b)];
  switch (operator) {
    case '+':
      return integer(x + y);
    case '-':
      return integer(x - y);
    case '*':
      return integer(x * y);
    case '/':
      return new Float(Number(x) / nonZero(Number(y), 'division by zero'));
    case '//':
      return integer(floorDivide(x, y));
    case '%':
      return integer(x - y * floorDivide(x, y));
    default:
      return power(x, y);
  }
}

function power(x: bigint, y: bigint): Value {
  if (y < 0n) return new Float(Number(nonZero(x, '0.0 cannot be raised to a negative power')) ** Number(y));
  if (x > 1n || x < -1n) {
    if (y > MAX_POWER_DIGITS || String(x).length * Number(y) > MAX_POWER_DIGITS)
      throw new TemplateError(`${String(x)} ** ${String(y)} is too large`);
  } else return integer(x === -1n && y % 2n === 0n ? 1n : y === 0n ? 1n : x);
  return integer(x ** y);
}

function nonZero<Kind extends number | bigint>(value: Kind, otherwise: string): Kind {
  // eslint-disable-next-line eqeqeq -- 0 and 0n alike
  if (value == 0) throw new TemplateError(otherwise);
  return value;
}

function floorDivide(x: bigint, y: bigint): bigint {
  nonZero(y, 'integer division or modulo by zero');
  const quotient = x / y;
  return x % y !== 0n && x < 0n !== y < 0n ? quotient - 1n : quotient;
}

function floats(operator: string, a: number, b: number): Value {
  switch (operator) {
    case '+':
      return new Float(a + b);
    case '-':
      return new Float(a - b);
    case '*':
      return new Float(a * b);
    case '/':
      return new Float(a / nonZero(b, 'float division by zero'));
    case '//':
      return new Float(Math.floor(a / nonZero(b, 'float floor division by zero')));
    case '%': {
      const rest = a % nonZero(b, 'float modulo');
      return new Float(rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest);
    }
    default:
      return new Float(a ** b);
  }
}

export function negate(value: Value, operator: '-' | '+'): Value {
  needDefined(value);
  const number = numberOf(value);
  if (number === undefined) throw new TemplateError(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  if (value instanceof Float) return operator === '-' ? new Float(-value.value) : value;
  return operator === '-' ? integer(-BigInt(number)) : number;
}

export function isCompared(operator: string, left: Value, right: Value, budget: Budget): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right, budget);
    case '!=':
      return !isEqual(left, right, budget);
    case '<':
      return compare(left, right, operator, budget) < 0;
    case '<=':
      return compare(left, right, operator, budget) <= 0;
    case '>':
      return compare(left, right, operator, budget) > 0;
    case '>=':
      return compare(left, right, operator, budget) >= 0;
    case 'in':
      return contains(right, left, budget);
    default:
      return !contains(right, left, budget);
  }
}

export function contains(container: Value, value: Value, budget: Budget): boolean {
  if (container instanceof Text) {
    if (!(value instanceof Text)) {
      needDefined(value);
      throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(value)}`);
    }
    budget.charge(container.length / 64);
    return container.chars.includes(value.chars);
  }
  if (container instanceof Dict) return container.get(value) !== undefined;
  if (
    container instanceof List ||
    container instanceof Tuple ||
    container instanceof DictView ||
    container instanceof Generator ||
    container instanceof Range ||
    container instanceof Undefined
  )
    return iterate(container).some((item) => isEqual(item, value, budget));
  throw new TemplateError(`argument of type '${typeName(container)}' is not iterable`);
}
