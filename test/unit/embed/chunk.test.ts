/** Chunks of texts: what they may never do, over many texts, and where they divide some. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { boundariesOf, STRENGTH } from '../../../plv8/src/embed/chunk/boundaries.ts';
import { parseChunkOptions } from '../../../plv8/src/embed/chunk/chunk-options.ts';
import type { Chunk } from '../../../plv8/src/embed/chunk/chunk.ts';
import { chunkText } from '../../../plv8/src/embed/chunk/chunk.ts';
import { mayCut } from '../../../plv8/src/embed/chunk/graphemes.ts';

/** As a tokenizer would: pieces of words, where a whole may have more tokens than its parts. */
const count = (text: string): number => (text.match(/\p{L}{1,4}|\p{N}|[^\s\p{L}\p{N}]/gu) ?? []).length;

function chunks(text: string, options: Record<string, unknown>, largest = 256): Chunk[] {
  return chunkText(text, parseChunkOptions(options), largest, count);
}

/** substr of PostgreSQL, whose characters are code points. */
function substr(text: string, from: number, length: number): string {
  return [...text].slice(from - 1, from - 1 + length).join('');
}

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

function graphemeBreaks(text: string): Set<number> {
  return new Set([...segmenter.segment(text)].map(({ index }) => index).concat(text.length));
}

const PIECES = [
  ...['a', 'Z', '7', ' ', '\n', '\r\n', '. ', '\n\n', '# ', '```\n', '- ', '| x |\n', 'word', '。', '!', '\t'],
  ...[
    'e\u0301',
    '\u0301',
    '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}',
    '\u{1f44d}\u{1f3fd}',
    '\u{1f1e9}\u{1f1ea}',
    '\u{1f1eb}',
  ],
  ...[
    '\u1100\u1161\u11a8',
    '\uac00\u11a8',
    '\u0915\u094d\u0937',
    '\u0928\u093f',
    '\u0e01\u0e33',
    '\u0600',
    '\u200d',
    '\u{1d11e}',
  ],
  ...[
    '\u4e2d',
    '\u6587',
    '\u0bbe',
    '\u094d',
    '\u{1f3f4}\u{e0067}\u{e007f}',
    '\u00ad',
    '\ufeff',
    '\u0d4e',
    '\u09c7\u09d7',
  ],
];
const anyText = fc.array(fc.constantFrom(...PIECES), { maxLength: 60 }).map((pieces) => pieces.join(''));

