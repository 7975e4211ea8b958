/** Calls of every kernel over a memory of random numbers, for comparing what builds of the kernels make of it. */
import type { Form } from '../../../plv8/src/kernels/form.ts';
import { formNumber } from '../../../plv8/src/kernels/form.ts';
import type { Kernels } from '../../../plv8/src/kernels/load.ts';
import type { WasmMemory } from '../../../plv8/src/kernels/web-assembly.ts';
import { FORMS, WIDE_FORMS } from './forms.ts';

const K = 1024;
export const PAGES = 64;
/** Addresses of everything that the calls below read and write; below them is what the kernels keep for themselves. */
export const BLOCKS = 64 * K; // stored blocks: bytes
const FLOATS = 192 * K; // random floats
const INTEGERS = 448 * K; // row-major weights of 8 bits
const SCALES = 576 * K;
const HALVES = 608 * K; // floats that are half floats
const MINS = 672 * K;
const WEIGHTS = 704 * K;
const SUMS = 1024 * K; // scales, sums, scaled sums: 64 KiB each
const OUT = 1216 * K;
const SCRATCH = 1728 * K;
/** The last one: behind the integers the relaxed build writes their split form. */
export const QUANTS = 2048 * K;
/** Behind everything: what attention needs for itself. */
export const SCORES = PAGES * 64 * K - 64 * K;

export const COLS = 288;
const ROWS = 21;
/** Fours, what is left over, and one alone. */
const TOKENS = [1, 3, 7, 32];

function quantize(k: Kernels, tokens: number): void {
  k.quantizeActivations(FLOATS, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, COLS, tokens);
}

/** Where row-major integers, scales, minimums and super scales of a form are: bytes below 16 do for any number of bits. */
function parts({ bits, scales }: Form): [src: number, scales: number, mins: number, supers: number] {
  const src = bits === 8 ? INTEGERS : BLOCKS + 64 * K;
  return scales === 'floats'
    ? [src, SCALES, MINS, 0]
    : scales === 'halves'
      ? [src, HALVES, HALVES + 32 * K, 0]
      : [src, INTEGERS, INTEGERS + 32 * K, BLOCKS];
}

/** The product of a matrix of a form with tokens that are quantised. */
function multiply(k: Kernels, form: Form, to: number, [rows, cols, tokens]: [number, number, number]): void {
  const number = formNumber(form);
  k.interleave(...parts(form), WEIGHTS, number, 0, rows, cols);
  k.matmulIntegers(WEIGHTS, number, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, to, rows, cols, tokens, rows * 4);
}

/** Columns that a form can have, about `n`. */
const columnsOf = ({ scales }: Form, n: number): number =>
  scales === 'super' ? 256 * Math.ceil(n / 256) : 32 * Math.ceil(n / 32);

function integers(k: Kernels): void {
  let to = OUT;
  for (const form of Object.values(FORMS)) {
    const cols = columnsOf(form, COLS);
    for (const tokens of TOKENS) {
      k.quantizeActivations(FLOATS, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, cols, tokens);
      multiply(k, form, to, [ROWS, cols, tokens]);
      to += ROWS * tokens * 4;
    }
  }
}

/** Products of three matrices with the same activations: in one call where the kernels have that. */
function together(k: Kernels): void {
  let to = OUT;
  for (const form of Object.values(FORMS)) {
    const cols = columnsOf(form, COLS);
    const number = formNumber(form);
    for (const tokens of [1, 3]) {
      k.quantizeActivations(FLOATS, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, cols, tokens);
      k.interleave(...parts(form), WEIGHTS, number, 0, ROWS, cols);
      const each = [ROWS, 5, 16].map((rows) => {
        const at = to;
        to += rows * tokens * 4;
        return [WEIGHTS, number, at, rows, rows * 4] as const;
      });
      const activations = [QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K] as const;
      if (k.matmulTogether !== undefined) k.matmulTogether(...activations, cols, tokens, ...each.flat());
      else
        for (const [w, form, out, rows, stride] of each)
          k.matmulIntegers(w, form, ...activations, out, rows, cols, tokens, stride);
    }
  }
}

