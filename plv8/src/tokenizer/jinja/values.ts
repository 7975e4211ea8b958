/**
 * Values of a template as Python has them. Whole numbers are JavaScript's numbers while those are exact and bigint beyond;
 * other numbers are Float, so that 1.0 stays apart from 1.
 */
import { writtenNumber } from '../../format/ordered-json.ts';
import type { Budget } from './budget.ts';
import { Text } from './text.ts';

/** What Python would raise; the message is the template's fault. */
export class TemplateError extends Error {}

/** Python's None; an object of its own, so that `??` tells it from what is not there. */
export class None {
  readonly name = 'None';
}

export const NONE = new None();

export class Float {
  constructor(readonly value: number) {}
}

/** Something that is not there; almost every use of it but printing and testing is an error. */
export class Undefined {
  constructor(readonly reason: string) {}
}

export class List {
  constructor(readonly items: Value[]) {}
}

export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

export class Range {
  constructor(
    readonly start: number,
    readonly stop: number,
    readonly step: number,
  ) {}

  get length(): number {
    return Math.max(0, Math.ceil((this.stop - this.start) / this.step));
  }

  at(index: number): number {
    return this.start + index * this.step;
  }
}

/** A dict; keys that are equal in Python have the same hash. */
export class Dict {
  readonly entries = new Map<string, readonly [key: Value, value: Value]>();

  get(key: Value): Value | undefined {
    return this.entries.get(hashOf(key))?.[1];
  }

  set(key: Value, value: Value): void {
    const hash = hashOf(key);
    // As in Python, the key that came first stays.
    this.entries.set(hash, [this.entries.get(hash)?.[0] ?? key, value]);
  }

  keys(): Value[] {
    return Array.from(this.entries.values(), ([key]) => key);
  }

  values(): Value[] {
    return Array.from(this.entries.values(), ([, value]) => value);
  }

  items(): Value[] {
    return Array.from(this.entries.values(), ([key, value]) => new Tuple([key, value]));
  }
}

/** dict.keys(), values(), items(): has a length and can be gone through again, but not indexed. */
export class DictView {
  constructor(
    readonly kind: 'keys' | 'values' | 'items',
    readonly dict: Dict,
  ) {}

  get items(): Value[] {
    return this.dict[this.kind]();
  }
}

/** A generator: can be gone through once and has no length. */
export class Generator {
  private rest: readonly Value[] | null;

  constructor(
    items: readonly Value[],
    readonly kind = 'generator',
  ) {
    this.rest = items;
  }

  take(): readonly Value[] {
    const items = this.rest ?? [];
    this.rest = null;
    return items;
  }

  /** The next one, undefined at the end. */
  next(): Value | undefined {
    const [first, ...rest] = this.rest ?? [];
    this.rest = rest;
    return first;
  }
}

export class Namespace {
  readonly fields = new Map<string, Value>();
}

export interface Arguments {
  positional: readonly Value[];
  named: ReadonlyMap<string, Value>;
}

/** Something that can be called; `fields` are its attributes. */
export class Callable {
  constructor(
    readonly name: string,
    readonly call: (args: Arguments) => Value,
    readonly fields: (name: string) => Value | undefined = () => undefined,
  ) {}
}

export type Value =
  | None
  | boolean
  | number
  | bigint
  | Float
  | Text
  | Undefined
  | List
  | Tuple
  | Dict
  | DictView
  | Range
  | Generator
  | Namespace
  | Callable;

export function isInteger(value: Value): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}

/** A whole number in its one form. */
export function integer(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

export function text(chars: string): Text {
  return new Text(chars);
}

/** Python's name of a value's type, for messages. */
export function typeName(value: Value): string {
  if (value instanceof None) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (isInteger(value)) return 'int';
  if (value instanceof Float) return 'float';
  if (value instanceof Text) return 'str';
  if (value instanceof List) return 'list';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Dict) return 'dict';
  if (value instanceof DictView) return `dict_${value.kind}`;
  if (value instanceof Range) return 'range';
  if (value instanceof Generator) return value.kind;
  if (value instanceof Namespace) return 'Namespace';
  return value instanceof Undefined ? 'Undefined' : 'function';
}

function hashOf(key: Value): string {
  if (key instanceof Text) return `s${key.chars}`;
  if (key instanceof None) return 'none';
  // Undefined values are equal to each other, and to nothing else.
  if (key instanceof Undefined) return 'undefined';
  if (typeof key === 'boolean') return `n${Number(key)}`;
  if (isInteger(key)) return `n${String(key)}`;
  if (key instanceof Float) return `n${String(key.value)}`;
  if (key instanceof Tuple) return `t${JSON.stringify(key.items.map(hashOf))}`;
  throw new TemplateError(`unhashable type: '${typeName(key)}'`);
}

/** Whether a value counts as true. */
export function isTrue(value: Value): boolean {
  if (value instanceof None || value instanceof Undefined) return false;
  if (typeof value === 'boolean') return value;
  if (isInteger(value)) return Boolean(value);
  if (value instanceof Float) return value.value !== 0;
  if (value instanceof Text || value instanceof Range) return value.length > 0;
  if (value instanceof List || value instanceof Tuple || value instanceof DictView) return value.items.length > 0;
  return value instanceof Dict ? value.entries.size > 0 : true;
}

