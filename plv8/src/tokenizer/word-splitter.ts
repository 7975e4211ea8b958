/**
 * Splitting of text into words before byte-level BPE, as the regular expressions of each vocabulary say. Written by
 * hand over character classes: every scanner is one pass, so no text can make it backtrack.
 *
 * A scanner appends the end offsets of the words in text[start, end). Several are applied one after the other, each to
 * the words that the one before left; nothing looks beyond its word.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { caseWordEnd } from './case-words.ts';
import { characterClass, LETTER, NUMBER, OTHER, PUNCTUATION, WHITESPACE } from './character-class.ts';
import { quoted } from '../format/visible-text.ts';

type Scanner = (text: string, start: number, end: number, ends: number[]) => void;

export interface WordRules {
  scanners: readonly Scanner[];
  /** Take a whole word that is a token before trying merges. */
  ignoreMerges: boolean;
  /** Whether BOS is prepended when the file does not say. */
  addBos: boolean;
  /** Whether EOS is appended when the file does not say. */
  addEos?: boolean;
  /** Whether decoding joins punctuation and contractions to the word before, as the file's original tokenizer does. */
  cleanSpaces: boolean;
}

const SPACE = 0x20;
const APOSTROPHE = 0x27;
const NOT_WORD = PUNCTUATION | OTHER;

function classAt(text: string, at: number, end: number): number {
  return at < end ? characterClass(text.codePointAt(at)!) : 0;
}

/** Code units of the character at `at`. */
function sizeAt(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff ? 2 : 1;
}

/** End of the run of characters whose class is in `mask`, at most `limit` of them. */
function runEnd(text: string, start: number, end: number, mask: number, limit = Infinity): number {
  let at = start;
  for (let n = 0; at < end && n < limit && (characterClass(text.codePointAt(at)!) & mask) !== 0; n++) {
    at += sizeAt(text, at);
  }
  return at;
}

/** End of an English contraction ('s 't 're 've 'm 'll 'd) at `at`, or 0. */
function contractionEnd(text: string, at: number, end: number, anyCase: boolean): number {
  if (text.charCodeAt(at) !== APOSTROPHE) return 0;
  const fold = (offset: number): string => {
    if (at + offset >= end) return '';
    const unit = text.charCodeAt(at + offset);
    const lower = anyCase && unit >= 0x41 && unit <= 0x5a ? unit | 0x20 : unit;
    return String.fromCharCode(lower);
  };
  const first = fold(1);
  if (first !== '' && 'stmd'.includes(first)) return at + 2;
  const two = first + fold(2);
  return two === 're' || two === 've' || two === 'll' ? at + 3 : 0;
}

/** End of the whitespace word at `start`: all of it, but for the last character when a word follows. */
function whitespaceEnd(text: string, start: number, end: number): number {
  const all = runEnd(text, start, end, WHITESPACE);
  return all < end && all - start > 1 ? all - 1 : all;
}

/** 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
function scanGpt2(text: string, start: number, end: number, ends: number[]): void {
  for (let at = start; at < end;) {
    let next = contractionEnd(text, at, end, false);
    if (next === 0) {
      const body = text.charCodeAt(at) === SPACE ? at + 1 : at;
      const kind = classAt(text, body, end);
      if (kind === LETTER || kind === NUMBER) next = runEnd(text, body, end, kind);
      else if ((kind & NOT_WORD) !== 0) next = runEnd(text, body, end, NOT_WORD);
      else next = whitespaceEnd(text, at, end);
    }
    ends.push(next);
    at = next;
  }
}

/**
 * 's 't ... in any case|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 */
function cl100kScanner(digits: number): Scanner {
  return (text, start, end, ends) => {
    for (let at = start; at < end;) {
      const next = contractionEnd(text, at, end, true) || cl100kWordEnd(text, at, end, digits);
      ends.push(next);
      at = next;
    }
  };
}

/** Words of caseWordEnd, with an English contraction behind them where `contractions`; the rest as in cl100k, but for slashes. */
function caseScanner(digits: number, contractions: boolean): Scanner {
  return (text, start, end, ends) => {
    for (let at = start; at < end;) {
      const word = caseWordEnd(text, at, end);
      const next =
        word === 0
          ? cl100kWordEnd(text, at, end, digits, true)
          : (contractions && contractionEnd(text, word, end, true)) || word;
      ends.push(next);
      at = next;
    }
  };
}

function isLineBreak(unit: number): boolean {
  return unit === 0x0a || unit === 0x0d;
}

