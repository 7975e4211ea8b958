/**
 * WordPiece (Schuster and Nakajima, 2012) as BERT uses it: words and single marks of punctuation, each cut into the
 * longest pieces from left to right. GGUF marks the beginning of a word instead of its continuation.
 */
import { characterClass, PUNCTUATION, WHITESPACE } from './character-class.ts';
import { PieceTrie } from './piece-trie.ts';
import { SPACE_MARK } from './sentencepiece.ts';
import { categoryBit, categoryMask } from './unicode/categories.ts';
import { lowerCase, nfd } from './unicode/normalize.ts';

/** Characters and pieces between two polls. */
const POLL_STRIDE = 4096;

/** Ideographs stand for themselves, the same ranges as in Hugging Face's tokenizers. */
const IDEOGRAPHS: readonly (readonly [first: number, last: number])[] = [
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xf900, 0xfaff],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b73f],
  [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf],
  [0x2f800, 0x2fa1f],
];

function isIdeograph(code: number): boolean {
  return code >= 0x3400 && IDEOGRAPHS.some(([first, last]) => code >= first && code <= last);
}

/** Marks that make a word of their own: punctuation of Unicode, and what ASCII has beside it ($ + < = > ^ ` |). */
function standsAlone(code: number): boolean {
  if (characterClass(code) === PUNCTUATION || isIdeograph(code)) return true;
  return code < 0x7f && (categoryBit(code) & SYMBOLS) !== 0;
}

const SYMBOLS = categoryMask('S');
const INVISIBLE = categoryMask('Cc', 'Cf', 'Co');
const ACCENTS = categoryMask('Mn');

/** Control characters but for tab and line ends, format characters, private use and the replacement character are left out. */
function isDropped(code: number): boolean {
  if (code === 0x09 || code === 0x0a || code === 0x0d) return false;
  return code === 0 || code === 0xfffd || (categoryBit(code) & INVISIBLE) !== 0;
}

export class WordPieceEncoder {
  private readonly trie = new PieceTrie();
  /** text of a character as it is looked up, '' where it is left out; what ends a word begins with a space */
  private readonly folded = new Map<number, string>();

  constructor(
    tokens: readonly string[],
    private readonly unknownId: number,
    /** What is done to case and accents; both for an uncased vocabulary. */
    private readonly folding: { lowercase: boolean; stripAccents: boolean },
  ) {
    tokens.forEach((text, id) => this.trie.add(text, id));
  }

  /** Append the ids of `text`, which has no lone surrogates. */
  encode(text: string, out: number[], poll: () => void): void {
    let word = '';
    let steps = 0;
    for (const character of this.folding.stripAccents ? nfd(text) : text) {
      if (++steps % POLL_STRIDE === 0) poll();
      const folded = this.fold(character.codePointAt(0)!);
      if (!folded.startsWith(' ')) {
        word += folded;
        continue;
      }
      this.encodeWord(word, out, poll);
      this.encodeWord(folded.slice(1), out, poll);
      word = '';
    }
    this.encodeWord(word, out, poll);
  }

  private fold(code: number): string {
    let folded = this.folded.get(code);
    if (folded === undefined) {
      folded = this.foldOnce(code);
      this.folded.set(code, folded);
    }
    return folded;
  }

  private foldOnce(code: number): string {
    const { lowercase, stripAccents } = this.folding;
    if (isDropped(code)) return '';
    if (characterClass(code) === WHITESPACE) return ' ';
    if (stripAccents && (categoryBit(code) & ACCENTS) !== 0) return '';
    const small = String.fromCodePoint(...(lowercase ? lowerCase(code) : [code]));
    return standsAlone(code) ? ` ${small}` : small;
  }

  private encodeWord(word: string, out: number[], poll: () => void): void {
    if (word === '') return;
    const marked = SPACE_MARK + word;
    const before = out.length;
    let steps = 0;
    for (let at = 0; at < marked.length;) {
      if (++steps % POLL_STRIDE === 0) poll();
      let best = -1;
      let next = at;
      this.trie.eachPiece(marked, at, (id, end) => {
        best = id;
        next = end;
      });
      if (best < 0) {
        // A word that has no pieces to its end is unknown as a whole.
        out.length = before;
        break;
      }
      out.push(best);
      at = next;
    }
    if (out.length === before) out.push(this.unknownId);
  }
}
