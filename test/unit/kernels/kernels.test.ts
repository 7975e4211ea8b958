import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../plv8/src/kernels/load.ts';
import { formNumber, octBytes } from '../../../plv8/src/kernels/form.ts';
import type { Form } from '../../../plv8/src/kernels/form.ts';
import { instantiateKernels, newMemory } from '../../../plv8/src/kernels/load.ts';
import { scalarKernels } from '../../../plv8/src/kernels/scalar.ts';
import { FORMS, WIDE_FORMS } from './forms.ts';

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
    ['Q5_0', 22, 32],
    ['Q5_1', 24, 32],
    ['IQ4_NL', 18, 32],
    ['IQ4_XS', 136, 256],
    ['Q4_K', 144, 256],
    ['Q5_K', 176, 256],
    ['Q6_K', 210, 256],
    ['Q3_K', 110, 256],
  ] as const)('%s gives exactly the oracle', (type, blockBytes, blockSize) => {
    const blocks = 60;
    const [oracle, simd] = both((b) => {
      const random = noise(blockBytes);
      for (let i = 0; i < blocks * blockBytes; i++) b.u8[at(i)] = Math.floor((random() + 1) * 128);
      const [quants, scales, mins] = [at(64 * K), at(128 * K), at(192 * K)];
      const supers = at(256 * K);
      if (type === 'Q4_K' || type === 'Q5_K') b.kernels[`repack${type}`](at(0), quants, scales, mins, supers, blocks);
      else if (type === 'Q6_K') b.kernels.repackQ6_K(at(0), quants, scales, supers, blocks);
      else if (type === 'Q5_1') b.kernels.repackQ5_1(at(0), quants, scales, mins, blocks);
      else b.kernels[`repack${type}`](at(0), quants, scales, blocks);
      const n = blocks * blockSize;
      // Numbers of any bits, NaN among them, or bytes with the bits of half floats beside them.
      const numbers = (from: number): ArrayLike<number> =>
        type === 'Q4_K' || type === 'Q5_K' || type === 'Q6_K'
          ? b.u8.slice(from, from + n / 4)
          : b.f32.slice(from / 4, (from + n / 4) / 4);
      return [b.i8.slice(quants, quants + n), ...[scales, mins, supers].map((from) => Array.from(numbers(from)))];
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
  it.each(FILLS)('roundQ8 then expand of %s values is off by at most half a step', (_name, fill) => {
    const random = noise(3);
    const { kernels, f32 } = bench(instantiateKernels);
    const n = 96;
    const values = Float32Array.from({ length: n }, (_, i) => fill(random, i));
    f32.set(values, at(0) / 4);
    kernels.roundQ8(at(0), at(K), at(2 * K), n);
    const form = formNumber(FORMS['rounded floats']!);
    kernels.interleave(at(K), at(2 * K), 0, 0, at(8 * K), form, 2, 1, n);
    kernels.expand(at(8 * K), form, at(4 * K), n, 2);
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
    [13, 768, 6],
    [4, 64, 32],
    [11, 96, 39],
  ];
  const places = {
    plain: at(0),
    plainScales: at(256 * K),
    plainMins: at(320 * K),
    plainSupers: at(376 * K),
    input: at(384 * K),
    weights: at(640 * K),
    quants: at(1024 * K),
    activationScales: at(1536 * K),
    sums: at(1600 * K),
    scaledSums: at(1664 * K),
    out: at(2048 * K),
  };

  /** Columns that a form can have, about `cols`. */
  const columnsOf = ({ scales }: Form, cols: number): number =>
    scales === 'super' ? Math.ceil(cols / 256) * 256 : cols;

  function prepare(b: Bench, form: Form, [rows, cols, tokens]: [number, number, number]): void {
    const random = noise(rows * cols + tokens);
    const { bits, scales, scaleCols } = form;
    const groups = (rows * cols) / scaleCols;
    // Extremes on purpose: -128 and 127 times +-32767 is the largest product a group can hold.
    for (let i = 0; i < rows * cols; i++) {
      const byte = i % 5 === 0 ? (i % 2 ? 127 : -128) : Math.floor(random() * 128);
      b.i8[places.plain + i] = bits === 8 ? byte : byte & ((1 << bits) - 1);
    }
    const { plain, plainScales, plainMins, plainSupers, weights } = places;
    for (const [from, size] of [
      [plainScales, groups],
      [plainMins, groups],
    ] as const) {
      for (let i = 0; i < size; i++) {
        if (scales === 'super') b.i8[from + i] = Math.floor(random() * 64);
        // Half floats have eleven binary digits; the smallest of them are multiples of 2^-24.
        else if (scales === 'halves')
          b.f32[from / 4 + i] = Math.floor(random() * 1023) * 2 ** (i % 9 === 0 ? -24 : -10);
        else b.f32[from / 4 + i] = i % 7 === 3 ? 0 : random();
      }
    }
    // Half floats between 2^-9 and 2, of both signs.
    for (let i = 0; i < (rows * cols * 4) / 256; i += 2) {
      b.u8[plainSupers + i] = Math.floor((random() + 1) * 128);
      b.u8[plainSupers + i + 1] = 0x18 + Math.floor((random() + 1) * 18) + (random() > 0 ? 128 : 0);
    }
    for (let i = 0; i < tokens * cols; i++) b.f32[places.input / 4 + i] = random() * 4;
    // In two pieces, so that an oct begins in one and ends in the other.
    const cut = Math.min(rows, 3);
    const floatBytes = scales === 'super' ? 1 : 4;
    for (const [first, count] of [
      [0, cut],
      [cut, rows - cut],
    ] as const) {
      const skipped = ((first * cols) / scaleCols) * floatBytes;
      const supers = plainSupers + ((first * cols) / 256) * 4;
      const from = [plain + first * cols, plainScales + skipped, plainMins + skipped, supers] as const;
      b.kernels.interleave(...from, weights, formNumber(form), first, count, cols);
    }
  }

  function multiply(
    b: Bench,
    form: Form,
    [rows, cols, tokens]: [number, number, number],
    { stride, from = 0 }: { stride: number; from?: number },
  ): void {
    const { input, weights, quants, activationScales, sums, scaledSums, out } = places;
    b.kernels.quantizeActivations(input + from * cols * 4, quants, activationScales, sums, scaledSums, cols, tokens);
    const activations = [quants, activationScales, sums, scaledSums] as const;
    b.kernels.matmulIntegers(weights, formNumber(form), ...activations, out, rows, cols, tokens, stride);
  }

  it.each(shapes)('products of %i x %i for %i tokens agree with the oracle in every form', (rows, asked, tokens) => {
    for (const [type, form] of Object.entries({ ...FORMS, ...WIDE_FORMS })) {
      const cols = columnsOf(form, asked);
      const [oracle, simd] = both((b) => {
        prepare(b, form, [rows, cols, tokens]);
        const stride = (rows + 3) * 4;
        b.f32.fill(-7, places.out / 4, places.out / 4 + tokens * (rows + 3));
        multiply(b, form, [rows, cols, tokens], { stride });
        return Array.from(b.f32.slice(places.out / 4, places.out / 4 + tokens * (rows + 3)));
      });
      expectClose(simd, oracle, cols * 128 * 4 * (form.scales === 'super' ? 64 : 1));
      // The three floats between two tokens' rows belong to somebody else and stay as they were.
      for (let t = 0; t < tokens; t++) {
        const after = simd.slice(t * (rows + 3) + rows, (t + 1) * (rows + 3));
        expect(after, type).toEqual([-7, -7, -7]);
      }
      expect(
        oracle.some((value) => Math.abs(value) > 1),
        type,
      ).toBe(true);
    }
  });

  it.each(shapes)(
    'layouts of %i x %i are those of the oracle, byte for byte, and expand to the same floats',
    (rows, asked) => {
      for (const [type, form] of Object.entries({ ...FORMS, ...WIDE_FORMS })) {
        const cols = columnsOf(form, asked);
        const oct = octBytes(form, cols);
        const [oracle, simd] = both((b) => {
          prepare(b, form, [rows, cols, 1]);
          const { weights } = places;
          const floats: number[] = [];
          for (let r = 0; r < rows; r++) {
            b.kernels.expand(weights + (r >> 3) * oct, formNumber(form), places.out, cols, r & 7);
            floats.push(...b.f32.slice(places.out / 4, places.out / 4 + cols));
          }
          return { bytes: b.u8.slice(weights, weights + Math.ceil(rows / 8) * oct), floats };
        });
        expect(simd.bytes, type).toEqual(oracle.bytes);
        expectClose(simd.floats, oracle.floats, 128 * 64);
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

  it.each(Object.entries({ ...FORMS, ...WIDE_FORMS }))(
    'one token gives the same bits alone and among others: %s',
    (_type, form) => {
      const b = bench(instantiateKernels);
      const [rows, cols, tokens] = [6, 256, 7];
      prepare(b, form, [rows, cols, tokens]);
      const product = (from: number, count: number): number[] => {
        multiply(b, form, [rows, cols, count], { stride: rows * 4, from });
        return Array.from(b.f32.slice(places.out / 4, places.out / 4 + rows * count));
      };
      const together = product(0, tokens);
      for (let t = 0; t < tokens; t++) expect(product(t, 1)).toEqual(together.slice(t * rows, (t + 1) * rows));
      expect(product(1, 5)).toEqual(together.slice(rows, 6 * rows));
    },
  );
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

  it('floats become the nearest half floats, of two the even one, subnormal and bounded ones included', () => {
    const ulp = 2 ** -10;
    const given = [
      0,
      -0,
      1,
      1 + ulp / 2,
      1 + 1.5 * ulp,
      -1 - 0.51 * ulp,
      65504,
      65519,
      65520,
      -1e9,
      Infinity,
      -Infinity,
    ];
    given.push(2 ** -14, 2 ** -14 - 2 ** -26, 2 ** -24, 2 ** -25, 1.01 * 2 ** -25, 1.5 * 2 ** -24, -(2 ** -30), 1e-40);
    const random = noise(5);
    while (given.length < 4000) given.push(random() * 2 ** Math.floor(random() * 30));
    const [oracle, simd] = both((b) => {
      b.f32.set(given, at(0) / 4);
      b.kernels.narrowF16(at(0), at(64 * K), given.length);
      return [...b.u8.slice(at(64 * K), at(64 * K) + 2 * given.length)];
    });
    expect(simd).toEqual(oracle);
    const bits = [0, 0x8000, 0x3c00, 0x3c00, 0x3c02, 0xbc01, 0x7bff, 0x7bff, 0x7bff, 0xfbff, 0x7bff, 0xfbff];
    bits.push(0x0400, 0x0400, 1, 0, 1, 2, 0x8000, 0);
    expect(bits.map((_, i) => simd[2 * i]! + 256 * simd[2 * i + 1]!)).toEqual(bits);
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
      const attend = (b: Bench, halves: 0 | 1): Float32Array => {
        const random = noise(heads * length);
        const stride = kvHeads * size;
        for (let i = 0; i < tokens * heads * size; i++) b.f32[at(0) / 4 + i] = random() * sharpness;
        for (let i = 0; i < all * stride; i++) b.f32[at(64 * K) / 4 + i] = random();
        for (let i = 0; i < all * stride; i++) b.f32[at(512 * K) / 4 + i] = random();
        if (halves === 1) {
          b.kernels.narrowF16(at(64 * K), at(256 * K), all * stride);
          b.kernels.narrowF16(at(512 * K), at(704 * K), all * stride);
        }
        b.kernels.attention(
          at(0),
          at(halves === 1 ? 256 * K : 64 * K),
          at(halves === 1 ? 704 * K : 512 * K),
          at(32 * K),
          at(1024 * K),
          heads,
          kvHeads,
          size,
          length,
          stride * (halves === 1 ? 2 : 4),
          size ** -0.5,
          cap,
          tokens,
          growth,
          window,
          halves,
        );
        return b.f32.slice(at(32 * K) / 4, at(32 * K) / 4 + tokens * heads * size);
      };
      for (const halves of [0, 1] as const) {
        const [oracle, simd] = both((b) => attend(b, halves));
        expectClose(simd, oracle, 1, 5e-6 * sharpness);
        expect(oracle.every(Number.isFinite)).toBe(true);
      }
    },
  );

  it.each([
    [1, 40, 1, 99],
    [60, 64, 4, 999],
    [64, 65, 4, 999],
    [65, 200, 3, 999],
    [128, 200, 4, 100],
    [199, 200, 1, 70],
    [150, 300, 4, 999],
  ])(
    'attention with %i shared positions of %i, %i tokens and a window of %i, has the bits of one place',
    (shared, length, tokens, window) => {
      const [heads, kvHeads, size] = [6, 2, 12];
      const width = kvHeads * size;
      const positions = length + tokens - 1;
      const [keys, values, ownKeys, ownValues] = [at(64 * K), at(128 * K), at(192 * K), at(256 * K)];
      const attend = (b: Bench, halves: 0 | 1): Float32Array[] => {
        const random = noise(length);
        for (let i = 0; i < tokens * heads * size; i++) b.f32[at(0) / 4 + i] = random();
        for (const place of [keys, values]) {
          for (let i = 0; i < positions * width; i++) b.f32[place / 4 + i] = random();
          if (halves === 1) b.kernels.narrowF16(place, place, positions * width);
        }
        const stride = width * (halves === 1 ? 2 : 4);
        const numbers = [
          at(1024 * K),
          heads,
          kvHeads,
          size,
          length,
          stride,
          0.3,
          5,
          tokens,
          1,
          window,
          halves,
        ] as const;
        const result = (): Float32Array => b.f32.slice(at(32 * K) / 4, at(32 * K) / 4 + tokens * heads * size);
        b.kernels.attention(at(0), keys, values, at(32 * K), ...numbers);
        const whole = result();
        const from = Math.max(0, shared - 63);
        for (const [place, own] of [
          [keys, ownKeys],
          [values, ownValues],
        ] as const) {
          b.u8.copyWithin(own, place + from * stride, place + positions * stride);
          b.u8.fill(0xff, place + shared * stride, place + positions * stride); // NaN
        }
        b.kernels.attentionShared(at(0), ownKeys, ownValues, at(32 * K), ...numbers, shared, keys, values);
        return [whole, result()];
      };
      for (const halves of [0, 1] as const) {
        for (const [whole, parted] of both((b) => attend(b, halves))) expect(parted).toEqual(whole);
      }
    },
  );
});

describe('kernels of explanations', () => {
  it.each([
    [4, 2, 8, 1, 1, 0, [1, 99]],
    [9, 3, 64, 130, 8, 0, [1, 999]],
    [9, 3, 64, 130, 8, 0, [7, 999]],
    [4, 4, 16, 63, 30, 0, [2, 99]],
    [8, 1, 12, 64, 30, 0, [5, 99]],
    [6, 2, 12, 200, 20, 5, [3, 999]],
    [5, 1, 20, 33, 20, 5, [4, 20]],
    [6, 2, 12, 150, 4, 0, [6, 6]],
    [3, 3, 4, 70, 1, 0, [32, 1]],
  ] as const)(
    'weights of %i heads on %i, size %i, from %i positions on, scores times %i, soft cap %i, tokens and window %j, agree with the oracle',
    (heads, kvHeads, size, length, sharpness, cap, [tokens, window]) => {
      const stride = kvHeads * size;
      const all = length + tokens - 1;
      const width = Math.ceil(all / 4) * 4;
      const weigh = (b: Bench, halves: 0 | 1): { weights: Float32Array; mean: Float32Array } => {
        const random = noise(heads * length + tokens);
        for (let i = 0; i < tokens * heads * size; i++) b.f32[at(0) / 4 + i] = random() * sharpness;
        for (let i = 0; i < all * stride; i++) b.f32[at(128 * K) / 4 + i] = random();
        b.kernels.narrowF16(at(128 * K), at(384 * K), all * stride);
        // What was there before is written over.
        b.f32.fill(NaN, at(512 * K) / 4, at(1024 * K) / 4);
        b.kernels.attentionWeights(
          at(0),
          at(halves === 1 ? 384 * K : 128 * K),
          at(512 * K),
          at(1024 * K),
          heads,
          kvHeads,
          size,
          length,
          stride * (halves === 1 ? 2 : 4),
          size ** -0.5,
          cap,
          tokens,
          window,
          halves,
        );
        b.kernels.meanOfHeads(at(512 * K), at(1152 * K), heads, width, tokens);
        const floats = (from: number, n: number): Float32Array => b.f32.slice(from / 4, from / 4 + n);
        return { weights: floats(at(512 * K), tokens * heads * width), mean: floats(at(1152 * K), tokens * width) };
      };
      for (const halves of [0, 1] as const) {
        const [oracle, simd] = both((b) => weigh(b, halves));
        expectClose(simd.weights, oracle.weights, 1, 5e-6 * sharpness);
        expectClose(simd.mean, oracle.mean, 1, 5e-6 * sharpness);
        expect(oracle.mean.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(tokens, 4);
        for (let row = 0; row < tokens * heads; row++) {
          const seen = length + Math.floor(row / heads);
          const weights = simd.weights.subarray(row * width, (row + 1) * width);
          const unseen = weights.filter((_, p) => p >= seen || p < seen - window);
          expect(unseen.every((weight) => weight === 0)).toBe(true);
        }
      }
    },
  );

  it.each([
    [1, 1, 4, 1],
    [6, 2, 20, 7],
    [9, 3, 64, 32],
    [4, 1, 12, 33],
  ])(
    'norms of what %i heads make of values of %i, size %i, by %i rows agree with the products',
    (heads, kvHeads, size, count) => {
      const tokens = 5;
      const lengths = (b: Bench): { norms: Float32Array; products: number[] } => {
        const random = noise(heads * size + count);
        const cols = heads * size;
        const rows = Array.from({ length: 2 * count * cols }, () => random());
        const values = Array.from({ length: tokens * kvHeads * size }, () => random());
        b.f32.set(rows, at(0) / 4);
        b.f32.set(values, at(512 * K) / 4);
        // Rows come in two parts.
        b.kernels.addGrams(at(0), count, at(768 * K), heads, size);
        b.kernels.addGrams(at(0) + count * cols * 4, count, at(768 * K), heads, size);
        b.kernels.gramNorms(at(768 * K), at(512 * K), at(1024 * K), heads, kvHeads, size, tokens, 32);
        const products = Array.from({ length: heads * tokens }, (_, i) => {
          const [head, token] = [Math.floor(i / tokens), i % tokens];
          const v = (token * kvHeads + Math.floor(head / (heads / kvHeads))) * size;
          let squares = 0;
          for (let r = 0; r < 2 * count; r++) {
            let sum = 0;
            for (let d = 0; d < size; d++) sum += rows[r * cols + head * size + d]! * values[v + d]!;
            squares += sum * sum;
          }
          return Math.sqrt(squares);
        });
        const norms = Float32Array.from(products, (_, i) => {
          const [head, token] = [Math.floor(i / tokens), i % tokens];
          return b.f32[at(1024 * K) / 4 + head * 8 + token]!;
        });
        return { norms, products };
      };
      for (const { norms, products } of both(lengths)) expectClose(norms, products, Math.max(...products));
    },
  );
});