function cl100kWordEnd(text: string, at: number, end: number, digits: number, slashes = false): number {
  const unit = text.charCodeAt(at);
  const kind = classAt(text, at, end);
  if (kind === NUMBER) return runEnd(text, at, end, NUMBER, digits);
  if (!isLineBreak(unit)) {
    const letters = kind === LETTER ? at : at + sizeAt(text, at);
    if (classAt(text, letters, end) === LETTER) return runEnd(text, letters, end, LETTER);
  }
  const body = unit === SPACE ? at + 1 : at;
  if ((classAt(text, body, end) & NOT_WORD) !== 0) {
    let next = runEnd(text, body, end, NOT_WORD);
    while (next < end && (isLineBreak(text.charCodeAt(next)) || (slashes && text[next] === '/'))) next++;
    return next;
  }
  const all = runEnd(text, at, end, WHITESPACE);
  for (let last = all; last > at; last--) if (isLineBreak(text.charCodeAt(last - 1))) return last;
  return whitespaceEnd(text, at, end);
}

/** Cut out every run of at most `limit` characters for which `matches` holds; what lies between stays whole. */
function isolate(matches: (code: number) => boolean, limit: number, exactly = false): Scanner {
  return (text, start, end, ends) => {
    let begin = start;
    let at = start;
    while (at < end) {
      let next = at;
      for (let n = 0; next < end && n < limit && matches(text.codePointAt(next)!); n++) next += sizeAt(text, next);
      if (next === at || (exactly && next - at < limit)) {
        at = Math.max(next, at + sizeAt(text, at));
        continue;
      }
      if (begin < at) ends.push(at);
      ends.push(next);
      begin = next;
      at = next;
    }
    if (begin < end) ends.push(end);
  };
}

/** Cut out every run of characters for which `matches` holds, with one white space before it where there is one. */
function isolateSpaced(matches: (code: number) => boolean): Scanner {
  return (text, start, end, ends) => {
    const isMatch = (at: number): boolean => at < end && matches(text.codePointAt(at)!);
    let begin = start;
    for (let at = start; at < end;) {
      const spaced = characterClass(text.charCodeAt(at)) === WHITESPACE && isMatch(at + 1);
      if (!spaced && !isMatch(at)) {
        at += sizeAt(text, at);
        continue;
      }
      if (begin < at) ends.push(at);
      if (spaced) at++;
      while (isMatch(at)) at += sizeAt(text, at);
      ends.push(at);
      begin = at;
    }
    if (begin < end) ends.push(end);
  };
}

/** Cut off the white space at the end. */
function isolateTrailingSpace(text: string, start: number, end: number, ends: number[]): void {
  let at = end;
  while (at > start && characterClass(text.charCodeAt(at - 1)) === WHITESPACE) at--;
  if (start < at) ends.push(at);
  if (at < end) ends.push(end);
}

/** Whether a code point is one of `characters`, in which a hyphen between two stands for all between them. */
function among(characters: string): (code: number) => boolean {
  const ranges: [number, number][] = [];
  const codes = Array.from(characters, (character) => character.codePointAt(0)!);
  for (let i = 0; i < codes.length; i++) {
    const isRange = codes[i + 1] === 0x2d && i + 2 < codes.length;
    ranges.push([codes[i]!, codes[isRange ? i + 2 : i]!]);
    if (isRange) i += 2;
  }
  ranges.sort(([a], [b]) => a - b);
  return (code) => {
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle]![1] < code) low = middle + 1;
      else high = middle;
    }
    return low < ranges.length && ranges[low]![0] <= code;
  };
}

const isLetter = (code: number): boolean => characterClass(code) === LETTER;
const isPunctuation = (code: number): boolean => characterClass(code) === PUNCTUATION;
const isNumber = (code: number): boolean => characterClass(code) === NUMBER;
const isAsciiDigit = (code: number): boolean => code >= 0x30 && code <= 0x39;

/** \p{P} and the signs that the expression names beside it */
function isPunctuationOr(signs: string): (code: number) => boolean {
  const codes = new Set(Array.from(signs, (sign) => sign.charCodeAt(0)));
  return (code) => characterClass(code) === PUNCTUATION || codes.has(code);
}

const eachNumber = isolate(isNumber, 1);
const threeDigits = isolate(isAsciiDigit, 3, true);

