/** Canonical normalisation and lower case, out of tables of one version of Unicode: https://www.unicode.org/reports/tr15/ */
import { COMBINING_CLASSES, DECOMPOSITIONS, LOWER_CASE } from './tables.ts';

/** Hangul syllables are made of parts by arithmetic: https://www.unicode.org/versions/latest/core-spec/chapter-3/#G24646 */
const HANGUL = {
  syllables: 0xac00,
  leading: 0x1100,
  vowels: 0x1161,
  trailing: 0x11a7,
  nVowels: 21,
  nTrailing: 28,
  count: 11172,
};
const N_LEADING = 19;

interface Tables {
  /** code point -> full decomposition */
  decompositions: Map<number, readonly number[]>;
  classes: Map<number, number>;
  /** first code point -> last code point -> composed one */
  compositions: Map<number, Map<number, number>>;
  lower: Map<number, readonly number[]>;
}

let tables: Tables | null = null;

/** Entries of a table: code point, the sign after it, and the numbers behind that. */
function* entries(table: string): Generator<readonly [code: number, sign: string, values: number[]]> {
  let code = 0;
  for (const [, step, sign, values] of table.matchAll(/([\da-z]+)([=!])([^,]+)/g)) {
    code += parseInt(step!, 36);
    yield [code, sign!, values!.split('.').map((value) => parseInt(value, 36))];
  }
}

function readTables(): Tables {
  const read: Tables = { decompositions: new Map(), classes: new Map(), compositions: new Map(), lower: new Map() };
  const composed: [code: number, parts: number[]][] = [];
  for (const [code, sign, parts] of entries(DECOMPOSITIONS)) {
    read.decompositions.set(code, parts);
    if (sign === '=') composed.push([code, parts]);
  }
  for (const [code, , [value]] of entries(COMBINING_CLASSES)) read.classes.set(code, value!);
  for (const [code, , parts] of entries(LOWER_CASE)) read.lower.set(code, parts);
  // What is made of fewer parts first: the rest is made of it.
  composed.sort(([, a], [, b]) => a.length - b.length);
  for (const [code, parts] of composed) {
    const first = composeAll(parts.slice(0, -1), read);
    if (first.length !== 1) continue;
    const pairs = read.compositions.get(first[0]!) ?? new Map<number, number>();
    read.compositions.set(first[0]!, pairs.set(parts.at(-1)!, code));
  }
  return read;
}

/** Full canonical decomposition of one character; the character itself where it has none. */
export function decompose(code: number): readonly number[] {
  if (code < 0xc0) return [code];
  const index = code - HANGUL.syllables;
  if (index >= 0 && index < HANGUL.count) {
    const perLeading = HANGUL.nVowels * HANGUL.nTrailing;
    const parts = [
      HANGUL.leading + Math.floor(index / perLeading),
      HANGUL.vowels + Math.floor((index % perLeading) / HANGUL.nTrailing),
    ];
    const trailing = index % HANGUL.nTrailing;
    return trailing === 0 ? parts : [...parts, HANGUL.trailing + trailing];
  }
  tables ??= readTables();
  return tables.decompositions.get(code) ?? [code];
}

/** Lower case of one character, wherever it stands. */
export function lowerCase(code: number): readonly number[] {
  tables ??= readTables();
  return tables.lower.get(code) ?? [code];
}

/** Text in its canonically decomposed form. */
export function nfd(text: string): string {
  return isPlain(text) ? text : toText(decomposeAll(text));
}

/** Text in its canonically composed form. */
export function nfc(text: string): string {
  if (isPlain(text)) return text;
  tables ??= readTables();
  return toText(composeAll(decomposeAll(text), tables));
}

/** Latin-1 and below is its own composed form; below U+00C0 its decomposed one too. */
function isPlain(text: string): boolean {
  return !/[^\0-\xbf]/.test(text);
}

function toText(codes: readonly number[]): string {
  let text = '';
  for (let at = 0; at < codes.length; at += 4096) text += String.fromCodePoint(...codes.slice(at, at + 4096));
  return text;
}

/** Decomposed, with runs of marks sorted by their class. */
function decomposeAll(text: string): number[] {
  tables ??= readTables();
  const { classes } = tables;
  const out: number[] = [];
  let marks: number[] = [];
  const settle = (): void => {
    if (marks.length > 1) marks.sort((a, b) => classes.get(a)! - classes.get(b)!);
    for (const mark of marks) out.push(mark);
    marks = [];
  };
  for (const character of text) {
    for (const code of decompose(character.codePointAt(0)!)) {
      if (classes.has(code)) marks.push(code);
      else {
        settle();
        out.push(code);
      }
    }
  }
  settle();
  return out;
}

/** Each character joined to the last one before it that begins, where nothing between them blocks it. */
function composeAll(codes: readonly number[], { classes, compositions }: Tables): number[] {
  const out: number[] = [];
  let starter = -1; // index in `out`
  let before = 0; // class of what stands before, 0 right after the starter
  for (const code of codes) {
    const own = classes.get(code) ?? 0;
    const isBlocked = starter < 0 || (out.length - 1 > starter && before >= own);
    const joined = isBlocked ? undefined : composePair(out[starter]!, code, compositions);
    if (joined !== undefined) {
      out[starter] = joined;
      continue;
    }
    if (own === 0) starter = out.length;
    before = own;
    out.push(code);
  }
  return out;
}

function composePair(first: number, last: number, compositions: Tables['compositions']): number | undefined {
  const leading = first - HANGUL.leading;
  const vowel = last - HANGUL.vowels;
  if (leading >= 0 && leading < N_LEADING && vowel >= 0 && vowel < HANGUL.nVowels)
    return HANGUL.syllables + (leading * HANGUL.nVowels + vowel) * HANGUL.nTrailing;
  const syllable = first - HANGUL.syllables;
  const trailing = last - HANGUL.trailing;
  if (
    syllable >= 0 &&
    syllable < HANGUL.count &&
    syllable % HANGUL.nTrailing === 0 &&
    trailing > 0 &&
    trailing < HANGUL.nTrailing
  )
    return first + trailing;
  return compositions.get(first)?.get(last);
}
