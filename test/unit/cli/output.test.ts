import stringWidth from 'string-width';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { printTable, shortenMiddle } from '../../../cli/output.ts';

describe('a text that is too wide', () => {
  it.each([
    ['abcdef', 6, 'abcdef'],
    ['abcdefg', 6, 'abc…fg'],
    ['abcdefgh', 5, 'ab…gh'],
    ['日本語の文', 7, '日…文'],
    ['日本語の文', 8, '日本…文'],
    ['e\u0301e\u0301e\u0301e\u0301', 3, 'e\u0301…e\u0301'],
    ['👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧', 5, '👩‍👩‍👧…👩‍👩‍👧'],
    ['abc', 1, '…'],
  ])('%s in %i columns is %s', (text, width, expected) => {
    expect(shortenMiddle(text, width)).toBe(expected);
    expect(stringWidth(expected)).toBeLessThanOrEqual(width);
  });
});

describe('a table', () => {
  afterEach(() => vi.restoreAllMocks());

  const long = `'${'Once upon a time there was a kite. '.repeat(5)}'`;
  const printed = (width: number | undefined): string[] => {
    let text = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
      text += String(chunk);
      return true;
    });
    const rows = [
      { input: long, 'leave-one-out': '+1.25' },
      { input: `'short'`, 'leave-one-out': '-0.01' },
    ];
    printTable(['input', 'leave-one-out'], rows, { shortened: 'input', ...(width === undefined ? {} : { width }) });
    vi.restoreAllMocks();
    return text.split('\n').filter((line) => line !== '');
  };

  it('fits the terminal, its numbers whole', () => {
    for (const width of [30, 60, 80]) {
      const lines = printed(width);
      for (const line of lines) expect(stringWidth(line.trimEnd())).toBeLessThanOrEqual(width);
      expect(lines[1]).toMatch(/^'On.*….*\.?\s?' +\+1\.25 *$/);
      expect(lines[2]).toMatch(/^'short' +-0\.01 *$/);
    }
  });

  it('is whole where there is no terminal or one that is wide enough', () => {
    expect(printed(undefined)[1]).toContain(long);
    expect(printed(400)[1]).toContain(long);
  });
});
