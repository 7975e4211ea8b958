import { describe, expect, test } from 'vitest';
import { hilbertDecode, hilbertEncode } from '../../../plv8/src/hilbert/hilbert.ts';

const shapes: [dims: number, bits: number][] = [
  [1, 6],
  [2, 1],
  [2, 5],
  [3, 3],
  [4, 2],
  [5, 2],
  [8, 1],
  [10, 1],
];

describe('hilbert index', () => {
  test.each(shapes)('in %i dimensions of %i bits moves one step in one coordinate and comes back', (dims, bits) => {
    let previous: number[] | null = null;
    for (let index = 0n; index < 1n << BigInt(dims * bits); index++) {
      const point = hilbertDecode(index, dims, bits);
      expect(hilbertEncode(point, bits)).toBe(index);
      if (previous !== null) {
        const before = previous;
        const steps = point.map((value, i) => Math.abs(value - (before[i] as number)));
        expect(steps.reduce((sum, step) => sum + step, 0)).toBe(1);
      }
      previous = point;
    }
  });

  test('of 4 x 15 bits round-trips and steps by one at places spread over the whole curve', () => {
    const last = (1n << 60n) - 1n;
    for (let k = 0n; k < 500n; k++) {
      const index = (last * k) / 500n + k;
      const here = hilbertDecode(index, 4, 15);
      const next = hilbertDecode(index + 1n, 4, 15);
      expect(hilbertEncode(here, 15)).toBe(index);
      expect(here.reduce((sum, value, i) => sum + Math.abs(value - (next[i] as number)), 0)).toBe(1);
    }
    expect(hilbertEncode(hilbertDecode(last, 4, 15), 15)).toBe(last);
  });

  test('of a byte over its bits is the inverse of the Gray code', () => {
    for (let byte = 0; byte < 256; byte++) {
      const bits = Array.from({ length: 8 }, (_, i) => (byte >> (7 - i)) & 1);
      const index = Number(hilbertEncode(bits, 1));
      expect(index ^ (index >> 1)).toBe(byte);
    }
  });

  test.each([
    [() => hilbertEncode([8, 0], 3), /8/],
    [() => hilbertEncode([-1, 0], 3), /-1/],
    [() => hilbertEncode([0.5, 0], 3), /0.5/],
    [() => hilbertEncode([0, 0, 0, 0], 16), /64 bits/],
    [() => hilbertEncode([], 4), /at least 1, got 0/],
    [() => hilbertDecode(64n, 2, 3), /64/],
    [() => hilbertDecode(-1n, 2, 3), /-1/],
  ])('refuses what does not fit (%#)', (call, message) => {
    expect(call).toThrow(RangeError);
    expect(call).toThrow(message);
  });
});
