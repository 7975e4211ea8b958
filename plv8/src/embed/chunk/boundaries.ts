/** Where a text may be divided, and how well: at headings, paragraphs, sentences, lines of code, words. */
import { raise, SQLSTATE } from '../../errors.ts';
import { mayCut } from './graphemes.ts';

/** How much a place divides a text, from least to most. */
export const STRENGTH = { grapheme: 0, word: 1, line: 2, sentence: 3, paragraph: 4, section: 5 } as const;

export type Format = 'text' | 'markdown' | 'code';
export const FORMATS: readonly Format[] = ['text', 'markdown', 'code'];

export interface Boundary {
  /** UTF-16 unit before which the text may be divided */
  at: number;
  strength: number;
}

interface Line {
  start: number;
  /** without what ends the line */
  text: string;
}

const LINE_END = /\r\n|[\n\r\u2028\u2029]/g;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const HEADING = /^ {0,3}#{1,6}(\s|$)/;
const UNDERLINE = /^ {0,3}(=+|-{2,})\s*$/;
const ITEM = /^\s*([-*+]|\d{1,9}[.)])\s/;
const TABLE_ROW = /^\s*\|/;
/** The end of a sentence, what closes quotes and brackets after it, and space; full stops of Asian scripts need none. */
const SENTENCE_END =
  /[.!?\u2026\u203d]+["'\u2019\u201d\u00bb)\]}]*\s+|[\u3002\uff01\uff1f\u0964\u0965\u061f\u06d4]+["'\u2019\u201d\u300d\u300f\u00bb)\]}]*\s*/g;
/** A full stop after these ends no sentence: initials, and abbreviations that stand before a name or an example. */
const ABBREVIATED =
  /(?:^|[\s("'])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|No|Nr|Fig|vs|etc|e\.g|i\.e|z\.B|d\.h|u\.a|bzw|ca|cf|al|approx)\.$/;

function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  let start = 0;
  for (const { index, 0: end } of text.matchAll(LINE_END)) {
    lines.push({ start, text: text.slice(start, index) });
    start = index + end.length;
  }
  lines.push({ start, text: text.slice(start) });
  return lines;
}

const isBlank = ({ text }: Line): boolean => text.trim() === '';

/** Strengths of the places between lines, by where a line starts; a blank line says nothing itself. */
function linesOfCode(lines: readonly Line[]): Boundary[] {
  return lines.flatMap((line, i) => {
    if (i === 0 || isBlank(line)) return [];
    return [{ at: line.start, strength: isBlank(lines[i - 1]!) ? STRENGTH.paragraph : STRENGTH.line }];
  });
}

/** Lines of prose, and those among them that are prose and no code. */
function linesOfProse(lines: readonly Line[], markdown: boolean): { boundaries: Boundary[]; prose: Line[] } {
  const boundaries: Boundary[] = [];
  const prose: Line[] = [];
  let fence: string | null = null; // what ends the block of code that we are in
  let afterBlank = false;
  let afterHeading = false;
  let afterFence = false;
  lines.forEach((line, i) => {
    if (isBlank(line)) {
      afterBlank = true;
      return;
    }
    let strength: number = afterBlank || afterFence ? STRENGTH.paragraph : STRENGTH.line;
    const mark = markdown ? FENCE.exec(line.text)?.[1] : undefined;
    const inFence = fence !== null;
    let heading = false;
    afterFence = false;
    if (fence !== null) {
      strength = STRENGTH.line;
      if (mark !== undefined && mark.startsWith(fence)) {
        fence = null;
        afterFence = true;
      }
    } else if (mark !== undefined) {
      fence = mark;
      strength = STRENGTH.paragraph;
    } else if (markdown) {
      const next = lines[i + 1];
      const underlined = next !== undefined && !isBlank(next) && UNDERLINE.test(next.text) && !ITEM.test(line.text);
      const underlines = UNDERLINE.test(line.text) && afterHeading;
      heading = HEADING.test(line.text) || underlined || underlines;
      if (underlines) strength = STRENGTH.word;
      else if (heading) strength = STRENGTH.section;
      else if (ITEM.test(line.text)) strength = Math.max(strength, STRENGTH.sentence);
      else if (TABLE_ROW.test(line.text)) strength = afterBlank ? STRENGTH.paragraph : STRENGTH.line;
    }
    // A heading stays with what it is a heading of.
    if (afterHeading && strength < STRENGTH.section) strength = STRENGTH.word;
    if (i > 0) boundaries.push({ at: line.start, strength });
    if (!inFence && fence === null && !heading) prose.push(line);
    afterHeading = heading;
    afterBlank = false;
  });
  return { boundaries, prose };
}

/** Ends of sentences within a stretch of prose. */
function sentencesOf(text: string, { start, text: line }: Line): Boundary[] {
  return [...line.matchAll(SENTENCE_END)].flatMap(({ index, 0: end }) => {
    const at = start + index + end.length;
    const next = text.charAt(at);
    if (next === '' || (end.startsWith('.') && next !== next.toUpperCase())) return [];
    if (end.startsWith('.') && ABBREVIATED.test(line.slice(0, index + 1))) return [];
    return [{ at, strength: STRENGTH.sentence }];
  });
}

/** All places that divide a text better than between two words, in order, each once. */
export function boundariesOf(text: string, format: Format): Boundary[] {
  const lines = linesOf(text);
  const found =
    format === 'code' ? { boundaries: linesOfCode(lines), prose: [] } : linesOfProse(lines, format === 'markdown');
  const strengths = new Map<number, number>();
  for (const line of found.prose) for (const { at, strength } of sentencesOf(text, line)) strengths.set(at, strength);
  // What a line's start says goes before what a sentence's end says of the same place.
  for (const { at, strength } of found.boundaries) strengths.set(at, strength);
  return [...strengths]
    .map(([at, strength]) => ({ at, strength }))
    .filter(({ at }) => at < text.length && mayCut(text, at))
    .sort((one, other) => one.at - other.at);
}

/** Starts of words within a stretch of text, but that of the first. */
export function wordStarts(text: string, start: number, end: number): number[] {
  const found: number[] = [];
  for (const { index, 0: space } of text.slice(start, end).matchAll(/\s+/g)) {
    const at = start + index + space.length;
    if (at > start + space.length && at < end && mayCut(text, at)) found.push(at);
  }
  return found;
}

/** Places where every `count`th grapheme of a stretch begins, but the first. */
export function graphemeStarts(text: string, start: number, end: number, count = 1): number[] {
  const found: number[] = [];
  let graphemes = 0;
  for (let at = start + 1; at < end; at++) {
    if (mayCut(text, at) && ++graphemes % count === 0) found.push(at);
  }
  return found;
}

export function formatOf(value: unknown): Format {
  return (
    FORMATS.find((format) => format === value) ??
    raise(
      SQLSTATE.invalidParameterValue,
      `option format must be one of ${FORMATS.join(', ')}, got ${JSON.stringify(value)}`,
    )
  );
}
