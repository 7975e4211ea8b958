/** Indexing and slicing as Python does it: negative indexes count from the end, texts by code points. */
import type { Budget } from './budget.ts';
import { joinTexts, Text } from './text.ts';
import type { Value } from './values.ts';
import { lengthOf, List, Range, TemplateError, textCharacters, Tuple } from './values.ts';

type Sequence = Text | List | Tuple | Range;

export function isSequence(value: Value): value is Sequence {
  return value instanceof Text || value instanceof List || value instanceof Tuple || value instanceof Range;
}

/** Whether each UTF-16 unit is a character of its own. */
export function isPlain(chars: string): boolean {
  return !/[\ud800-\udbff]/.test(chars);
}

/** The element at an index; undefined where there is none. */
export function elementAt(value: Sequence, index: number): Value | undefined {
  const length = lengthOf(value)!;
  const at = index < 0 ? index + length : index;
  if (at < 0 || at >= length) return undefined;
  if (value instanceof Range) return value.at(at);
  if (value instanceof Text) return isPlain(value.chars) ? value.slice(at, at + 1) : textCharacters(value)[at];
  return value.items[at];
}

export interface Slice {
  start: number | null;
  stop: number | null;
  step: number | null;
}

/** Bounds of a slice over `length` elements. Throws for a step of 0. */
function bounds(slice: Slice, length: number): { start: number; stop: number; step: number } {
  const step = slice.step ?? 1;
  if (step === 0) throw new TemplateError('slice step cannot be zero');
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
  const place = (given: number | null, otherwise: number): number => {
    if (given === null) return otherwise;
    return Math.min(Math.max(given < 0 ? given + length : given, low), high);
  };
  return { start: place(slice.start, step > 0 ? low : high), stop: place(slice.stop, step > 0 ? high : low), step };
}

export function sliceOf(value: Sequence, slice: Slice, budget: Budget): Value {
  const { start, stop, step } = bounds(slice, lengthOf(value)!);
  if (value instanceof Range) return new Range(value.at(start), value.at(stop), value.step * step);
  if (value instanceof Text && step === 1 && isPlain(value.chars)) return value.slice(start, stop);
  const items: readonly Value[] = value instanceof Text ? textCharacters(value) : value.items;
  const taken: Value[] = [];
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) taken.push(items[i]!);
  budget.makeList(taken.length);
  if (value instanceof Text) return joinTexts(taken as Text[]);
  return value instanceof Tuple ? new Tuple(taken) : new List(taken);
}
