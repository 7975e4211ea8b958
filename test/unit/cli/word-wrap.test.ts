/** Where lines break that come in pieces. */
import { expect, test } from 'vitest';
import { WordWrap } from '../../../cli/chat/word-wrap.ts';

const WIDTH = 10;

test.each([
  ['a line of exactly the width', 'abcde fghi jk', 'abcde fghi\njk'],
  ['a line of exactly the width, and its end', 'abcde fghi\njk', 'abcde fghi\njk'],
  ['a word of exactly the width', 'abcdefghij kl', 'abcdefghij\nkl'],
  ['characters of two columns', '\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587', '\u4e2d\u6587\u4e2d\u6587\u4e2d\n\u6587'],
  ['a tab, which goes to the next stop', 'a\tbc de', 'a\tbc\nde'],
  ['a tab with no room behind it', 'a\tbcd e', 'a\nbcd e'],
  ['a blank of two columns', 'abcd\u3000efgh i', 'abcd\u3000efgh\ni'],
])('%s', (_name, text, shown) => {
  for (const size of [1, 2, 3, text.length]) {
    const wrap = new WordWrap(() => WIDTH);
    let out = '';
    for (let i = 0; i < text.length; i += size) out += wrap.push(text.slice(i, i + size));
    expect(out + wrap.flush(), `pieces of ${size}`).toBe(shown);
  }
});
