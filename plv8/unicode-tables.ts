/**
 * Writes plv8/src/tokenizer/unicode/tables.ts: general categories, canonical decompositions, combining classes and lower
 * case of one version of Unicode, so that token ids do not depend on the V8 that runs.
 *   npx tsx plv8/unicode-tables.ts
 * They are asked of the Node.js that runs this, which must know that version.
 */
import { writeFileSync } from 'node:fs';

const VERSION = '17.0';
const LAST = 0x10ffff;
const CATEGORIES = 'Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs'.split(
  ' ',
);
/** What a run of each category begins with. */
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ!#%&';
/** One code point of each canonical combining class, https://www.unicode.org/reports/tr44/#Canonical_Combining_Class_Values */
const CLASSES: readonly (readonly [number, number])[] = [
  [1, 0x334],
  [6, 0x16ff0],
  [7, 0x93c],
  [8, 0x3099],
  [9, 0x94d],
  [10, 0x5b0],
  [11, 0x5b1],
  [12, 0x5b2],
  [13, 0x5b3],
  [14, 0x5b4],
  [15, 0x5b5],
  [16, 0x5b6],
  [17, 0x5b7],
  [18, 0x5b8],
  [19, 0x5b9],
  [20, 0x5bb],
  [21, 0x5bc],
  [22, 0x5bd],
  [23, 0x5bf],
  [24, 0x5c1],
  [25, 0x5c2],
  [26, 0xfb1e],
  [27, 0x64b],
  [28, 0x64c],
  [29, 0x64d],
  [30, 0x618],
  [31, 0x619],
  [32, 0x61a],
  [33, 0x651],
  [34, 0x652],
  [35, 0x670],
  [36, 0x711],
  [84, 0xc55],
  [91, 0xc56],
  [103, 0xe38],
  [107, 0xe48],
  [118, 0xeb8],
  [122, 0xec8],
  [129, 0xf71],
  [130, 0xf72],
  [132, 0xf74],
  [202, 0x321],
  [214, 0x1dce],
  [216, 0x31b],
  [218, 0x302a],
  [220, 0x316],
  [222, 0x59a],
  [224, 0x302e],
  [226, 0x1d16d],
  [228, 0x5ae],
  [230, 0x300],
  [232, 0x315],
  [233, 0x35c],
  [234, 0x35d],
  [240, 0x345],
];

if (process.versions.unicode !== VERSION)
  throw new Error(`this Node.js knows Unicode ${process.versions.unicode}, not ${VERSION}`);

const expressions = CATEGORIES.map((name) => new RegExp(`^\\p{${name}}$`, 'u'));
const text = (code: number): string => String.fromCodePoint(code);
const isSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdfff;
const isHangul = (code: number): boolean => code >= 0xac00 && code <= 0xd7a3;
const shown = (codes: string): string => Array.from(codes, (each) => each.codePointAt(0)!.toString(36)).join('.');

function categoryOf(code: number): string {
  return LETTERS[expressions.findIndex((expression) => expression.test(text(code)))]!;
}

/** Class of a mark: where it goes beside one of each known class, as normalisation sorts them. */
function combiningClass(code: number): number {
  const swaps = (a: number, b: number): boolean => {
    const sorted = (text(a) + text(b)).normalize('NFD');
    return sorted !== text(a) + text(b) && sorted === text(b) + text(a);
  };
  if (text(code).normalize('NFD') !== text(code)) return 0;
  if (!swaps(0x345, code) && !swaps(code, 0x334)) return code === 0x345 ? 240 : code === 0x334 ? 1 : 0;
  const found = CLASSES.find(([, mark]) => !swaps(mark, code) && !swaps(code, mark));
  if (found === undefined) throw new Error(`no known combining class for U+${code.toString(16)}`);
  return found[0];
}

const runs: string[] = [];
const decompositions: string[] = [];
const classes: string[] = [];
const lower: string[] = [];
let run = { category: categoryOf(0), length: 0 };
let [lastDecomposed, lastMark, lastUpper] = [0, 0, 0];
for (let code = 0; code <= LAST; code++) {
  const category = isSurrogate(code) ? LETTERS[CATEGORIES.indexOf('Cs')]! : categoryOf(code);
  if (category !== run.category) {
    runs.push(run.category + run.length.toString(36));
    run = { category, length: 0 };
  }
  run.length++;
  if (isSurrogate(code) || isHangul(code)) continue;
  const decomposed = text(code).normalize('NFD');
  if (decomposed !== text(code)) {
    const isComposed = text(code).normalize('NFC') === text(code);
    decompositions.push(`${(code - lastDecomposed).toString(36)}${isComposed ? '=' : '!'}${shown(decomposed)}`);
    lastDecomposed = code;
  }
  const mark = 'KLM'.includes(category) ? combiningClass(code) : 0;
  if (mark !== 0) {
    classes.push(`${(code - lastMark).toString(36)}=${mark.toString(36)}`);
    lastMark = code;
  }
  const small = text(code).toLowerCase();
  if (small !== text(code)) {
    lower.push(`${(code - lastUpper).toString(36)}=${shown(small)}`);
    lastUpper = code;
  }
}
runs.push(run.category + run.length.toString(36));

writeFileSync(
  new URL('src/tokenizer/unicode/tables.ts', import.meta.url),
  `/**
 * Unicode ${VERSION}, written by plv8/unicode-tables.ts. Numbers are in base 36; entries carry the difference to the code point
 * before.
 */
export const UNICODE_VERSION = '${VERSION}';

/** General categories, and the letter with which the runs of each begin. */
export const CATEGORY_NAMES = '${CATEGORIES.join(' ')}';
export const CATEGORY_LETTERS = '${LETTERS}';

/** Runs of one category over all code points: letter and length. */
export const CATEGORY_RUNS =
  '${runs.join('')}';

/** Canonical decompositions but Hangul's; '!' for those that composition does not bring back. */
export const DECOMPOSITIONS =
  '${decompositions.join(',')}';

/** Canonical combining classes that are not 0. */
export const COMBINING_CLASSES =
  '${classes.join(',')}';

/** Lower case where it is another. */
export const LOWER_CASE =
  '${lower.join(',')}';
`,
);
console.log(
  `${runs.length} runs, ${decompositions.length} decompositions, ${classes.length} marks, ${lower.length} letters`,
);
