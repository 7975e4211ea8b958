import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../plv8/src/kernels/load.ts';
import { instantiateKernels, newMemory } from '../../../plv8/src/kernels/load.ts';
import { scalarKernels } from '../../../plv8/src/kernels/scalar.ts';

/** Below lie the kernels' constants. */
const BASE = 65536;
const PAGES = 64;
/** Relative to the sum of the magnitudes that were added; float rounding over a few thousand terms. */
const TOLERANCE = 2e-6;

/** Deterministic numbers in [-1, 1). */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

interface Bench {
  kernels: Kernels;
  f32: Float32Array;
  u8: Uint8Array;
  i8: Int8Array;
  i16: Int16Array;
}

function bench(make: (memory: ReturnType<typeof newMemory>) => Kernels): Bench {
  const memory = newMemory(PAGES);
  return {
    kernels: make(memory),
    f32: new Float32Array(memory.buffer),
    u8: new Uint8Array(memory.buffer),
    i8: new Int8Array(memory.buffer),
    i16: new Int16Array(memory.buffer),
  };
}

/** Run the same work on the oracle and on WebAssembly; the results in that order. */
function both<T>(work: (b: Bench) => T): [oracle: T, simd: T] {
  return [work(bench(scalarKernels)), work(bench(instantiateKernels))];
}

function expectClose(
  actual: ArrayLike<number>,
  oracle: ArrayLike<number>,
  magnitude: number,
  tolerance = TOLERANCE,
): void {
  expect(actual).toHaveLength(oracle.length);
  for (let i = 0; i < oracle.length; i++) {
    expect(Math.abs(actual[i]! - oracle[i]!), `element ${i}: ${actual[i]} against ${oracle[i]}`).toBeLessThanOrEqual(
      tolerance * magnitude,
    );
  }
}

const at = (offset: number): number => BASE + offset;
const K = 1024;

/** Values that quantisers get wrong: zeros, one huge value, denormals, the extremes. */
const FILLS: [name: string, value: (random: () => number, i: number) => number][] = [
  ['random', (random) => random()],
  ['zero', () => 0],
  ['one outlier', (random, i) => (i === 17 ? 1e6 : random() * 1e-3)],
  ['denormal', (random) => random() * 1e-40],
  ['huge', (random) => random() * 1e30],
  ['equal', () => -3.25],
];

describe('unpacking stored blocks', () => {
  it.each(['repackQ8_0', 'widenF16', 'widenBF16'] as const)(
    '%s gives exactly the oracle for every bit pattern',
    (name) => {
      const [oracle, simd] = both((b) => {
        const random = noise(1);
        for (let i = 0; i < 68 * K; i++) b.u8[at(i)] = Math.floor((random() + 1) * 128);
        if (name === 'repackQ8_0') {
          b.kernels.repackQ8_0(at(0), at(128 * K), at(256 * K), 1000);
          return [b.u8.slice(at(128 * K), at(128 * K) + 32_000), b.f32.slice(at(256 * K) / 4, at(256 * K) / 4 + 1000)];
        }
        for (let i = 0; i < 32 * K; i++) {
          b.u8[at(2 * i)] = i & 255;
          b.u8[at(2 * i + 1)] = (i >> 8) | (i & 1 ? 128 : 0);
        }
        b.kernels[name](at(0), at(128 * K), 32 * K);
        return [b.f32.slice(at(128 * K) / 4, at(128 * K) / 4 + 32 * K)];
      });
      expect(simd).toEqual(oracle);
    },
  );

  it('repackQ4_0 and repackQ4_1 give exactly the oracle', () => {
    const [oracle, simd] = both((b) => {
      const random = noise(2);
      for (let i = 0; i < 64 * K; i++) b.u8[at(i)] = Math.floor((random() + 1) * 128);
      b.kernels.repackQ4_0(at(0), at(128 * K), at(256 * K), 777);
      b.kernels.repackQ4_1(at(0), at(384 * K), at(512 * K), at(640 * K), 777);
      return [
        b.i8.slice(at(128 * K), at(128 * K) + 777 * 32),
        b.f32.slice(at(256 * K) / 4, at(256 * K) / 4 + 777),
        b.i8.slice(at(384 * K), at(384 * K) + 777 * 32),
        b.f32.slice(at(512 * K) / 4, at(512 * K) / 4 + 777),
        b.f32.slice(at(640 * K) / 4, at(640 * K) / 4 + 777),
      ];
    });
    expect(simd).toEqual(oracle);
    expect(Math.max(...(oracle[0] as Int8Array))).toBe(15);
    expect(Math.max(...(oracle[2] as Int8Array))).toBe(15);
  });
});

