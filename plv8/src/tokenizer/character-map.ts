/**
 * SentencePiece's precompiled normalisation: replacements of byte sequences, in a double-array trie of 32-bit units
 * (Darts) behind which the replacements stand, each ended by a zero byte. Format: SentencePiece's normalizer.h.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { decodeUtf8, encodeUtf8 } from '../format/utf8.ts';

/** Characters between two polls. */
const POLL_STRIDE = 4096;

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

export class CharacterMap {
  private readonly units: Uint32Array;
  private readonly texts: Uint8Array;
  private readonly replacements = new Map<number, string>();

  /** Throws dataCorrupted for sizes that cannot be. */
  constructor(map: Uint8Array) {
    const view = new DataView(map.buffer, map.byteOffset, map.byteLength);
    const bytes = map.length >= 4 ? view.getUint32(0, true) : 0;
    if (bytes % 4 !== 0 || bytes === 0 || 4 + bytes > map.length)
      raise(SQLSTATE.dataCorrupted, `tokenizer.ggml.precompiled_charsmap has ${map.length} bytes, its trie ${bytes}`);
    this.units = Uint32Array.from({ length: bytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.texts = map.subarray(4 + bytes);
  }

  /** `text` with every longest sequence of the map replaced. */
  apply(text: string, poll: () => void): string {
    const bytes = encodeUtf8(text);
    let out = '';
    let kept = 0; // bytes before this are in `out`
    let steps = 0;
    for (let at = 0; at < bytes.length;) {
      if (++steps % POLL_STRIDE === 0) poll();
      const match = this.longest(bytes, at);
      if (match === null) {
        at++;
        while (at < bytes.length && (bytes[at]! & 0xc0) === 0x80) at++;
        continue;
      }
      out += decodeUtf8(bytes, kept, at) + match.replacement;
      at = kept = match.end;
    }
    return out + decodeUtf8(bytes, kept, bytes.length);
  }

  private longest(bytes: Uint8Array, start: number): { end: number; replacement: string } | null {
    const { units } = this;
    let found: { end: number; value: number } | null = null;
    let node = offsetOf(units[0]!);
    for (let i = start; i < bytes.length && bytes[i] !== 0; i++) {
      node ^= bytes[i]!;
      const unit = units[node];
      // A unit belongs to the byte that its label, whose highest bit is that of a leaf, says.
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== bytes[i]) break;
      node ^= offsetOf(unit);
      if ((unit & 0x100) !== 0) found = { end: i + 1, value: (units[node] ?? 0) & 0x7fffffff };
    }
    return found === null ? null : { end: found.end, replacement: this.replacement(found.value) };
  }

  private replacement(at: number): string {
    let text = this.replacements.get(at);
    if (text === undefined) {
      const end = this.texts.indexOf(0, at);
      text = decodeUtf8(this.texts, at, end < 0 ? this.texts.length : end);
      this.replacements.set(at, text);
    }
    return text;
  }
}