function expansions(k: Kernels): void {
  Object.values(FORMS).forEach((form, i) => {
    const cols = columnsOf(form, COLS);
    k.interleave(...parts(form), WEIGHTS, formNumber(form), 0, 8, cols);
    k.expand(WEIGHTS, formNumber(form), SCRATCH + i * 4 * K, cols, i & 7);
  });
}

/** `n` floats of each of keys and values as half floats; where they are. */
function halfCaches(k: Kernels, keys: number, values: number, n: number): readonly [keys: number, values: number] {
  const to = [SCRATCH + 128 * K, SCRATCH + 192 * K] as const;
  k.narrowF16(keys, to[0], n);
  k.narrowF16(values, to[1], n);
  return to;
}

export type KernelCall = (k: Kernels) => unknown;
const small = (name: 'repackQ8_0' | 'repackQ4_0' | 'repackQ5_0' | 'repackIQ4_NL'): KernelCall => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, 300);
};
const withMinimums = (name: 'repackQ4_1' | 'repackQ5_1'): KernelCall => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, SCRATCH + 128 * K, 300);
};
const superblocks = (name: 'repackIQ4_XS' | 'repackQ3_K'): KernelCall => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, 40);
};
const superScales = (name: 'repackQ4_K' | 'repackQ5_K'): KernelCall => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, SCRATCH + 128 * K, SCRATCH + 192 * K, 40);
};

