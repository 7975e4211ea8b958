import { decodeUtf8, incompleteUtf8Suffix } from '../format/utf8.ts';

const EMPTY = new Uint8Array(0);

/** Turns the bytes of token after token into text, never giving out half a character. */
export class Utf8Stream {
  private held: Uint8Array = EMPTY;

  /** The characters that are complete with these bytes; ill-formed bytes become U+FFFD. */
  push(bytes: Uint8Array): string {
    let all = bytes;
    if (this.held.length > 0) {
      all = new Uint8Array(this.held.length + bytes.length);
      all.set(this.held);
      all.set(bytes, this.held.length);
    }
    const complete = all.length - incompleteUtf8Suffix(all);
    this.held = complete === all.length ? EMPTY : all.slice(complete);
    return decodeUtf8(all, 0, complete);
  }

  /** What is left at the end: U+FFFD for a character that was never completed, else nothing. */
  flush(): string {
    const rest = decodeUtf8(this.held);
    this.held = EMPTY;
    return rest;
  }
}
