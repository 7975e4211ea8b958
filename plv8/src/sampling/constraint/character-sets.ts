/** Sets of characters as ranges of code points. */
/** Code points from first to last, in ascending order, without overlap. */
export type CharacterSet = readonly (readonly [number, number])[];

export const LAST_CODE_POINT = 0x10ffff;

/** The set in order, without overlap, and without the surrogates, which no text has. */
export function normalise(ranges: Iterable<readonly [number, number]>): CharacterSet {
  const sorted = [...ranges].filter(([from, to]) => from <= to).sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = merged[merged.length - 1];
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return without(merged, 0xd800, 0xdfff);
}

export function complement(set: CharacterSet): CharacterSet {
  const gaps: [number, number][] = [];
  let from = 0;
  for (const [first, last] of set) {
    gaps.push([from, first - 1]);
    from = last + 1;
  }
  gaps.push([from, LAST_CODE_POINT]);
  return normalise(gaps);
}

export function without(set: CharacterSet, first: number, last: number): CharacterSet {
  return set.flatMap(([from, to]) =>
    to < first || from > last
      ? [[from, to] as const]
      : ([
          [from, Math.min(to, first - 1)],
          [Math.max(from, last + 1), to],
        ].filter(([a, b]) => a! <= b!) as [number, number][]),
  );
}

/** The set with the other case of each of its letters, as a comparison without case takes them. */
export function bothCases(set: CharacterSet): CharacterSet {
  const added: [number, number][] = [];
  for (const [from, to] of set) {
    for (let codePoint = from; codePoint <= Math.min(to, LAST_CASED); codePoint++) {
      const character = String.fromCodePoint(codePoint);
      for (const other of [character.toLowerCase(), character.toUpperCase()]) {
        const found = other.codePointAt(0)!;
        if (found !== codePoint && other.length === String.fromCodePoint(found).length) added.push([found, found]);
      }
    }
  }
  return normalise([...set, ...added]);
}

/** No letter after this one has a case. */
const LAST_CASED = 0x1e943;

const properties = new Map<string, CharacterSet>();

/** Code points that are looked at together. */
const CHUNK = 0x2000;

/** Characters of a property of Unicode, written as `\\p{..}` or `\\P{..}`, or of a class of them, as V8 knows them. */
export function propertySet(raw: string): CharacterSet {
  let set = properties.get(raw);
  if (set !== undefined) return set;
  const runs = new RegExp(`${raw}+`, 'gu');
  const ranges: [number, number][] = [];
  for (let first = 0; first <= LAST_CODE_POINT; first += CHUNK) {
    const units = first > 0xffff ? 2 : 1;
    const text = String.fromCodePoint(...Array.from({ length: CHUNK }, (_, i) => first + i));
    for (const { 0: run, index } of text.matchAll(runs)) {
      ranges.push([first + index / units, first + (index + run.length) / units - 1]);
    }
  }
  set = normalise(ranges);
  properties.set(raw, set);
  return set;
}
