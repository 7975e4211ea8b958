/**
 * UTF-8 without TextEncoder and TextDecoder, which PL/V8 does not have.
 * Follows the WHATWG Encoding Standard: https://encoding.spec.whatwg.org/#utf-8
 */

const REPLACEMENT = 0xfffd;

/** Code units handed to String.fromCharCode at once; more would overflow the argument stack. */
const CHUNK = 8192;

/** Lone surrogates, which no UTF-8 text has, become U+FFFD. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}

/** Bytes of the UTF-8 form of `text`; a lone surrogate counts as U+FFFD (3 bytes). */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (unit >= 0xd800 && unit <= 0xdbff && isLowSurrogate(text.charCodeAt(i + 1))) {
      bytes += 4;
      i++;
    } else bytes += 3;
  }
  return bytes;
}

/** Encode `text`; a lone surrogate becomes U+FFFD. */
export function encodeUtf8(text: string): Uint8Array {
  const out = new Uint8Array(utf8Length(text));
  writeUtf8(text, out, 0);
  return out;
}

/** Write `text` into `out` from `at` on; the offset after the last byte. `out` must have room for utf8Length(text). */
export function writeUtf8(text: string, out: Uint8Array, at: number): number {
  let o = at;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code < 0x80) {
      out[o++] = code;
      continue;
    }
    if (code >= 0xd800 && code <= 0xdfff) {
      const low = code <= 0xdbff ? text.charCodeAt(i + 1) : NaN;
      if (isLowSurrogate(low)) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else code = REPLACEMENT;
    }
    if (code < 0x800) out[o++] = 0xc0 | (code >> 6);
    else {
      if (code < 0x10000) out[o++] = 0xe0 | (code >> 12);
      else {
        out[o++] = 0xf0 | (code >> 18);
        out[o++] = 0x80 | ((code >> 12) & 0x3f);
      }
      out[o++] = 0x80 | ((code >> 6) & 0x3f);
    }
    out[o++] = 0x80 | (code & 0x3f);
  }
  return o;
}

/**
 * Decode bytes [start, end); every maximal part of an ill-formed sequence becomes one U+FFFD. A byte order mark is
 * kept, since it is content here.
 */
export function decodeUtf8(bytes: Uint8Array, start = 0, end = bytes.length): string {
  const units = new Uint16Array(Math.min(CHUNK, Math.max(2, end - start)) + 1);
  let text = '';
  let n = 0;
  let i = start;
  while (i < end) {
    if (n >= units.length - 1) {
      text += String.fromCharCode.apply(null, units.subarray(0, n) as unknown as number[]);
      n = 0;
    }
    const lead = bytes[i]!;
    if (lead < 0x80) {
      units[n++] = lead;
      i++;
      continue;
    }
    const length = validSequence(bytes, i, end);
    if (length <= 0) {
      units[n++] = REPLACEMENT;
      i -= Math.min(length, -1);
      continue;
    }
    if (length === 2) units[n++] = ((lead & 0x1f) << 6) | (bytes[i + 1]! & 0x3f);
    else if (length === 3) units[n++] = ((lead & 0x0f) << 12) | ((bytes[i + 1]! & 0x3f) << 6) | (bytes[i + 2]! & 0x3f);
    else {
      const code =
        (((lead & 0x07) << 18) |
          ((bytes[i + 1]! & 0x3f) << 12) |
          ((bytes[i + 2]! & 0x3f) << 6) |
          (bytes[i + 3]! & 0x3f)) -
        0x10000;
      units[n++] = 0xd800 + (code >> 10);
      units[n++] = 0xdc00 + (code & 0x3ff);
    }
    i += length;
  }
  return text + String.fromCharCode.apply(null, units.subarray(0, n) as unknown as number[]);
}

/**
 * Bytes at the end of [0, end) that begin a character which more bytes could complete; 0 when the text ends at a
 * border or in something that can never become a character.
 */
export function incompleteUtf8Suffix(bytes: Uint8Array, end = bytes.length): number {
  for (let back = 1; back <= Math.min(3, end); back++) {
    const byte = bytes[end - back]!;
    if (byte >= 0x80 && byte < 0xc0) continue;
    if (byte < 0xc2 || byte > 0xf4) return 0;
    const need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return need > back && -validSequence(bytes, end - back, end) === back ? back : 0;
  }
  return 0;
}

/**
 * Length of the well-formed sequence at `i` (a lead byte >= 0x80), or minus the length of the maximal ill-formed part
 * there.
 */
function validSequence(bytes: Uint8Array, i: number, end: number): number {
  const lead = bytes[i]!;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  // Overlong forms, surrogates and code points above U+10FFFF are cut off by the range of the second byte.
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  for (let k = 1; k < need; k++) {
    if (i + k >= end) return -k;
    const byte = bytes[i + k]!;
    if (k === 1 ? byte < low || byte > high : byte < 0x80 || byte > 0xbf) return -k;
  }
  return need;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
