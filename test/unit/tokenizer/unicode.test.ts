/** The project's own Unicode tables against this Node.js, where it knows the same version or an older one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { categoryBit, categoryMask } from '../../../plv8/src/tokenizer/unicode/categories.ts';
import { lowerCase, nfc, nfd } from '../../../plv8/src/tokenizer/unicode/normalize.ts';

/** Every character that this Node.js knows; what it does not know has no category there. */
const KNOWN = Array.from({ length: 0x110000 }, (_, code) => code).filter(
  (code) => (code < 0xd800 || code > 0xdfff) && !/\p{Cn}/u.test(String.fromCodePoint(code)),
);

describe('Unicode tables', () => {
  it.each(['L', 'Lu', 'Ll', 'Lt', 'Lm', 'Lo', 'M', 'Mn', 'N', 'P', 'S', 'Z', 'Cc', 'Cf', 'Co'])(
    'know every character of category %s',
    (name) => {
      const mask = categoryMask(name);
      const expression = new RegExp(`\\p{${name}}`, 'u');
      const isIn = (code: number): boolean => expression.test(String.fromCodePoint(code));
      expect(KNOWN.filter((code) => ((categoryBit(code) & mask) !== 0) !== isIn(code))).toEqual([]);
    },
  );

  it('decompose and compose every character as JavaScript does', () => {
    const differing = KNOWN.map((code) => String.fromCodePoint(code)).filter(
      (text) => nfd(text) !== text.normalize('NFD') || nfc(text) !== text.normalize('NFC'),
    );
    expect(differing).toEqual([]);
  });

  it('lower every character as JavaScript does', () => {
    const lowered = (code: number): string => String.fromCodePoint(...lowerCase(code));
    expect(KNOWN.filter((code) => lowered(code) !== String.fromCodePoint(code).toLowerCase())).toEqual([]);
  });

  it('normalise texts of letters and marks as JavaScript does', () => {
    const special = fc.constantFrom(
      ...'aeioụ́̀̂한국각각ḍ̇q̣̇각αϓΩÅ≠क़ड़ज़뮣',
      ...[0x334, 0x345, 0x5b0, 0x93c, 0xf71, 0x1e9b, 0x323, 0x1d15e, 0x1d165, 0x302e].map((code) =>
        String.fromCodePoint(code),
      ),
    );
    const text = fc
      .array(fc.oneof(special, fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 })))
      .map((all) => all.join(''));
    fc.assert(
      fc.property(text, (each) => {
        expect(nfd(each)).toBe(each.normalize('NFD'));
        expect(nfc(each)).toBe(each.normalize('NFC'));
      }),
      { numRuns: 2000 },
    );
  });
});