describe('unpacking blocks of five bits, of a codebook and of 256 elements', () => {
  it.each([
    ['Q5_0', 22, 32, false],
    ['Q5_1', 24, 32, true],
    ['IQ4_NL', 18, 32, false],
    ['IQ4_XS', 136, 256, false],
    ['Q4_K', 144, 256, true],
    ['Q5_K', 176, 256, true],
    ['Q6_K', 210, 256, false],
    ['Q3_K', 110, 256, false],
  ] as const)('%s gives exactly the oracle', (type, blockBytes, blockSize, minimums) => {
    const blocks = 60;
    const [oracle, simd] = both((b) => {
      const random = noise(blockBytes);
      for (let i = 0; i < blocks * blockBytes; i++) b.u8[at(i)] = Math.floor((random() + 1) * 128);
      const [quants, scales, mins] = [at(64 * K), at(128 * K), at(192 * K)];
      if (minimums) b.kernels[`repack${type as 'Q4_K'}`](at(0), quants, scales, mins, blocks);
      else b.kernels[`repack${type as 'Q6_K'}`](at(0), quants, scales, blocks);
      const n = blocks * blockSize;
      // Minus zero and zero are the same minimum.
      const floats = (from: number): number[] => Array.from(b.f32.slice(from / 4, from / 4 + n / 16), (x) => x + 0);
      return [Array.from(b.i8.slice(quants, quants + n)), floats(scales), floats(mins)];
    });
    expect(simd).toEqual(oracle);
    expect(new Set(oracle[0]).size).toBeGreaterThan(7);
  });
});

describe('allFinite', () => {
  it('finds an infinity or NaN wherever it stands', () => {
    const { kernels, f32 } = bench(instantiateKernels);
    for (const n of [1, 3, 4, 7, 33]) {
      f32.fill(-3.4e38, at(0) / 4, at(0) / 4 + n);
      f32[at(0) / 4 + n] = NaN;
      expect(kernels.allFinite(at(0), n)).toBe(1);
      for (let i = 0; i < n; i++) {
        for (const bad of [Infinity, -Infinity, NaN]) {
          f32[at(0) / 4 + i] = bad;
          expect(kernels.allFinite(at(0), n), `${bad} at ${i} of ${n}`).toBe(0);
        }
        f32[at(0) / 4 + i] = 1e-45;
      }
    }
  });
});

describe('rounding', () => {
  it.each(FILLS)('roundQ8 then expandQ8 of %s values is off by at most half a step', (_name, fill) => {
    const random = noise(3);
    const { kernels, f32 } = bench(instantiateKernels);
    const n = 96;
    const values = Float32Array.from({ length: n }, (_, i) => fill(random, i));
    f32.set(values, at(0) / 4);
    kernels.roundQ8(at(0), at(K), at(2 * K), n);
    kernels.interleaveQ8(at(K), at(2 * K), 0, at(8 * K), 2, 1, n, 32);
    kernels.expandQ8(at(8 * K), false, at(4 * K), n, 2, 32);
    for (let i = 0; i < n; i++) {
      const first = i - (i % 32);
      const largest = Math.max(...values.subarray(first, first + 32).map(Math.abs));
      // Blocks below 1e-36 become zeros.
      expect(Math.abs(f32[at(4 * K) / 4 + i]! - values[i]!)).toBeLessThanOrEqual(
        Math.max(largest * (0.51 / 127), 1e-36),
      );
    }
  });

  it.each(FILLS)('quantizeActivations of %s values keeps 15 bits of the largest of each block', (_name, fill) => {
    const random = noise(4);
    const n = 160;
    const values = Float32Array.from({ length: n }, (_, i) => fill(random, i));
    const { kernels, f32, i16 } = bench(instantiateKernels);
    f32.set(values, at(0) / 4);
    kernels.quantizeActivations(at(0), at(K), at(2 * K), at(4 * K), at(3 * K), n, 1);
    for (let b = 0; b < n / 32; b++) {
      const scale = f32[at(2 * K) / 4 + b]!;
      const largest = Math.max(...values.subarray(b * 32, b * 32 + 32).map(Math.abs));
      let sum = 0;
      for (let i = b * 32; i < b * 32 + 32; i++) {
        const back = scale * i16[at(K) / 2 + i]!;
        expect(Number.isFinite(back)).toBe(true);
        // Below the smallest normal float a scale cannot be held; such a block counts as nothing next to any other.
        expect(Math.abs(back - values[i]!)).toBeLessThanOrEqual(Math.max(largest * (0.6 / 32767), 1e-37));
        sum += back;
      }
      expect(Math.abs(f32[at(3 * K) / 4 + b]! - sum)).toBeLessThanOrEqual(1e-6 * Math.abs(sum) + 1e-37);
    }
  });
});

