import { describe, expect, it } from 'vitest';
import { decodeUtf8, encodeUtf8, incompleteUtf8Suffix, utf8Length } from '../../../plv8/src/format/utf8.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

/** A small deterministic generator, so that a failure can be repeated. */
function randomInts(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe('utf8', () => {
  it('encodes as TextEncoder does, lone surrogates included', () => {
    const random = randomInts(1);
    for (let round = 0; round < 2000; round++) {
      let text = '';
      for (let i = random(40); i > 0; i--)
        text += String.fromCharCode([random(128), random(0x800), 0xd800 + random(0x800), random(0x10000)][random(4)]!);
      expect(Array.from(encodeUtf8(text))).toEqual(Array.from(encoder.encode(text)));
      expect(utf8Length(text)).toBe(encoder.encode(text).length);
    }
  });

  it('decodes as TextDecoder does, ill-formed bytes included', () => {
    const random = randomInts(2);
    const interesting = [
      0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5,
      0xff,
    ];
    for (let round = 0; round < 20000; round++) {
      const bytes = Uint8Array.from({ length: random(12) }, () => interesting[random(interesting.length)]!);
      expect(decodeUtf8(bytes), Buffer.from(bytes).toString('hex')).toBe(decoder.decode(bytes));
    }
  });

  it('decodes texts longer than one chunk and parts of an array', () => {
    const text = '🙂é漢a'.repeat(9000);
    const bytes = encoder.encode(text);
    expect(decodeUtf8(bytes)).toBe(text);
    expect(decodeUtf8(bytes, 4, 9)).toBe('é漢');
    expect(decodeUtf8(new Uint8Array(0))).toBe('');
  });

  it('finds the beginning of a character that is not complete', () => {
    const cases: [number[], number][] = [
      [[], 0],
      [[0x61], 0],
      [[0xc3], 1],
      [[0xc3, 0xa9], 0],
      [[0xe6], 1],
      [[0xe6, 0xbc], 2],
      [[0xe6, 0xbc, 0xa2], 0],
      [[0x61, 0xf0, 0x9f, 0x99], 3],
      [[0xf0, 0x9f, 0x99, 0x82], 0],
      [[0x80, 0x80, 0x80], 0],
      [[0xc0], 0],
      [[0xe0, 0x80], 0],
      [[0xed, 0xa0], 0],
      [[0xf4, 0x90], 0],
      [[0xff], 0],
    ];
    for (const [bytes, expected] of cases)
      expect(incompleteUtf8Suffix(Uint8Array.from(bytes)), String(bytes)).toBe(expected);
  });
});
