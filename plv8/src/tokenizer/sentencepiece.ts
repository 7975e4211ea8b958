import { encodeUtf8 } from '../format/utf8.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { MergeQueue } from './merge-queue.ts';

/** SentencePiece's visible space. */
export const SPACE_MARK = '\u2581';

/** Symbols between two polls. */
const POLL_STRIDE = 4096;

/**
 * SentencePiece-style BPE: start from characters and keep joining the neighbours whose joined text is the token with
 * the highest score, leftmost first. n log n for any text, because a joined text is never longer than the longest token.
 */
export class SentencePieceEncoder {
  private readonly queue = new MergeQueue();
  private readonly longest: number;
  /** (256) token of each byte, -1 where the vocabulary has none */
  private readonly byteTokens = new Int32Array(256);

  constructor(
    private readonly idOf: ReadonlyMap<string, number>,
    private readonly scores: Float32Array,
    private readonly unknownId: number | null,
  ) {
    let longest = 0;
    for (const text of idOf.keys()) longest = Math.max(longest, text.length);
    this.longest = longest;
    for (let byte = 0; byte < 256; byte++) {
      const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
      this.byteTokens[byte] = idOf.get(name) ?? (byte < 0x80 ? (idOf.get(String.fromCharCode(byte)) ?? -1) : -1);
    }
  }

  /** Append the ids of `text`, whose spaces are marked already and which has no lone surrogates. */
  encode(text: string, out: number[], poll: () => void): void {
    // (text.length + 1) of the symbol that begins at a code unit: its length, 0 once it was joined to its left.
    const lengths = new Int32Array(text.length + 1);
    const previous = new Int32Array(text.length + 1); // begin of the symbol to the left, -1 at the start
    let before = -1;
    for (let i = 0; i < text.length;) {
      const size = isHighSurrogate(text.charCodeAt(i)) ? 2 : 1;
      lengths[i] = size;
      previous[i] = before;
      before = i;
      i += size;
    }
    const { queue } = this;
    queue.clear();
    let steps = 0;
    for (let i = 0; i < text.length; i += lengths[i]!) {
      if (++steps % POLL_STRIDE === 0) poll();
      this.propose(text, i, lengths);
    }
    while (queue.pop()) {
      if (++steps % POLL_STRIDE === 0) poll();
      const left = queue.left;
      const size = lengths[left]!;
      const right = left + size;
      if (size === 0 || lengths[right] === 0 || size + lengths[right]! !== queue.check) continue;
      lengths[left] = queue.check;
      lengths[right] = 0;
      const after = left + queue.check;
      if (after < text.length) previous[after] = left;
      if (previous[left]! >= 0) this.propose(text, previous[left]!, lengths);
      this.propose(text, left, lengths);
    }
    for (let i = 0; i < text.length; i += lengths[i]!) {
      const piece = text.slice(i, i + lengths[i]!);
      const id = this.idOf.get(piece);
      if (id !== undefined) out.push(id);
      else this.encodeBytes(piece, out);
    }
  }

  private propose(text: string, left: number, lengths: Int32Array): void {
    const right = left + lengths[left]!;
    if (right >= text.length) return;
    const size = lengths[left]! + lengths[right]!;
    if (size > this.longest) return;
    const id = this.idOf.get(text.substring(left, left + size));
    if (id !== undefined) this.queue.push(-this.scores[id]!, left, size);
  }

  private encodeBytes(piece: string, out: number[]): void {
    const bytes = encodeUtf8(piece);
    if (bytes.every((byte) => this.byteTokens[byte]! >= 0)) {
      for (const byte of bytes) out.push(this.byteTokens[byte]!);
    } else if (this.unknownId !== null) out.push(this.unknownId);
    else {
      const code = piece.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
      raise(
        SQLSTATE.invalidParameterValue,
        `character U+${code} is not in the vocabulary, which has no byte or unknown token`,
      );
    }
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}