const GPT2: WordRules = { scanners: [scanGpt2], ignoreMerges: false, addBos: false, cleanSpaces: true };
const LLAMA3: WordRules = { scanners: [cl100kScanner(3)], ignoreMerges: true, addBos: true, cleanSpaces: true };
const QWEN2: WordRules = { scanners: [cl100kScanner(1)], ignoreMerges: false, addBos: false, cleanSpaces: false };
const DIGITS: WordRules = { scanners: [eachNumber, scanGpt2], ignoreMerges: false, addBos: false, cleanSpaces: true };
const DEFAULT: WordRules = {
  scanners: [isolate(isPunctuationOr('$+<=>^~|'), Infinity), scanGpt2, isolate(isNumber, Infinity), threeDigits],
  ignoreMerges: false,
  addBos: false,
  cleanSpaces: true,
};
const FALCON: WordRules = {
  scanners: [isolate(isPunctuationOr('$+<=>^~|`'), Infinity), scanGpt2, threeDigits],
  ignoreMerges: false,
  addBos: false,
  cleanSpaces: true,
};

/** DeepSeek's: letters with case, in the version of Unicode of its day, and its signs. */
const CASED =
  'A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃';
const SIGNS = '!-/:-~！-／：-～‘-‟\u3000-。';
const EAST_ASIAN = '\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff';

const eachLineBreak = isolate(isLineBreak, 1);
const DEEPSEEK_LLM: WordRules = {
  scanners: [
    eachLineBreak,
    isolateSpaced(among(CASED)),
    isolateSpaced(among(SIGNS)),
    isolateTrailingSpace,
    isolate(among(EAST_ASIAN), Infinity),
    isolate(isNumber, Infinity),
  ],
  ignoreMerges: false,
  addBos: false,
  cleanSpaces: false,
};
const DEEPSEEK_CODER: WordRules = {
  ...DEEPSEEK_LLM,
  scanners: [
    eachLineBreak,
    isolateSpaced(isLetter),
    isolateSpaced(isPunctuation),
    isolate(among(EAST_ASIAN), Infinity),
    eachNumber,
  ],
};
const TEKKEN: WordRules = { scanners: [caseScanner(1, false)], ignoreMerges: true, addBos: true, cleanSpaces: false };
const GPT4O: WordRules = { scanners: [caseScanner(3, true)], ignoreMerges: false, addBos: false, cleanSpaces: false };

/** Rules by the value of tokenizer.ggml.pre. */
const RULES: Readonly<Record<string, WordRules>> = {
  default: DEFAULT,
  'gpt-2': GPT2,
  gpt2: GPT2,
  'phi-2': GPT2,
  mpt: GPT2,
  olmo: GPT2,
  'roberta-bpe': { ...GPT2, addBos: true, addEos: true },
  'llama-bpe': LLAMA3,
  llama3: LLAMA3,
  'llama-v3': LLAMA3,
  falcon3: LLAMA3,
  qwen2: QWEN2,
  'deepseek-r1-qwen': QWEN2,
  megrez: { ...QWEN2, cleanSpaces: true },
  stablelm2: { ...QWEN2, cleanSpaces: true },
  dbrx: { ...LLAMA3, ignoreMerges: false, addBos: false },
  'smaug-bpe': { ...LLAMA3, ignoreMerges: false, addBos: false },
  smollm: { ...DIGITS, cleanSpaces: false },
  starcoder: DIGITS,
  refact: DIGITS,
  codeshell: DIGITS,
  'command-r': { ...DIGITS, cleanSpaces: false },
  falcon: FALCON,
  'deepseek-llm': DEEPSEEK_LLM,
  'deepseek-coder': DEEPSEEK_CODER,
  tekken: TEKKEN,
  'gpt-4o': GPT4O,
  llama4: GPT4O,
};

/** Rules of a vocabulary; a file that names none gets 'default'. Throws featureNotSupported for a name unknown here. */
export function wordRules(pre: string | null): WordRules {
  const name = pre === null || pre === '' ? 'default' : pre;
  if (Object.hasOwn(RULES, name)) return RULES[name]!;
  raise(SQLSTATE.featureNotSupported, `tokenizer.ggml.pre is ${quoted(name)}, which is not supported`, {
    hint: `supported: ${Object.keys(RULES).join(', ')}`,
  });
}

/** End offsets of the words of `text`, which has no lone surrogates. */
export function splitWords(rules: WordRules, text: string): number[] {
  let ends = [text.length];
  for (const scan of rules.scanners) {
    const next: number[] = [];
    let start = 0;
    for (const end of ends) {
      scan(text, start, end, next);
      start = end;
    }
    ends = next;
  }
  return ends;
}
