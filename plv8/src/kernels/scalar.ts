/**
 * The kernels in plain TypeScript over the same memory: the oracle that the WebAssembly ones are tested against. Sums
 * are taken in double precision, one element after the other, so a result differs from the WebAssembly one by float
 * rounding only. Addresses, shapes and layouts are those of assembly/.
 */
import { ggmlTypeByName } from '../format/ggml-types.ts';
import { blockReader } from '../format/block-formats.ts';
import type { Kernels } from './load.ts';
import type { WasmMemory } from './web-assembly.ts';

const BLOCK = 32;
/** Largest int16 and int8 a value is rounded to. */
/** 127 * 256 + 127: both bytes of every integer are signed bytes (assembly/activations.ts). */
const LARGEST_ACTIVATION = 32639;
/** Blocks of activations with no larger magnitude become zeros. */
const SMALLEST_ACTIVATIONS = 1e-34;
const INT8_MAX = 127;
/** Blocks with no larger magnitude are rounded to zeros. */
const SMALLEST_BLOCK = 1e-36;

interface Views {
  buffer: ArrayBuffer;
  f32: Float32Array;
  i16: Int16Array;
  u16: Uint16Array;
  i8: Int8Array;
  u8: Uint8Array;
  data: DataView;
}

/** Half float to number; subnormals, infinities and NaN included. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Nearest integer, halves to even, as WebAssembly's `nearest`. */
function nearest(x: number): number {
  const rounded = Math.round(x);
  return Math.abs(x % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** How an integer matrix lies in memory, as assembly/layout.ts has it. */
interface OctLayout {
  cols: number;
  /** Bytes of eight integers: 8 for q8, 4 for q4. */
  eightBytes: 8 | 4;
  /** Columns that share a scale. */
  scaleCols: number;
  minimums: boolean;
}

/** Bytes of the columns that share a scale, in one oct. */
function groupBytes({ eightBytes, scaleCols, minimums }: OctLayout): number {
  return scaleCols * eightBytes + (minimums ? 64 : 32);
}

/** Where the group of columns begins that holds `col`, in the oct of `row`. */
function groupPlace(row: number, col: number, layout: OctLayout): number {
  const groups = (row >> 3) * (layout.cols / layout.scaleCols) + Math.floor(col / layout.scaleCols);
  return groups * groupBytes(layout);
}

/** Byte of a q8 weight: rows in eights, columns in pairs. */
function q8Place(row: number, col: number, layout: OctLayout): number {
  const within = col % layout.scaleCols;
  return groupPlace(row, col, layout) + (within >> 1) * 16 + (row & 7) * 2 + (col & 1);
}

/** Byte of the uint16 that holds a q4 weight, and the lowest bit of its nibble. */
function q4Place(row: number, col: number, layout: OctLayout): { at: number; shift: number } {
  const within = col % layout.scaleCols;
  const at = groupPlace(row, col, layout) + (within >> 3) * 32 + (row & 7) * 4 + (col & 1) * 2;
  return { at, shift: ((col >> 1) & 3) * 4 };
}

/** Byte of the scale of a column; its minimum is 32 bytes behind it. */
function scalePlace(row: number, col: number, layout: OctLayout): number {
  return groupPlace(row, col, layout) + layout.scaleCols * layout.eightBytes + (row & 7) * 4;
}

/** Number of an activation's int16: tokens in fours with columns in pairs, then tokens one by one. */
function activationPlace(token: number, col: number, cols: number, tokens: number): number {
  if (token >= (tokens & ~3)) return token * cols + col;
  return (token & ~3) * cols + (col >> 1) * 8 + (token & 3) * 2 + (col & 1);
}

/** Number of a block of activations' scale or sum. */
function activationFloatPlace(token: number, block: number, blocks: number, tokens: number): number {
  if (token >= (tokens & ~3)) return token * blocks + block;
  return (token & ~3) * blocks + block * 4 + (token & 3);
}

/** Addresses and extents of a product, named as in assembly/matmul-q8.ts. */
interface ProductPlaces {
  w: number;
  layout: OctLayout;
  x: number;
  xs: number;
  xm: number;
  out: number;
  rows: number;
  tokens: number;
  outStride: number;
}

/** The oracle over a memory; views are taken anew when the memory has grown. */
export function scalarKernels(memory: WasmMemory): Kernels {
  let held: Views | null = null;
  function views(): Views {
    const { buffer } = memory;
    if (held === null || held.buffer !== buffer) {
      held = {
        buffer,
        f32: new Float32Array(buffer),
        i16: new Int16Array(buffer),
        u16: new Uint16Array(buffer),
        i8: new Int8Array(buffer),
        u8: new Uint8Array(buffer),
        data: new DataView(buffer),
      };
    }
    return held;
  }

  /** Split `blocks` blocks of nibbles (16 bytes after `header` bytes) into int8, low nibbles first. */
  function repackNibbles(src: number, quants: number, blocks: number, header: number): void {
    const { i8, u8 } = views();
    for (let b = 0; b < blocks; b++) {
      for (let i = 0; i < 16; i++) {
        const pair = u8[src + b * (header + 16) + header + i]!;
        i8[quants + b * BLOCK + i] = pair & 15;
        i8[quants + b * BLOCK + i + 16] = pair >> 4;
      }
    }
  }

  /** Blocks of a type to integers, scales and minimums (0 for none), `scaleCols` elements a scale. */
  function repack(
    type: string,
    src: number,
    blocks: number,
    to: { quants: number; scales: number; mins: number },
    scaleCols = BLOCK,
  ): void {
    const { f32, i8, data } = views();
    const { blockBytes } = ggmlTypeByName(type)!;
    let i = 0;
    for (let b = 0; b < blocks; b++) {
      blockReader(type)!(data, src + b * blockBytes, (integer, scale, minimum) => {
        i8[to.quants + i] = integer;
        f32[to.scales / 4 + Math.floor(i / scaleCols)] = scale;
        if (to.mins !== 0) f32[to.mins / 4 + Math.floor(i / scaleCols)] = minimum;
        i++;
      });
    }
  }

  /** Half floats `step` bytes apart to floats. */
  function halves(src: number, dst: number, n: number, step: number): void {
    const { f32, data } = views();
    for (let i = 0; i < n; i++) f32[dst / 4 + i] = half(data.getUint16(src + i * step, true));
  }

  /** Scales and minimums (0 for none) of rows, row-major, into their places. */
  function interleaveFloats(
    scales: number,
    mins: number,
    weights: number,
    firstRow: number,
    rows: number,
    layout: OctLayout,
  ): void {
    const { f32 } = views();
    const groups = layout.cols / layout.scaleCols;
    for (let i = 0; i < rows; i++) {
      for (let g = 0; g < groups; g++) {
        const to = (weights + scalePlace(firstRow + i, g * layout.scaleCols, layout)) / 4;
        f32[to] = f32[scales / 4 + i * groups + g]!;
        if (mins !== 0) f32[to + 8] = f32[mins / 4 + i * groups + g]!;
      }
    }
  }

  /** Product of an integer matrix, whose integers `weight` gives, with activations. */
  function product(at: ProductPlaces, weight: (row: number, col: number) => number): void {
    const { f32, i16 } = views();
    const { cols, scaleCols, minimums } = at.layout;
    for (let t = 0; t < at.tokens; t++) {
      for (let r = 0; r < at.rows; r++) {
        let sum = 0;
        for (let first = 0; first < cols; first += scaleCols) {
          const theirs = activationFloatPlace(t, Math.floor(first / BLOCK), cols / BLOCK, at.tokens);
          let dot = 0;
          for (let c = first; c < first + scaleCols; c++)
            dot += weight(r, c) * i16[at.x / 2 + activationPlace(t, c, cols, at.tokens)]!;
          const mine = (at.w + scalePlace(r, first, at.layout)) / 4;
          sum += dot * f32[mine]! * f32[at.xs / 4 + theirs]!;
          if (minimums) sum += f32[mine + 8]! * f32[at.xm / 4 + theirs]!;
        }
        f32[(at.out + t * at.outStride) / 4 + r] = sum;
      }
    }
  }

  return {
    repackQ8_0(src, quants, scales, blocks) {
      const { u8 } = views();
      halves(src, scales, blocks, 34);
      for (let b = 0; b < blocks; b++) u8.copyWithin(quants + b * BLOCK, src + b * 34 + 2, src + b * 34 + 34);
    },

    repackQ4_0(src, quants, scales, blocks) {
      halves(src, scales, blocks, 18);
      repackNibbles(src, quants, blocks, 2);
    },

    repackQ4_1(src, quants, scales, mins, blocks) {
      halves(src, scales, blocks, 20);
      halves(src + 2, mins, blocks, 20);
      repackNibbles(src, quants, blocks, 4);
    },

    repackQ5_0: (src, quants, scales, blocks) => repack('Q5_0', src, blocks, { quants, scales, mins: 0 }),
    repackQ5_1: (src, quants, scales, mins, blocks) => repack('Q5_1', src, blocks, { quants, scales, mins }),
    repackIQ4_NL: (src, quants, scales, blocks) => repack('IQ4_NL', src, blocks, { quants, scales, mins: 0 }),
    repackIQ4_XS: (src, quants, scales, blocks) => repack('IQ4_XS', src, blocks, { quants, scales, mins: 0 }),
    repackQ4_K: (src, quants, scales, mins, blocks) => repack('Q4_K', src, blocks, { quants, scales, mins }),
    repackQ5_K: (src, quants, scales, mins, blocks) => repack('Q5_K', src, blocks, { quants, scales, mins }),
    repackQ6_K: (src, quants, scales, blocks) => repack('Q6_K', src, blocks, { quants, scales, mins: 0 }, 16),
    repackQ3_K: (src, quants, scales, blocks) => repack('Q3_K', src, blocks, { quants, scales, mins: 0 }, 16),

    widenF16(src, dst, n) {
      halves(src, dst, n, 2);
    },

    widenBF16(src, dst, n) {
      const { data } = views();
      for (let i = 0; i < n; i++) data.setUint32(dst + 4 * i, data.getUint16(src + 2 * i, true) << 16, true);
    },

    allFinite(src, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) if (!Number.isFinite(f32[src / 4 + i]!)) return 0;
      return 1;
    },

    roundQ8(src, quants, scales, n) {
      const { f32, i8 } = views();
      for (let b = 0; b < n; b += BLOCK) {
        let largest = 0;
        for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(f32[src / 4 + b + i]!));
        const scale = largest > SMALLEST_BLOCK ? Math.fround(largest / INT8_MAX) : 0;
        f32[scales / 4 + b / BLOCK] = scale;
        for (let i = 0; i < BLOCK; i++) i8[quants + b + i] = scale > 0 ? nearest(f32[src / 4 + b + i]! / scale) : 0;
      }
    },

    interleaveQ8(src, scales, mins, weights, firstRow, rows, cols, scaleCols) {
      const { i8 } = views();
      const layout: OctLayout = { cols, eightBytes: 8, scaleCols, minimums: mins !== 0 };
      for (let i = 0; i < rows; i++) {
        for (let c = 0; c < cols; c++) i8[weights + q8Place(firstRow + i, c, layout)] = i8[src + i * cols + c]!;
      }
      interleaveFloats(scales, mins, weights, firstRow, rows, layout);
    },

    interleaveQ4(src, scales, mins, weights, firstRow, rows, cols) {
      const { u8, data } = views();
      const layout: OctLayout = { cols, eightBytes: 4, scaleCols: BLOCK, minimums: mins !== 0 };
      for (let i = 0; i < rows; i++) {
        for (let c = 0; c < cols; c++) {
          const { at, shift } = q4Place(firstRow + i, c, layout);
          const others = data.getUint16(weights + at, true) & ~(15 << shift);
          data.setUint16(weights + at, others | (u8[src + i * cols + c]! << shift), true);
        }
      }
      interleaveFloats(scales, mins, weights, firstRow, rows, layout);
    },

    expandQ8(weights, minimums, dst, cols, lane, scaleCols) {
      const { f32, i8 } = views();
      const layout: OctLayout = { cols, eightBytes: 8, scaleCols, minimums };
      for (let c = 0; c < cols; c++) {
        const at = (weights + scalePlace(lane, c, layout)) / 4;
        f32[dst / 4 + c] = i8[weights + q8Place(lane, c, layout)]! * f32[at]! + (minimums ? f32[at + 8]! : 0);
      }
    },

    expandQ4(weights, minimums, offset, dst, cols, lane) {
      const { f32, data } = views();
      const layout: OctLayout = { cols, eightBytes: 4, scaleCols: BLOCK, minimums };
      for (let c = 0; c < cols; c++) {
        const { at: word, shift } = q4Place(lane, c, layout);
        const nibble = (data.getUint16(weights + word, true) >> shift) & 15;
        const at = (weights + scalePlace(lane, c, layout)) / 4;
        f32[dst / 4 + c] = (nibble - offset) * f32[at]! + (minimums ? f32[at + 8]! : 0);
      }
    },

    quantizeActivations(src, quants, scales, sums, scaledSums, cols, tokens) {
      const { f32, i16, data } = views();
      for (let t = 0; t < tokens; t++) {
        for (let b = 0; b < cols / BLOCK; b++) {
          const from = src / 4 + t * cols + b * BLOCK;
          let largest = 0;
          for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(f32[from + i]!));
          let total = 0;
          const inverse = largest > SMALLEST_ACTIVATIONS ? Math.fround(LARGEST_ACTIVATION / largest) : 0;
          for (let i = 0; i < BLOCK; i++) {
            const held = nearest(Math.fround(f32[from + i]! * inverse));
            i16[quants / 2 + activationPlace(t, b * BLOCK + i, cols, tokens)] = held;
            total += held;
          }
          const scale = Math.fround(largest / LARGEST_ACTIVATION);
          const at = activationFloatPlace(t, b, cols / BLOCK, tokens);
          f32[scales / 4 + at] = scale;
          data.setInt32(sums + 4 * at, total, true);
          f32[scaledSums / 4 + at] = scale * total;
        }
      }
    },

    matmulQ8(w, minimums, x, xs, xm, out, rows, cols, tokens, outStride, scaleCols) {
      const { i8 } = views();
      const layout: OctLayout = { cols, eightBytes: 8, scaleCols, minimums };
      product({ w, layout, x, xs, xm, out, rows, tokens, outStride }, (r, c) => i8[w + q8Place(r, c, layout)]!);
    },

    matmulQ4(w, minimums, offset, x, xs, _xi, xm, out, rows, cols, tokens, outStride) {
      const { data } = views();
      const layout: OctLayout = { cols, eightBytes: 4, scaleCols: BLOCK, minimums };
      product({ w, layout, x, xs, xm, out, rows, tokens, outStride }, (r, c) => {
        const { at, shift } = q4Place(r, c, layout);
        return ((data.getUint16(w + at, true) >> shift) & 15) - offset;
      });
    },

    matmulF32(w, x, out, rows, cols, tokens, outStride) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) {
        for (let r = 0; r < rows; r++) {
          let sum = 0;
          for (let i = 0; i < cols; i++) sum += f32[w / 4 + r * cols + i]! * f32[x / 4 + t * cols + i]!;
          f32[(out + t * outStride) / 4 + r] = sum;
        }
      }
    },

    rmsNorm(x, weight, out, n, tokens, eps) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) {
        const row = x / 4 + t * n;
        let sum = 0;
        for (let i = 0; i < n; i++) sum += f32[row + i]! ** 2;
        const scale = 1 / Math.sqrt(sum / n + eps);
        for (let i = 0; i < n; i++) f32[out / 4 + t * n + i] = f32[row + i]! * scale * f32[weight / 4 + i]!;
      }
    },

    layerNorm(x, weight, bias, out, n, tokens, eps) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) {
        const row = f32.slice(x / 4 + t * n, x / 4 + (t + 1) * n);
        const mean = row.reduce((sum, value) => sum + value, 0) / n;
        const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
        for (let i = 0; i < n; i++) {
          const unit = (row[i]! - mean) / Math.sqrt(variance + eps);
          f32[out / 4 + t * n + i] = unit * f32[weight / 4 + i]! + f32[bias / 4 + i]!;
        }
      }
    },

    addInto(x, y, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[x / 4 + i]! += f32[y / 4 + i]!;
    },

    copyFloats(from, to, n) {
      views().f32.copyWithin(to / 4, from / 4, from / 4 + n);
    },

    addBias(x, bias, n, tokens) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) for (let i = 0; i < n; i++) f32[x / 4 + t * n + i]! += f32[bias / 4 + i]!;
    },

    siluMultiply(gate, up, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[gate / 4 + i] = silu(f32[gate / 4 + i]!) * f32[up / 4 + i]!;
    },

    geluMultiply(gate, up, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[gate / 4 + i] = gelu(f32[gate / 4 + i]!) * f32[up / 4 + i]!;
    },

    gelu(x, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[x / 4 + i] = gelu(f32[x / 4 + i]!);
    },

    scaleBy(x, n, factor) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[x / 4 + i]! *= factor;
    },

    softcap(x, n, cap) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[x / 4 + i] = cap * Math.tanh(f32[x / 4 + i]! / cap);
    },

    rope(x, table, heads, headSize, pairs, step, spread, tokens) {
      const { f32 } = views();
      for (let h = 0; h < tokens * heads; h++) {
        const row = table / 4 + Math.floor(h / heads) * pairs * 2;
        for (let i = 0; i < pairs; i++) {
          const at = x / 4 + h * headSize + i * spread;
          const cos = f32[row + 2 * i]!;
          const sin = f32[row + 2 * i + 1]!;
          const a = f32[at]!;
          const b = f32[at + step]!;
          f32[at] = a * cos - b * sin;
          f32[at + step] = a * sin + b * cos;
        }
      }
    },

    attention(q, keys, values, out, _scores, heads, kvHeads, headSize, length, kvStride, scale, cap, ...range) {
      const { f32 } = views();
      const group = heads / kvHeads;
      const [tokens, growth, window] = range;
      for (let row = 0; row < tokens * heads; row++) {
        const seen = length + Math.floor(row / heads) * growth;
        const first = Math.max(0, seen - window);
        const kvAt = Math.floor((row % heads) / group) * headSize;
        const scores = new Float32Array(seen - first);
        let largest = -Infinity;
        for (let p = first; p < seen; p++) {
          let dot = 0;
          for (let d = 0; d < headSize; d++)
            dot += f32[q / 4 + row * headSize + d]! * f32[(keys + p * kvStride) / 4 + kvAt + d]!;
          const score = dot * scale;
          scores[p - first] = cap > 0 ? cap * Math.tanh(score / cap) : score;
          largest = Math.max(largest, scores[p - first]!);
        }
        let total = 0;
        const sums = new Float64Array(headSize); // (headSize) weighted values
        for (let p = first; p < seen; p++) {
          const weight = Math.exp(scores[p - first]! - largest);
          total += weight;
          for (let d = 0; d < headSize; d++) sums[d]! += weight * f32[(values + p * kvStride) / 4 + kvAt + d]!;
        }
        for (let d = 0; d < headSize; d++) f32[out / 4 + row * headSize + d] = sums[d]! / total;
      }
    },
  };
}
