import { describe, expect, it } from 'vitest';
import { StopMatcher } from '../../../plv8/src/sampling/stop.ts';
import { Utf8Stream } from '../../../plv8/src/sampling/utf8-stream.ts';

/** What goes out for a text cut into pieces of `size`, and whether it was stopped. */
function run(stops: string[], text: string, size: number): [string, boolean] {
  const matcher = new StopMatcher(stops);
  let out = '';
  for (let i = 0; i < text.length; i += size) out += matcher.push(text.slice(i, i + size));
  return [matcher.stopped ? out : out + matcher.flush(), matcher.stopped];
}

describe('stop strings', () => {
  it('are found wherever the pieces are cut', () => {
    const text = 'one two ENE END three';
    for (let size = 1; size <= text.length; size++) {
      expect(run(['END'], text, size)).toEqual(['one two ENE ', true]);
      expect(run(['never'], text, size)).toEqual([text, false]);
      expect(run([], text, size)).toEqual([text, false]);
    }
  });

  it('stop at the earliest of several', () => {
    for (let size = 1; size < 8; size++) expect(run(['dd', 'bb', 'bbc'], 'aabbccdd', size)).toEqual(['aa', true]);
  });

  it('hold back only what may still become one', () => {
    const matcher = new StopMatcher(['\n\nUser:']);
    expect(matcher.push('Hello\n')).toBe('Hello');
    expect(matcher.push('\n')).toBe('');
    expect(matcher.push('Us')).toBe('');
    expect(matcher.push('eful')).toBe('\n\nUseful');
    expect(matcher.push('\n\nUser')).toBe('');
    expect(matcher.flush()).toBe('\n\nUser');
  });

  it('give nothing out after the end', () => {
    const matcher = new StopMatcher(['x']);
    expect(matcher.push('axb')).toBe('a');
    expect(matcher.push('c') + matcher.flush()).toBe('');
  });
});

describe('utf8 stream', () => {
  it('never gives out half a character', () => {
    const text = 'aé漢🙂 👩‍💻';
    const bytes = new TextEncoder().encode(text);
    for (let size = 1; size <= bytes.length; size++) {
      const stream = new Utf8Stream();
      let out = '';
      for (let i = 0; i < bytes.length; i += size) {
        const piece = stream.push(bytes.subarray(i, i + size));
        expect(piece).not.toContain('\ufffd');
        expect(piece).not.toMatch(/\p{Surrogate}/u);
        out += piece;
      }
      expect(out + stream.flush()).toBe(text);
    }
  });

  it('replaces what can never become a character', () => {
    const stream = new Utf8Stream();
    expect(stream.push(Uint8Array.of(0xf0, 0x9f))).toBe('');
    expect(stream.push(Uint8Array.of(0x41))).toBe('\ufffdA');
    expect(stream.push(Uint8Array.of(0xe6, 0xbc))).toBe('');
    expect(stream.flush()).toBe('\ufffd');
    expect(stream.flush()).toBe('');
  });
});