describe('mayCut', () => {
  test("never says yes within what Unicode's rules keep together", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const breaks = graphemeBreaks(text);
        for (let at = 0; at <= text.length; at++) if (mayCut(text, at)) expect(breaks.has(at)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test('says yes between letters, ideographs, syllables and pairs of flags', () => {
    for (const text of ['ab', '\u4e2d\u6587', '\uac00\uac00', 'a\u{1f600}', '\u{1f600}\u{1f600}', 'e\u0301x'])
      expect(mayCut(text, text.length - (text.endsWith('\u{1f600}') ? 2 : 1)), text).toBe(true);
    expect(mayCut('\u{1f1e9}\u{1f1ea}\u{1f1eb}\u{1f1f7}', 4)).toBe(true);
  });
});

describe('chunks', () => {
  test('are what substr gives, cut between graphemes, of at most so many tokens, and together the whole text', () => {
    const options = fc.record({
      size: fc.integer({ min: 1, max: 30 }),
      by: fc.constantFrom('token', 'sentence', 'paragraph'),
      format: fc.constantFrom('text', 'markdown', 'code'),
    });
    fc.assert(
      fc.property(anyText, options, fc.double({ min: 0, max: 0.5, noNaN: true }), (text, given, share) => {
        const found = chunks(text, { ...given, overlap: Math.floor(given.size * share) });
        const breaks = graphemeBreaks(text);
        const characters = [...text];
        const covered = new Set<number>();
        let last = 0;
        for (const { from, to, text: piece } of found) {
          expect(substr(text, from, to - from + 1)).toBe(piece);
          const start = characters.slice(0, from - 1).join('').length;
          expect(breaks.has(start) && breaks.has(start + piece.length)).toBe(true);
          expect(count(piece) <= given.size || !someCut(piece), JSON.stringify([piece, count(piece)])).toBe(true);
          expect(to).toBeGreaterThan(last);
          last = to;
          for (let i = from; i <= to; i++) covered.add(i);
        }
        characters.forEach((character, i) => {
          if (!covered.has(i + 1)) expect(character.trim()).toBe('');
        });
      }),
      { numRuns: 700 },
    );
  });

  test('do not end where the chunk before ended, where only space follows', () => {
    const found = chunks('worda\r\n \u{1f468}\u200d\u{1f469}', { size: 1, by: 'token', overlap: 0 });
    expect(found.map(({ to }) => to)).toEqual([1, 2, 3, 4, 7, 11]);
  });

  /** Whether there is a place where a text may be cut. */
  function someCut(text: string): boolean {
    for (let at = 1; at < text.length; at++) if (mayCut(text, at)) return true;
    return false;
  }

  test('end with a paragraph rather than with a sentence, and with a sentence rather than within one', () => {
    const text = 'One two three. Four five six.\n\nSeven eight nine. Ten eleven twelve.';
    const texts = (options: object): string[] => chunks(text, { overlap: 0, ...options }).map((chunk) => chunk.text);
    expect(texts({ size: 15 })).toEqual(['One two three. Four five six.', 'Seven eight nine. Ten eleven twelve.']);
    expect(texts({ size: 15, by: 'sentence' })).toEqual([
      'One two three. Four five six.\n\nSeven eight nine.',
      'Ten eleven twelve.',
    ]);
    expect(texts({ size: 8 })).toEqual(['One two three.', 'Four five six.', 'Seven eight nine.', 'Ten eleven twelve.']);
    expect(texts({ size: 3, by: 'token' })[0]).toBe('One two');
  });

  test('repeat whole sentences of the chunk before, as many as the overlap allows, and none from before a heading', () => {
    const prose = 'Aa bb. Cc dd. Ee ff. Gg hh. Ii jj.';
    expect(chunks(prose, { size: 9, overlap: 3 }).map(({ text }) => text)).toEqual([
      'Aa bb. Cc dd. Ee ff.',
      'Ee ff. Gg hh. Ii jj.',
    ]);
    const sections = '# A\n\nAa bb. Cc dd.\n\n# B\n\nEe ff. Gg hh.';
    expect(chunks(sections, { size: 9, overlap: 4, format: 'markdown' }).map(({ text }) => text)).toEqual([
      '# A\n\nAa bb. Cc dd.',
      '# B\n\nEe ff. Gg hh.',
    ]);
  });

  test('of Markdown begin with headings, which stay with what follows, and leave blocks of code whole where they fit', () => {
    const text =
      'Intro text here.\n\n## Usage\n\nRun it:\n\n```\na = 1. B = 2\n\nb = 2\n```\n\nDone.\n\nTitle\n=====\n\nMore.';
    const strengths = new Map(boundariesOf(text, 'markdown').map(({ at, strength }) => [at, strength]));
    const before = (part: string): number | undefined => strengths.get(text.indexOf(part));
    expect(before('## Usage')).toBe(STRENGTH.section);
    expect(before('Run it')).toBe(STRENGTH.word);
    expect(before('```\na')).toBe(STRENGTH.paragraph);
    expect(before('B = 2')).toBeUndefined();
    expect(before('b = 2')).toBe(STRENGTH.line);
    expect(before('Done.')).toBe(STRENGTH.paragraph);
    expect(before('Title')).toBe(STRENGTH.section);
    expect(before('=====')).toBe(STRENGTH.word);
    expect(before('More.')).toBe(STRENGTH.word);
  });

  test('of code end with blank lines rather than with lines, and within no line that fits', () => {
    const code = 'def a():\n    return 1\n\ndef b():\n    x = 1\n    return x\n';
    expect(chunks(code, { size: 16, overlap: 0, format: 'code' }).map(({ text }) => text)).toEqual([
      'def a():\n    return 1',
      'def b():\n    x = 1\n    return x',
    ]);
  });

  test('know initials and abbreviations, closing quotes, and full stops of Asian scripts', () => {
    const starts = (text: string): string[] => boundariesOf(text, 'text').map(({ at }) => text.slice(at, at + 2));
    expect(starts('Mr. Smith met J. Doe, e.g. Here. "Yes." (Yes.) He left. it goes on.')).toEqual(['"Y', '(Y', 'He']);
    expect(starts('\u4eca\u65e5\u3002\u660e\u65e5\uff01\u306f\u3044')).toEqual(['\u660e\u65e5', '\u306f\u3044']);
  });

  test('of nothing but space are none, and a word that is too long is cut between graphemes', () => {
    expect(chunks(' \n\t ', {})).toEqual([]);
    expect(chunks('', {})).toEqual([]);
    const word = 'e\u0301'.repeat(100);
    const found = chunks(word, { size: 5, overlap: 0 });
    expect(found.map(({ text }) => text).join('')).toBe(word);
    expect(found.every(({ text }) => text.startsWith('e') && text.endsWith('\u0301'))).toBe(true);
  });

  test.each([
    [{ size: 0 }, 'option size must be a whole number of at least 1, got 0'],
    [{ size: 1.5 }, 'option size must be a whole number of at least 1, got 1.5'],
    [{ overlap: -1 }, 'option overlap must be a whole number of at least 0, got -1'],
    [{ size: 10, overlap: 6 }, 'option overlap is 6, half of size 10 is the most'],
    [{ by: 'page' }, 'option by must be one of token, sentence, paragraph, got "page"'],
    [{ by: 'toString' }, 'option by must be one of token, sentence, paragraph, got "toString"'],
    [{ format: 'html' }, 'option format must be one of text, markdown, code, got "html"'],
    [{ length: 3 }, 'unknown option "length"'],
  ])('options %j are refused by name', (options, message) => {
    expect(() => chunks('text', options)).toThrow(message);
  });
});