/** Characters as Python counts them: code points. */
export function characters(chars: string): string[] {
  return Array.from(chars);
}

/** Each character of a text as a text. */
export function textCharacters(value: Text): Text[] {
  const out: Text[] = [];
  for (let at = 0; at < value.length;) {
    const size = value.chars.codePointAt(at)! > 0xffff ? 2 : 1;
    out.push(value.slice(at, at + size));
    at += size;
  }
  return out;
}

/** What a loop over a value goes through. Throws for what cannot be gone through. */
export function iterate(value: Value): readonly Value[] {
  if (value instanceof List || value instanceof Tuple || value instanceof DictView) return value.items;
  if (value instanceof Text) return textCharacters(value);
  if (value instanceof Dict) return value.keys();
  if (value instanceof Generator) return value.take();
  if (value instanceof Range) return Array.from({ length: value.length }, (_, i) => value.at(i));
  if (value instanceof Undefined) return [];
  throw new TemplateError(`'${typeName(value)}' object is not iterable`);
}

/** len(): undefined for what has none. */
export function lengthOf(value: Value): number | undefined {
  if (value instanceof List || value instanceof Tuple || value instanceof DictView) return value.items.length;
  if (value instanceof Text) {
    let pairs = 0;
    for (let i = 0; i + 1 < value.length; i++) if (value.chars.codePointAt(i)! > 0xffff) pairs++;
    return value.length - pairs;
  }
  if (value instanceof Dict) return value.entries.size;
  if (value instanceof Range) return value.length;
  return value instanceof Undefined ? 0 : undefined;
}

/** Whether two values are equal as Python's == says. */
export function isEqual(a: Value, b: Value, budget: Budget): boolean {
  budget.charge(1);
  if (a instanceof Text) return b instanceof Text && a.chars === b.chars;
  const left = numberOf(a);
  if (left !== undefined) {
    const right = numberOf(b);
    // eslint-disable-next-line eqeqeq -- a bigint and a number compare by value
    return right !== undefined && left == right;
  }
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple))
    return a.items.length === b.items.length && a.items.every((item, i) => isEqual(item, b.items[i]!, budget));
  if (a instanceof Dict && b instanceof Dict)
    return (
      a.entries.size === b.entries.size &&
      [...a.entries].every(([hash, [, value]]) => {
        const other = b.entries.get(hash);
        return other !== undefined && isEqual(value, other[1], budget);
      })
    );
  if (a instanceof Range && b instanceof Range)
    return a.length === b.length && (a.length === 0 || (a.start === b.start && (a.length === 1 || a.step === b.step)));
  return (a instanceof Undefined && b instanceof Undefined) || a === b;
}

/** The number that a value counts as; undefined for none. */
export function numberOf(value: Value): number | bigint | undefined {
  if (isInteger(value)) return value;
  if (value instanceof Float) return value.value;
  return typeof value === 'boolean' ? Number(value) : undefined;
}

/** Less than 0, 0 or more, as Python's < and > say. Throws for values that have no order. */
export function compare(a: Value, b: Value, sign: string, budget: Budget): number {
  budget.charge(1);
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== undefined && right !== undefined) return left < right ? -1 : left > right ? 1 : left >= right ? 0 : NaN;
  if (a instanceof Text && b instanceof Text) return compareCharacters(a.chars, b.chars);
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple)) {
    for (let i = 0; i < Math.min(a.items.length, b.items.length); i++)
      if (!isEqual(a.items[i]!, b.items[i]!, budget)) return compare(a.items[i]!, b.items[i]!, sign, budget);
    return a.items.length - b.items.length;
  }
  needDefined(a);
  needDefined(b);
  throw new TemplateError(`'${sign}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
}

/** By code points, where JavaScript compares UTF-16 units. */
function compareCharacters(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  for (let i = 0; i < end; i++) {
    if (a.charCodeAt(i) === b.charCodeAt(i)) continue;
    const isLow = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff;
    const at = isLow(a.charCodeAt(i)) && isLow(b.charCodeAt(i)) ? i - 1 : i;
    return a.codePointAt(Math.max(at, 0))! - b.codePointAt(Math.max(at, 0))!;
  }
  return a.length - b.length;
}

export function needDefined(value: Value): void {
  if (value instanceof Undefined) throw new TemplateError(value.reason);
}

/** A value out of JSON: texts of it are the caller's. A Map stands for an object whose order JavaScript would change. */
export function fromJson(json: unknown, answer = false): Value {
  if (json === null || json === undefined) return NONE;
  if (typeof json === 'string') return Text.content(json, answer);
  if (typeof json === 'boolean' || typeof json === 'bigint') return json;
  if (typeof json === 'number') return Number.isSafeInteger(json) ? json : new Float(json);
  if (json instanceof Float) return json;
  const member = (name: string | number, value: unknown): Value => {
    const number = writtenNumber(json, name);
    if (number === undefined) return fromJson(value, answer);
    return /[.eE]/.test(number) ? new Float(Number(number)) : integer(BigInt(number));
  };
  if (Array.isArray(json)) return new List(json.map((item, i) => member(i, item)));
  const dict = new Dict();
  const entries = json instanceof Map ? (json as Map<string, unknown>).entries() : Object.entries(json as object);
  for (const [key, value] of entries) if (value !== undefined) dict.set(Text.content(key), member(key, value));
  return dict;
}