describe('matrix products', () => {
  const shapes: [rows: number, cols: number, tokens: number][] = [
    [1, 32, 1],
    [3, 64, 2],
    [5, 96, 3],
    [7, 160, 4],
    [2, 288, 5],
    [9, 512, 7],
    [17, 1056, 9],
    [4, 64, 32],
    [11, 96, 39],
  ];
  const places = {
    plain: at(0),
    plainScales: at(256 * K),
    plainMins: at(320 * K),
    input: at(384 * K),
    weights: at(640 * K),
    quants: at(1024 * K),
    activationScales: at(1536 * K),
    sums: at(1600 * K),
    scaledSums: at(1664 * K),
    out: at(2048 * K),
  };

  interface Held {
    minimums: boolean;
    scaleCols?: number;
  }

  function prepare(b: Bench, layout: 'q8' | 'q4', [rows, cols, tokens]: [number, number, number], held: Held): void {
    const scaleCols = held.scaleCols ?? 32;
    const random = noise(rows * cols + tokens);
    const blocks = cols / 32;
    // Extremes on purpose: -128 and 127 times +-32767 is the largest product a block can hold.
    for (let i = 0; i < rows * cols; i++) {
      const q8 = i % 5 === 0 ? (i % 2 ? 127 : -128) : Math.floor(random() * 128);
      b.i8[places.plain + i] = layout === 'q4' ? q8 & 15 : q8;
    }
    for (let i = 0; i < (rows * cols) / scaleCols; i++) b.f32[places.plainScales / 4 + i] = i % 7 === 3 ? 0 : random();
    for (let i = 0; i < rows * blocks; i++) b.f32[places.plainMins / 4 + i] = random();
    for (let i = 0; i < tokens * cols; i++) b.f32[places.input / 4 + i] = random() * 4;
    const { plain, plainScales, weights } = places;
    // In two pieces, so that an oct begins in one and ends in the other.
    const cut = Math.min(rows, 3);
    for (const [first, count] of [
      [0, cut],
      [cut, rows - cut],
    ] as const) {
      const scales = plainScales + ((first * cols) / scaleCols) * 4;
      const mins = held.minimums ? places.plainMins + first * blocks * 4 : 0;
      if (layout === 'q4') b.kernels.interleaveQ4(plain + first * cols, scales, mins, weights, first, count, cols);
      else b.kernels.interleaveQ8(plain + first * cols, scales, mins, weights, first, count, cols, scaleCols);
    }
  }

  function multiply(
    b: Bench,
    layout: 'q8' | 'q4',
    [rows, cols, tokens]: [number, number, number],
    options: Held & { offset?: number; stride: number; from?: number },
  ): void {
    const { input, weights, quants, activationScales, sums, scaledSums, out } = places;
    const source = input + (options.from ?? 0) * cols * 4;
    b.kernels.quantizeActivations(source, quants, activationScales, sums, scaledSums, cols, tokens);
    const { minimums, stride, offset = 0, scaleCols = 32 } = options;
    const ends = [out, rows, cols, tokens, stride] as const;
    if (layout === 'q8')
      b.kernels.matmulQ8(weights, minimums, quants, activationScales, scaledSums, ...ends, scaleCols);
    else b.kernels.matmulQ4(weights, minimums, offset, quants, activationScales, sums, scaledSums, ...ends);
  }

  it.each(shapes)(
    'matmulQ8 and matmulQ4 of %i x %i for %i tokens agree with the oracle, with and without minimums and offset',
    (rows, cols, tokens) => {
      for (const [layout, minimums, offset, scaleCols] of [
        ['q8', false, 0, 32],
        ['q8', true, 0, 32],
        ['q8', false, 0, 16],
        ['q4', false, 8, 32],
        ['q4', true, 0, 32],
      ] as const) {
        const [oracle, simd] = both((b) => {
          prepare(b, layout, [rows, cols, tokens], { minimums, scaleCols });
          const stride = (rows + 3) * 4;
          b.f32.fill(-7, places.out / 4, places.out / 4 + tokens * (rows + 3));
          multiply(b, layout, [rows, cols, tokens], { minimums, offset, stride, scaleCols });
          return Array.from(b.f32.slice(places.out / 4, places.out / 4 + tokens * (rows + 3)));
        });
        // The three floats between two tokens' rows belong to somebody else and stay as they were.
        expectClose(simd, oracle, cols * 128 * 4);
        for (let t = 0; t < tokens; t++) {
          const after = simd.slice(t * (rows + 3) + rows, (t + 1) * (rows + 3));
          expect(after).toEqual([-7, -7, -7]);
        }
        expect(oracle.some((value) => Math.abs(value) > 1)).toBe(true);
      }
    },
  );

  it.each(shapes)(
    'the layouts of %i x %i are those of the oracle, byte for byte, and expand to the same floats',
    (rows, cols) => {
      for (const [layout, minimums, scaleCols] of [
        ['q8', true, 32],
        ['q8', false, 32],
        ['q8', false, 16],
        ['q4', true, 32],
        ['q4', false, 32],
      ] as const) {
        const [oracle, simd] = both((b) => {
          prepare(b, layout, [rows, cols, 1], { minimums, scaleCols });
          const { weights } = places;
          const floats: number[] = [];
          const octBytes = cols * (layout === 'q8' ? 8 : 4) + (cols / scaleCols) * 32 * (minimums ? 2 : 1);
          for (let r = 0; r < rows; r++) {
            const oct = weights + (r >> 3) * octBytes;
            if (layout === 'q8') b.kernels.expandQ8(oct, minimums, places.out, cols, r & 7, scaleCols);
            else b.kernels.expandQ4(oct, minimums, 8, places.out, cols, r & 7);
            floats.push(...b.f32.slice(places.out / 4, places.out / 4 + cols));
          }
          return { bytes: b.u8.slice(weights, weights + Math.ceil(rows / 8) * octBytes), floats };
        });
        expect(simd.bytes).toEqual(oracle.bytes);
        expectClose(simd.floats, oracle.floats, 128);
      }
    },
  );

  it.each([
    [1, 4, 1],
    [3, 12, 2],
    [5, 68, 5],
    [8, 172, 4],
    [3, 1024, 9],
  ])('matmulF32 of %i x %i for %i tokens agrees with the oracle', (rows, cols, tokens) => {
    const [oracle, simd] = both((b) => {
      const random = noise(rows + cols);
      for (let i = 0; i < rows * cols; i++) b.f32[at(0) / 4 + i] = random();
      for (let i = 0; i < tokens * cols; i++) b.f32[at(512 * K) / 4 + i] = random();
      b.kernels.matmulF32(at(0), at(512 * K), at(1024 * K), rows, cols, tokens, rows * 4);
      return b.f32.slice(at(1024 * K) / 4, at(1024 * K) / 4 + rows * tokens);
    });
    expectClose(simd, oracle, cols);
  });

  it.each(['q8', 'q4'] as const)('one token gives the same bits alone and among others: %s', (layout) => {
    const b = bench(instantiateKernels);
    const [rows, cols, tokens] = [6, 256, 7];
    prepare(b, layout, [rows, cols, tokens], { minimums: true });
    const product = (from: number, count: number): number[] => {
      multiply(b, layout, [rows, cols, count], { minimums: true, offset: 8, stride: rows * 4, from });
      return Array.from(b.f32.slice(places.out / 4, places.out / 4 + rows * count));
    };
    const together = product(0, tokens);
    for (let t = 0; t < tokens; t++) expect(product(t, 1)).toEqual(together.slice(t * rows, (t + 1) * rows));
    expect(product(1, 5)).toEqual(together.slice(rows, 6 * rows));
  });
});