/** One entry for every kernel; each leaves its results in the memory or returns them. */
export const CALLS: Record<keyof Kernels, KernelCall> = {
  repackQ8_0: small('repackQ8_0'),
  repackQ4_0: small('repackQ4_0'),
  repackQ4_1: withMinimums('repackQ4_1'),
  repackQ5_0: small('repackQ5_0'),
  repackQ5_1: withMinimums('repackQ5_1'),
  repackIQ4_NL: small('repackIQ4_NL'),
  repackIQ4_XS: superblocks('repackIQ4_XS'),
  repackQ4_K: superScales('repackQ4_K'),
  repackQ5_K: superScales('repackQ5_K'),
  repackQ6_K: (k) => k.repackQ6_K(BLOCKS, SCRATCH, SCRATCH + 64 * K, SCRATCH + 128 * K, 40),
  repackQ3_K: superblocks('repackQ3_K'),
  lowerBytes: (k) => {
    k.widenF16(BLOCKS, SCRATCH, 1001);
    k.lowerBytes(SCRATCH, 4001, 16);
  },
  widenF16: (k) => k.widenF16(BLOCKS, SCRATCH, 1001),
  widenBF16: (k) => k.widenBF16(BLOCKS, SCRATCH, 1001),
  allFinite: (k) => [k.allFinite(FLOATS, 1001), k.allFinite(INTEGERS, 1001)],
  roundQ8: (k) => k.roundQ8(FLOATS, SCRATCH, SCRATCH + 64 * K, 960),
  interleave: integers,
  expand: expansions,
  quantizeActivations: (k) => quantize(k, 7),
  matmulIntegers: integers,
  matmulTogether: together,
  matmulF32: (k) => k.matmulF32(FLOATS, FLOATS + 64 * K, OUT, ROWS, COLS, 7, ROWS * 4),
  rmsNorm: (k) => k.rmsNorm(FLOATS, FLOATS + 64 * K, OUT, 577, 3, 1e-5),
  layerNorm: (k) => k.layerNorm(FLOATS, FLOATS + 64 * K, FLOATS + 96 * K, OUT, 577, 3, 1e-5),
  addInto: (k) => k.addInto(FLOATS, FLOATS + 64 * K, 1001),
  narrowF16: (k) => {
    k.narrowF16(FLOATS, OUT, 1000);
    k.narrowF16(BLOCKS, OUT + 2 * K, 1000);
  },
  copyFloats: (k) => k.copyFloats(FLOATS, OUT, 1001),
  addBias: (k) => k.addBias(FLOATS, FLOATS + 64 * K, 201, 3),
  siluMultiply: (k) => k.siluMultiply(FLOATS, FLOATS + 64 * K, 1001),
  geluMultiply: (k) => k.geluMultiply(FLOATS, FLOATS + 64 * K, 1001),
  gelu: (k) => k.gelu(FLOATS, 1001),
  scaleBy: (k) => k.scaleBy(FLOATS, 1001, 0.7),
  softcap: (k) => k.softcap(FLOATS, 1001, 30),
  rope: (k) => {
    k.rope(FLOATS, FLOATS + 64 * K, 3, 64, 32, 1, 2, 5);
    k.rope(FLOATS + 32 * K, FLOATS + 64 * K, 3, 64, 32, 32, 1, 5);
  },
  attention: (k) => {
    const cached = [FLOATS + 16 * K, FLOATS + 96 * K] as const;
    const halves = halfCaches(k, ...cached, 202 * 24);
    k.attention(FLOATS, ...cached, OUT, SCORES, 6, 2, 12, 200, 96, 0.3, 5, 3, 1, 150, 0);
    k.attention(FLOATS, ...halves, OUT + 2 * K, SCORES, 6, 2, 12, 200, 48, 0.3, 5, 3, 1, 150, 1);
  },
  attentionShared: (k) => {
    const cached = [FLOATS + 16 * K, FLOATS + 96 * K] as const;
    const halves = halfCaches(k, ...cached, 202 * 24);
    const shared = [150, FLOATS + 8 * K, FLOATS + 40 * K] as const;
    k.attentionShared(FLOATS, ...cached, OUT, SCORES, 6, 2, 12, 200, 96, 0.3, 5, 3, 1, 150, 0, ...shared);
    k.attentionShared(FLOATS, ...halves, OUT + 2 * K, SCORES, 6, 2, 12, 200, 48, 0.3, 5, 3, 1, 150, 1, 150, ...halves);
  },
  attentionWeights: (k) => {
    const keys = FLOATS + 16 * K;
    const [halves] = halfCaches(k, keys, FLOATS + 96 * K, 202 * 24);
    k.attentionWeights(FLOATS, keys, OUT, SCORES, 6, 2, 12, 200, 96, 0.3, 5, 3, 150, 0);
    k.attentionWeights(FLOATS, halves, OUT + 32 * K, SCORES, 6, 2, 12, 200, 48, 0.3, 0, 3, 500, 1);
  },
  meanOfHeads: (k) => k.meanOfHeads(FLOATS, OUT, 5, 204, 3),
  addGrams: (k) => {
    k.copyFloats(FLOATS + 96 * K, OUT, 3 * 20 * 20);
    k.addGrams(FLOATS, 31, OUT, 3, 20);
  },
  gramNorms: (k) => k.gramNorms(FLOATS, FLOATS + 96 * K, OUT, 6, 2, 20, 33, 132),
};

/** Numbers from 0 to 1, the same for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Results of 60 calls of random shapes beside one another in OUT. */
function shapes(seed: number, call: (k: Kernels, whole: (least: number, most: number) => number, to: number) => void) {
  return (k: Kernels): void => {
    const random = randomNumbers(seed);
    const whole = (least: number, most: number): number => least + Math.floor(random() * (most - least + 1));
    for (let i = 0; i < 60; i++) call(k, whole, OUT + i * 8 * K);
  };
}

/** Large enough to be divided among threads. */
const LARGE = { rows: 301, tokens: 32 };

function largeProducts(forms: Record<string, Form>): Record<string, KernelCall> {
  const product =
    (form: Form): KernelCall =>
    (k) => {
      const { rows, tokens } = LARGE;
      const cols = columnsOf(form, 256);
      k.quantizeActivations(FLOATS, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, cols, tokens);
      multiply(k, form, SCRATCH, [rows, cols, tokens]);
    };
  return Object.fromEntries(Object.entries(forms).map(([type, form]) => [`large ${type}`, product(form)]));
}

