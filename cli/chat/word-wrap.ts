import stringWidth from 'string-width';

/** A line break, blanks, a character of a script that breaks between any two characters, or a word. */
const PIECES =
  /\n|[^\S\n]+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[^\s\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]+/gu;
/** Columns between the tab stops of a terminal. */
const TAB_STOP = 8;
const BREAKS_ANYWHERE = /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

/** Breaks text that arrives in pieces between words, so that a terminal does not break it within them. */
export class WordWrap {
  private column = 0;
  /** The word that may go on with the next piece. */
  private word = '';
  /** Blanks before it, not shown yet: at the end of a line they are not shown at all. */
  private blanks = '';

  /** `width` (columns) is asked for at every word, since a terminal may be resized. */
  constructor(private readonly width: () => number) {}

  /** What can be shown now. */
  push(text: string): string {
    let out = '';
    for (const piece of text.match(PIECES) ?? []) {
      if (piece === '\n') {
        out += this.endWord() + '\n';
        this.column = 0;
        this.blanks = '';
      } else if (/^\s/.test(piece)) {
        out += this.endWord();
        this.blanks += piece;
      } else {
        const breaks = BREAKS_ANYWHERE.test(piece);
        if (breaks) out += this.endWord();
        this.word += piece;
        if (breaks) out += this.endWord();
      }
    }
    // A word as long as a line gains nothing by waiting.
    if (stringWidth(this.word) >= this.width()) out += this.endWord();
    return out;
  }

  /** The rest, at the end of the text. */
  flush(): string {
    const rest = this.endWord();
    this.blanks = '';
    this.column = 0;
    return rest;
  }

  private endWord(): string {
    if (this.word === '') return '';
    const width = this.width();
    const word = this.word;
    const length = stringWidth(word);
    const blanks = this.blanks;
    this.word = '';
    this.blanks = '';
    const start = columnAfter(this.column, blanks);
    const breaks = this.column > 0 && start + length > width;
    const end = (breaks ? 0 : start) + length;
    // A full line leaves the cursor in it, at its end.
    this.column = end > width ? end % width || width : end;
    return (breaks ? '\n' : blanks) + word;
  }
}

/** Where blanks that begin in a column end. */
function columnAfter(column: number, blanks: string): number {
  let at = column;
  for (const blank of blanks) at += blank === '\t' ? TAB_STOP - (at % TAB_STOP) : stringWidth(blank);
  return at;
}
