/**
 * A text as chunks of so many tokens. It is divided into units (sentences, lines of code; words or graphemes where those
 * are too long), and chunks take as many units as fit, up to the place among the later ones that divides the text best.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import { boundariesOf, graphemeStarts, STRENGTH, wordStarts } from './boundaries.ts';
import type { ChunkOptions } from './chunk-options.ts';
import { mayCut } from './graphemes.ts';

export interface Chunk {
  /** places of the first and the last character (code point) in the text, from 1 */
  from: number;
  to: number;
  text: string;
}

/** Tokens of a text, without special ones. */
type CountTokens = (text: string) => number;

interface Unit {
  start: number;
  /** how well the text divides before it */
  strength: number;
  tokens: number;
}

/** Graphemes of a unit that is a part of a word, where as many have not too many tokens. */
const PIECE = 16;
/** Ever smaller parts of a unit that is too long. */
type Parts = (text: string, start: number, end: number) => number[];
const PARTS: readonly Parts[] = [wordStarts, (...stretch) => graphemeStarts(...stretch, PIECE), graphemeStarts];
/** Share of its size from which on a chunk may end where the text divides well. */
const FILLED = 0.5;

/** The units of a text in order; one of more than `size` tokens is a single grapheme. */
function unitsOf(text: string, options: ChunkOptions, size: number, count: CountTokens): Unit[] {
  const units: Unit[] = [];
  const starts = [{ at: 0, strength: STRENGTH.section as number }, ...boundariesOf(text, options.format)];
  const byWord = options.strongest === STRENGTH.word;
  const divide = (start: number, end: number, strength: number, parts: readonly Parts[]): void => {
    const [smaller, ...rest] = parts;
    const tokens = smaller === wordStarts && byWord ? Infinity : count(text.slice(start, end));
    if (tokens <= size || smaller === undefined) units.push({ start, strength, tokens });
    else {
      const inner = smaller === wordStarts ? STRENGTH.word : STRENGTH.grapheme;
      const places = [start, ...smaller(text, start, end)];
      places.forEach((at, i) => divide(at, places[i + 1] ?? end, i === 0 ? strength : inner, rest));
    }
  };
  starts.forEach(({ at, strength }, i) => {
    divide(at, starts[i + 1]?.at ?? text.length, Math.min(strength, options.strongest), PARTS);
  });
  return units;
}

/**
 * The unit after the last one of a chunk that begins with unit `first` and holds all before `least`: as many as fit, up to
 * the best place.
 */
function endOfChunk(units: readonly Unit[], first: number, least: number, size: number): number {
  let tokens = 0;
  for (let i = first; i < least; i++) tokens += units[i]!.tokens;
  let end = least;
  let best = { end, filled: tokens >= size * FILLED };
  const consider = (): void => {
    const filled = tokens >= size * FILLED;
    if (!best.filled || units[end]!.strength >= units[best.end]!.strength) best = { end, filled };
  };
  while (end < units.length && tokens + units[end]!.tokens <= size) {
    tokens += units[end++]!.tokens;
    if (end < units.length) consider();
  }
  return end === units.length ? end : best.end;
}

/** The unit with which the chunk after [first, end) begins: it repeats whole units, and nothing from before a section. */
function nextStart(units: readonly Unit[], first: number, end: number, overlap: number, size: number): number {
  let start = end;
  let tokens = 0;
  const most = Math.min(overlap, size - units[end]!.tokens);
  while (start - 1 > first && units[start]!.strength < STRENGTH.section) {
    tokens += units[start - 1]!.tokens;
    if (tokens > most) break;
    start--;
  }
  return start;
}

/** A stretch of text without the space around it. */
function trimmed(text: string, start: number, end: number): [start: number, end: number] {
  const isSpace = (at: number): boolean => text.charAt(at).trim() === '';
  while (start < end && isSpace(start) && mayCut(text, start + 1)) start++;
  while (start < end && isSpace(end - 1) && mayCut(text, end - 1)) end--;
  return [start, end];
}

/** Divide a text. `largest` is the most tokens that the model reads of one. Throws where options do not fit together. */
export function chunkText(text: string, options: ChunkOptions, largest: number, count: CountTokens): Chunk[] {
  const size = options.size ?? largest;
  const overlap = options.overlap ?? Math.floor(size / 8);
  if (overlap > size / 2) {
    raise(SQLSTATE.invalidParameterValue, `option overlap is ${overlap}, half of size ${size} is the most`);
  }
  const units = unitsOf(text, options, size, count);
  const startOf = (unit: number): number => units[unit]?.start ?? text.length;
  const chunks: Chunk[] = [];
  let place = { at: 0, characters: 0 }; // start of the last chunk, from which is counted on
  const charactersBefore = (at: number): number => {
    let { characters } = place;
    for (let i = place.at; i < at; i++) if ((text.charCodeAt(i) & 0xfc00) !== 0xdc00) characters++;
    return characters;
  };
  let first = 0;
  let last = 0; // unit after the last one of the chunk before
  let covered = 0; // the end of the chunk before
  while (last < units.length) {
    let end = endOfChunk(units, first, last + 1, size);
    const range = (): [start: number, end: number] => trimmed(text, startOf(first), startOf(end));
    // Tokens of a whole may be more than those of its parts.
    while (end - first > 1 && count(text.slice(...range())) > size) {
      if (end > last + 1) end--;
      else first++;
    }
    const [start, stop] = range();
    // What begins with an overlap and adds nothing but space is in the chunk before.
    if (start < stop && stop > covered) {
      covered = stop;
      place = { at: start, characters: charactersBefore(start) };
      chunks.push({ from: place.characters + 1, to: charactersBefore(stop), text: text.slice(start, stop) });
    }
    last = end;
    if (end < units.length) first = nextStart(units, first, end, overlap, size);
  }
  return chunks;
}