/** Products that WebAssembly alone has. */
export const WIDE_SHAPES = largeProducts(WIDE_FORMS);

/** Products of every layout, norms, activations and attention in random shapes, most of which are no multiple of anything. */
export const SHAPES: Record<string, KernelCall> = {
  ...largeProducts(FORMS),
  'large f32': (k) => k.matmulF32(FLOATS, FLOATS + 128 * K, SCRATCH, 101, 200, 17, 404),
  'large attention': (k) => {
    const cached = [FLOATS + 16 * K, FLOATS + 96 * K] as const;
    const halves = halfCaches(k, ...cached, 205 * 64);
    k.attention(FLOATS, ...cached, SCRATCH, SCORES, 10, 2, 32, 200, 256, 0.2, 0, 6, 1, 203, 0);
    k.attention(FLOATS, ...halves, SCRATCH + 64 * K, SCORES, 10, 2, 32, 200, 128, 0.2, 0, 6, 1, 203, 1);
  },
  'large silu': (k) => {
    k.copyFloats(FLOATS, SCRATCH, 40_001);
    k.siluMultiply(SCRATCH, FLOATS + 40 * K, 40_001);
  },
  'random integers': shapes(1, (k, whole, to) => {
    const form = Object.values(FORMS)[whole(0, 9)]!;
    const [rows, cols, tokens] = [whole(1, 45), columnsOf(form, 32 * whole(1, 9)), whole(1, 41)];
    k.quantizeActivations(FLOATS + 4 * whole(0, 999), QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, cols, tokens);
    multiply(k, form, to, [rows, cols, tokens]);
  }),
  'random f32': shapes(3, (k, whole, to) => {
    const [rows, cols, tokens] = [whole(1, 45), 4 * whole(1, 60), whole(1, 41)];
    k.matmulF32(FLOATS + 4 * whole(0, 999), FLOATS + 128 * K, to, rows, cols, tokens, rows * 4);
  }),
  'random norms': shapes(4, (k, whole, to) => {
    const [n, tokens] = [whole(1, 150), whole(1, 13)];
    const x = FLOATS + 4 * whole(0, 999);
    if (whole(0, 1)) k.rmsNorm(x, FLOATS + 96 * K, to, n, tokens, 1e-5);
    else k.layerNorm(x, FLOATS + 96 * K, FLOATS + 112 * K, to, n, tokens, 1e-5);
  }),
  'random elements': shapes(5, (k, whole, to) => {
    const n = whole(1, 2000);
    const y = FLOATS + 4 * whole(0, 9999);
    k.copyFloats(FLOATS + 4 * whole(0, 9999), to, n);
    const which = whole(0, 6);
    if (which === 0) k.addInto(to, y, n);
    else if (which === 1) k.siluMultiply(to, y, n);
    else if (which === 2) k.geluMultiply(to, y, n);
    else if (which === 3) k.gelu(to, n);
    else if (which === 4) k.scaleBy(to, n, 1.7);
    else if (which === 5) k.softcap(to, n, 20);
    else k.addBias(to, y, Math.ceil(n / 7), 6);
  }),
  'random attention': shapes(6, (k, whole, to) => {
    const [kvHeads, group, size, tokens] = [whole(1, 3), whole(1, 5), 4 * whole(1, 12), whole(1, 3)];
    const [length, growth, window] = [whole(1, 150), whole(0, 1), whole(1, 200)];
    const floats = [FLOATS + 16 * K, FLOATS + 120 * K] as const;
    const halves = whole(0, 1);
    const cached = halves ? halfCaches(k, ...floats, (length + growth * (tokens - 1)) * kvHeads * size) : floats;
    const heads = kvHeads * group;
    const [scale, cap] = [whole(1, 20) / 50, whole(0, 1) * 5];
    const range = [tokens, growth, window, halves] as const;
    const stride = kvHeads * size * (halves ? 2 : 4);
    k.attention(FLOATS, ...cached, to, SCORES, heads, kvHeads, size, length, stride, scale, cap, ...range);
  }),
  // Of the rows that are read from another place, nothing is left where the sequence's own are.
  'random attention with a shared beginning': shapes(8, (k, whole, to) => {
    const [kvHeads, group, size, tokens] = [whole(1, 3), whole(1, 5), 4 * whole(1, 12), whole(1, 3)];
    const length = Math.min(whole(2, 300), Math.floor((16 * K) / (kvHeads * size)) - tokens);
    const [growth, window, shared] = [whole(0, 1), whole(1, 350), whole(0, length - 1)];
    const positions = length + growth * (tokens - 1);
    const n = positions * kvHeads * size;
    const cached = [SCRATCH + 128 * K, SCRATCH + 192 * K] as const;
    const halves = whole(0, 1);
    if (halves) halfCaches(k, FLOATS + 16 * K, FLOATS + 120 * K, n);
    else cached.forEach((at, i) => k.copyFloats(FLOATS + (16 + 104 * i) * K, at, n));
    const stride = kvHeads * size * (halves ? 2 : 4);
    const from = Math.max(0, shared - 63);
    const own = [SCRATCH, SCRATCH + 64 * K] as const;
    cached.forEach((at, i) => {
      k.copyFloats(at + from * stride, own[i]!, ((positions - from) * stride) / 4);
      k.scaleBy(at + shared * stride, ((positions - shared) * stride) / 4, NaN);
    });
    const heads = kvHeads * group;
    const [scale, cap] = [whole(1, 20) / 50, whole(0, 1) * 5];
    const range = [tokens, growth, window, halves, shared, ...cached] as const;
    k.attentionShared(FLOATS, ...own, to, SCORES, heads, kvHeads, size, length, stride, scale, cap, ...range);
  }),
  // Many tokens that see the same positions: the host's kernels have them share keys, and parts of threads begin within one.
  'random attention of encoders': shapes(7, (k, whole, to) => {
    const [heads, size, window] = [whole(1, 20), 4 * whole(1, 5), whole(1, 300)];
    const length = Math.min(whole(1, 150), Math.floor((24 * K) / (heads * size)));
    const tokens = Math.min(whole(1, 100), Math.floor((2 * K) / (heads * size)));
    const floats = [FLOATS + 16 * K, FLOATS + 120 * K] as const;
    const halves = whole(0, 1);
    const cached = halves ? halfCaches(k, ...floats, length * heads * size) : floats;
    const stride = heads * size * (halves ? 2 : 4);
    k.attention(FLOATS, ...cached, to, SCORES, heads, heads, size, length, stride, 0.2, 0, tokens, 0, window, halves);
  }),
};