describe('element-wise kernels', () => {
  it.each([1, 3, 4, 5, 63, 64, 65, 576])(
    'rmsNorm, addInto, addBias and siluMultiply of %i elements agree with the oracle',
    (n) => {
      const tokens = 3;
      const [oracle, simd] = both((b) => {
        const random = noise(n);
        for (let i = 0; i < tokens * n; i++) b.f32[at(0) / 4 + i] = random() * 10;
        for (let i = 0; i < n; i++) b.f32[at(64 * K) / 4 + i] = random();
        b.kernels.rmsNorm(at(0), at(64 * K), at(128 * K), n, tokens, 1e-5);
        b.kernels.addInto(at(128 * K), at(0), tokens * n);
        b.kernels.addBias(at(128 * K), at(64 * K), n, tokens);
        b.kernels.siluMultiply(at(128 * K), at(0), tokens * n);
        return b.f32.slice(at(128 * K) / 4, at(128 * K) / 4 + tokens * n);
      });
      expectClose(simd, oracle, 200);
    },
  );

  it('siluMultiply holds for very large and very small gates', () => {
    const gates = [-1e30, -1000, -104, -88.5, -87, -20, -1e-30, 0, 1e-30, 20, 88, 89, 1000, 1e30];
    const [oracle, simd] = both((b) => {
      gates.forEach((gate, i) => {
        b.f32[at(0) / 4 + i] = gate;
        b.f32[at(K) / 4 + i] = 1;
      });
      b.kernels.siluMultiply(at(0), at(K), gates.length);
      return Array.from(b.f32.slice(at(0) / 4, at(0) / 4 + gates.length));
    });
    gates.forEach((gate, i) => {
      expect(Math.abs(simd[i]! - oracle[i]!), `silu(${gate}) = ${simd[i]}`).toBeLessThanOrEqual(
        1e-6 * Math.abs(oracle[i]!) + 1e-30,
      );
    });
  });

  it.each([
    ['neighbours', 1, 2],
    ['halves', 8, 1],
  ] as const)('rope turns %s as the oracle does and keeps lengths', (_name, step, spread) => {
    const [tokens, heads, headSize, pairs] = [2, 3, 20, 8];
    const random = noise(5);
    const input = Float32Array.from({ length: tokens * heads * headSize }, random);
    const [oracle, simd] = both((b) => {
      b.f32.set(input, at(0) / 4);
      for (let i = 0; i < tokens * pairs; i++) {
        b.f32[at(K) / 4 + 2 * i] = Math.cos(i + 0.5);
        b.f32[at(K) / 4 + 2 * i + 1] = Math.sin(i + 0.5);
      }
      b.kernels.rope(at(0), at(K), heads, headSize, pairs, step, spread, tokens);
      return b.f32.slice(at(0) / 4, at(0) / 4 + tokens * heads * headSize);
    });
    expectClose(simd, oracle, 2);
    const square = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);
    expect(square(simd)).toBeCloseTo(square(input), 4);
    expect(Array.from(simd)).not.toEqual(Array.from(input));
  });

  it.each([1, 3, 4, 5, 63, 64, 65, 576])('layerNorm of %i elements agrees with the oracle, in place too', (n) => {
    const tokens = 3;
    for (const to of [0, 128 * K]) {
      const [oracle, simd] = both((b) => {
        const random = noise(n);
        for (let i = 0; i < tokens * n; i++) b.f32[at(0) / 4 + i] = random() * 10 + 5;
        for (let i = 0; i < 2 * n; i++) b.f32[at(64 * K) / 4 + i] = random();
        b.kernels.layerNorm(at(0), at(64 * K), at(64 * K) + 4 * n, at(to), n, tokens, 1e-5);
        return b.f32.slice(at(to) / 4, at(to) / 4 + tokens * n);
      });
      expectClose(simd, oracle, 1);
    }
  });

  it('gelu, geluMultiply, scaleBy and softcap agree with the oracle from very small to very large', () => {
    const magnitudes = [1e30, 1000, 89, 44.1, 12, 6, 5, 3, 1, 0.1, 1e-3, 1e-30];
    const values = [...magnitudes.map((x) => -x), 0, ...magnitudes];
    const [oracle, simd] = both((b) => {
      const place = (part: number): number => at(part * K) / 4;
      for (let part = 0; part < 4; part++) b.f32.set(values, place(part));
      b.f32.set(
        values.map((_, i) => i - 7),
        place(4),
      );
      b.kernels.gelu(at(0), values.length);
      b.kernels.geluMultiply(at(K), at(4 * K), values.length);
      b.kernels.scaleBy(at(2 * K), values.length, 8);
      b.kernels.softcap(at(3 * K), values.length, 30);
      return [0, 1, 2, 3].map((part) => Array.from(b.f32.slice(place(part), place(part) + values.length)));
    });
    values.forEach((value, i) => {
      for (const part of [0, 1, 2, 3]) {
        const wanted = oracle[part]![i]!;
        // The oracle's own 1 + tanh(u) loses what is far below one; a soft cap of 30 is off by up to a millionth of it.
        const bound = 1e-6 * Math.abs(wanted) + (part === 3 ? 3e-5 : 1e-6);
        expect(Math.abs(simd[part]![i]! - wanted), `${part} of ${value}: ${simd[part]![i]}`).toBeLessThanOrEqual(bound);
      }
    });
  });

  it.each([
    [4, 2, 8, 1, 1, 0, [1, 1, 99]],
    [6, 2, 12, 5, 1, 0, [1, 1, 99]],
    [4, 4, 16, 33, 1, 0, [1, 1, 99]],
    [8, 1, 64, 130, 1, 0, [1, 1, 999]],
    [2, 1, 20, 63, 30, 0, [1, 1, 99]],
    [2, 1, 20, 64, 30, 0, [1, 0, 99]],
    [7, 1, 20, 65, 30, 0, [1, 0, 99]],
    [6, 2, 12, 200, 20, 5, [1, 0, 999]],
    [2, 1, 4, 7, 200, 0, [1, 1, 99]],
    [6, 2, 12, 5, 4, 2, [4, 1, 99]],
    [6, 2, 12, 5, 4, 0, [4, 1, 6]],
    [4, 2, 8, 33, 20, 5, [3, 0, 99]],
    [4, 2, 8, 33, 1, 0, [3, 0, 20]],
  ] as const)(
    'attention with %i heads on %i, size %i, over %i positions, scores times %i, soft cap %i, range %j, agrees with the oracle',
    (heads, kvHeads, size, length, sharpness, cap, [tokens, growth, window]) => {
      const all = length + growth * (tokens - 1);
      const [oracle, simd] = both((b) => {
        const random = noise(heads * length);
        const stride = kvHeads * size;
        for (let i = 0; i < tokens * heads * size; i++) b.f32[at(0) / 4 + i] = random() * sharpness;
        for (let i = 0; i < all * stride; i++) b.f32[at(64 * K) / 4 + i] = random();
        for (let i = 0; i < all * stride; i++) b.f32[at(512 * K) / 4 + i] = random();
        b.kernels.attention(
          at(0),
          at(64 * K),
          at(512 * K),
          at(32 * K),
          at(1024 * K),
          heads,
          kvHeads,
          size,
          length,
          stride * 4,
          size ** -0.5,
          cap,
          tokens,
          growth,
          window,
        );
        return b.f32.slice(at(32 * K) / 4, at(32 * K) / 4 + tokens * heads * size);
      });
      expectClose(simd, oracle, 1, 5e-6 * sharpness);
      expect(oracle.every(Number.isFinite)).toBe(true);
    },
  );
});