/** Random bytes that are no infinity as half floats, random floats, weights with both extremes, activations with zeros. */
export function fillMemory(memory: WasmMemory): Uint8Array {
  const random = randomNumbers(7);
  const bytes = new Uint8Array(memory.buffer);
  const floats = new Float32Array(memory.buffer);
  for (let at = BLOCKS; at < FLOATS; at++) bytes[at] = (random() * 256) & (at < BLOCKS + 64 * K ? 0xbf : 15);
  for (let at = FLOATS / 4; at < INTEGERS / 4; at++) floats[at] = at % 96 < 32 ? random() * 2e-3 : random() * 60 - 30;
  for (let at = FLOATS / 4 + 64; at < FLOATS / 4 + 96; at++) floats[at] = at % 2 ? 30 : -30;
  for (let at = INTEGERS; at < SCALES; at++) bytes[at] = at % 5 === 0 ? (at % 2 ? 127 : 128) : random() * 256;
  for (let at = SCALES / 4; at < WEIGHTS / 4; at++) floats[at] = random() - 0.5;
  // Ten binary digits: half floats, those of the smallest size included.
  for (let at = HALVES / 4; at < MINS / 4; at++)
    floats[at] = Math.round(random() * 2047 - 1023) * 2 ** (at % 8 === 0 ? -24 : -11);
  for (let at = WEIGHTS / 4; at < SUMS / 4; at++) floats[at] = random() - 0.5;
  return bytes;
}
