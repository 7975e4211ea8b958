/**
 * The kernels in plain TypeScript over the same memory: the oracle that the WebAssembly ones are tested against. Sums
 * are taken in double precision, one element after the other, so a result differs from the WebAssembly one by float
 * rounding only. Addresses, shapes and layouts are those of assembly/.
 */
import { ggmlTypeByName } from '../format/ggml-types.ts';
import { blockReader, packedScale } from '../format/block-formats.ts';
import type { Form } from './form.ts';
import { groupBytes, octBytes, SUPER_COLS, superBytes } from './form.ts';
import type { Kernels } from './load.ts';
import { SHARED_OVERLAP } from './load.ts';
import type { WasmMemory } from './web-assembly.ts';

const BLOCK = 32;
/** Largest int16 and int8 a value is rounded to. */
/** 127 * 256 + 127: both bytes of every integer are signed bytes (assembly/activations.ts). */
const LARGEST_ACTIVATION = 32639;
/** Blocks of activations with no larger magnitude become zeros. */
const SMALLEST_ACTIVATIONS = 1e-34;
const INT8_MAX = 127;
const LARGEST_HALF = 65504;
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

const halfNumbers = new Map<number, number>();

/** The half float that a number is. */
function halfBits(value: number): number {
  if (halfNumbers.size === 0)
    for (let bits = 0; bits < 0x10000; bits++) halfNumbers.set(half(bits), bits & 0x7fff ? bits : 0);
  const bits = halfNumbers.get(value);
  if (bits === undefined) throw new Error(`${value} is no half float`);
  return bits;
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

/** A form out of the number that tells it (form.ts). */
function formOf(number: number): Form {
  return {
    bits: (number & 15) as Form['bits'],
    hasMinimums: (number & 16) !== 0,
    scaleCols: number & 32 ? 16 : 32,
    scales: number & 128 ? 'super' : number & 64 ? 'halves' : 'floats',
    offset: number >> 8,
  };
}

/** Where the group of columns begins that holds `col`, in the oct of `row`. */
function groupPlace(row: number, col: number, cols: number, form: Form): number {
  const supers = (Math.floor(col / SUPER_COLS) + 1) * superBytes(form);
  return (row >> 3) * octBytes(form, cols) + Math.floor(col / form.scaleCols) * groupBytes(form) + supers;
}

/** Where the super scales stand that go for `col`. */
function superPlace(row: number, col: number, cols: number, form: Form): number {
  return groupPlace(row, col - (col % SUPER_COLS), cols, form) - superBytes(form);
}

/** A bit of an integer: its byte, and which of the byte's bits. */
function bitPlace(row: number, col: number, bit: number, cols: number, form: Form): { at: number; shift: number } {
  const group = groupPlace(row, col, cols, form);
  const within = col % form.scaleCols;
  const pair = within >> 1;
  let word: number;
  let shift: number;
  if (form.bits === 8) {
    return { at: group + pair * 16 + (row & 7) * 2 + (col & 1), shift: bit };
  } else if (bit < 4) {
    word = group + (within >> 3) * 32;
    shift = (pair & 3) * 4 + bit;
  } else {
    word = group + form.scaleCols * 4;
    const more = form.bits - 4;
    const field = pair >> 1; // of those that stand in four bits
    shift = Math.floor((field * more) / 4) * 8 + ((field * more) % 4) + (pair & 1) * 4 + bit - 4;
  }
  return { at: word + (row & 7) * 4 + (col & 1) * 2 + (shift >> 3), shift: shift & 7 };
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

  /** Blocks of a type to integers `offset` above what they mean, scales and minimums (0 for none), `scaleCols` elements a scale. */
  function repack(
    type: string,
    src: number,
    blocks: number,
    to: { quants: number; scales: number; mins: number },
    { scaleCols = BLOCK, offset = 0 } = {},
  ): void {
    const { f32, i8, data } = views();
    const { blockBytes } = ggmlTypeByName(type)!;
    let i = 0;
    for (let b = 0; b < blocks; b++) {
      blockReader(type)!(data, src + b * blockBytes, (integer, scale, minimum) => {
        i8[to.quants + i] = integer + offset;
        if (to.scales !== 0) f32[to.scales / 4 + Math.floor(i / scaleCols)] = scale;
        if (to.mins !== 0) f32[to.mins / 4 + Math.floor(i / scaleCols)] = minimum;
        i++;
      });
    }
  }

  /** The same of a type with super scales: its scales and minimums (0 for none) as bytes. */
  function repackSuper(
    type: 'Q4_K' | 'Q5_K' | 'Q6_K',
    src: number,
    blocks: number,
    to: { quants: number; scales: number; mins: number; supers: number },
  ): void {
    const { u8, data } = views();
    const { blockBytes } = ggmlTypeByName(type)!;
    repack(type, src, blocks, { quants: to.quants, scales: 0, mins: 0 }, { offset: type === 'Q6_K' ? 32 : 0 });
    for (let b = 0; b < blocks; b++) {
      const block = src + b * blockBytes;
      if (type === 'Q6_K') {
        u8.copyWithin(to.scales + b * 16, block + 192, block + 208);
        data.setUint32(to.supers + 4 * b, data.getUint16(block + 208, true), true);
        continue;
      }
      data.setUint32(to.supers + 4 * b, data.getUint32(block, true), true);
      for (let j = 0; j < 8; j++) {
        const { scale, minimum } = packedScale(data, block + 4, j);
        u8[to.scales + b * 8 + j] = scale;
        u8[to.mins + b * 8 + j] = minimum;
      }
    }
  }

  /** Half floats `step` bytes apart to floats. */
  function halves(src: number, dst: number, n: number, step: number): void {
    const { f32, data } = views();
    for (let i = 0; i < n; i++) f32[dst / 4 + i] = half(data.getUint16(src + i * step, true));
  }

  /** Scale (which = 0) or minimum of a column. */
  function floatOf(w: number, row: number, col: number, cols: number, form: Form, which: 0 | 1): number {
    const { f32, i8, data } = views();
    const place = w + groupPlace(row, col, cols, form) + form.bits * form.scaleCols;
    const lane = row & 7;
    if (form.scales === 'floats') return f32[place / 4 + which * 8 + lane]!;
    if (form.scales === 'halves') return half(data.getUint16(place + which * 16 + lane * 2, true));
    const top = half(data.getUint16(w + superPlace(row, col, cols, form) + which * 16 + lane * 2, true));
    return Math.fround(top * i8[place + which * 8 + lane]!) * (which === 1 ? -1 : 1);
  }

  /** Integer less what it is above its weight. */
  function integerOf(w: number, row: number, col: number, cols: number, form: Form): number {
    const { u8 } = views();
    let integer = 0;
    for (let bit = 0; bit < form.bits; bit++) {
      const { at, shift } = bitPlace(row, col, bit, cols, form);
      integer |= ((u8[w + at]! >> shift) & 1) << bit;
    }
    return (form.bits === 8 ? (integer << 24) >> 24 : integer) - form.offset;
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

    repackQ5_0: (src, quants, scales, blocks) =>
      repack('Q5_0', src, blocks, { quants, scales, mins: 0 }, { offset: 16 }),
    repackQ5_1: (src, quants, scales, mins, blocks) => repack('Q5_1', src, blocks, { quants, scales, mins }),
    repackIQ4_NL: (src, quants, scales, blocks) => repack('IQ4_NL', src, blocks, { quants, scales, mins: 0 }),
    repackIQ4_XS: (src, quants, scales, blocks) => repack('IQ4_XS', src, blocks, { quants, scales, mins: 0 }),
    repackQ4_K: (src, quants, scales, mins, supers, blocks) =>
      repackSuper('Q4_K', src, blocks, { quants, scales, mins, supers }),
    repackQ5_K: (src, quants, scales, mins, supers, blocks) =>
      repackSuper('Q5_K', src, blocks, { quants, scales, mins, supers }),
    repackQ6_K: (src, quants, scales, supers, blocks) =>
      repackSuper('Q6_K', src, blocks, { quants, scales, mins: 0, supers }),
    repackQ3_K: (src, quants, scales, blocks) =>
      repack('Q3_K', src, blocks, { quants, scales, mins: 0 }, { scaleCols: 16 }),

    lowerBytes(at, n, offset) {
      const { i8 } = views();
      for (let i = 0; i < n; i++) i8[at + i] = i8[at + i]! - offset;
    },

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

    interleave(src, scales, mins, supers, weights, number, firstRow, rows, cols) {
      const { f32, u8, data } = views();
      const form = formOf(number);
      const groups = cols / form.scaleCols;
      for (let i = 0; i < rows; i++) {
        const row = firstRow + i;
        for (let c = 0; c < cols; c++) {
          for (let bit = 0; bit < form.bits; bit++) {
            const { at, shift } = bitPlace(row, c, bit, cols, form);
            const value = (u8[src + i * cols + c]! >> bit) & 1;
            u8[weights + at] = (u8[weights + at]! & ~(1 << shift)) | (value << shift);
          }
        }
        for (let g = 0; g < groups; g++) {
          const first = g * form.scaleCols;
          const place = weights + groupPlace(row, first, cols, form) + form.bits * form.scaleCols;
          const lane = row & 7;
          for (const [from, which] of [[scales, 0], ...(form.hasMinimums ? [[mins, 1]] : [])] as [number, number][]) {
            const number = i * groups + g;
            if (form.scales === 'super') u8[place + which * 8 + lane] = u8[from + number]!;
            else if (form.scales === 'halves')
              data.setUint16(place + which * 16 + lane * 2, halfBits(f32[from / 4 + number]!), true);
            else f32[place / 4 + which * 8 + lane] = f32[from / 4 + number]!;
          }
          if (form.scales !== 'super' || first % SUPER_COLS !== 0) continue;
          const from = supers + ((i * cols + first) / SUPER_COLS) * 4;
          const top = weights + superPlace(row, first, cols, form) + lane * 2;
          u8.copyWithin(top, from, from + 2);
          if (form.hasMinimums) u8.copyWithin(top + 16, from + 2, from + 4);
        }
      }
    },

    expand(weights, number, dst, cols, lane) {
      const { f32 } = views();
      const form = formOf(number);
      for (let c = 0; c < cols; c++) {
        const minimum = form.hasMinimums ? floatOf(weights, lane, c, cols, form, 1) : 0;
        f32[dst / 4 + c] = integerOf(weights, lane, c, cols, form) * floatOf(weights, lane, c, cols, form, 0) + minimum;
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

    matmulIntegers(w, number, x, xs, _xi, xm, out, rows, cols, tokens, outStride) {
      const { f32, i16 } = views();
      const form = formOf(number);
      for (let r = 0; r < rows; r++) {
        const integers = Array.from({ length: cols }, (_, c) => integerOf(w, r, c, cols, form));
        for (let t = 0; t < tokens; t++) {
          let sum = 0;
          for (let first = 0; first < cols; first += form.scaleCols) {
            const theirs = activationFloatPlace(t, Math.floor(first / BLOCK), cols / BLOCK, tokens);
            let dot = 0;
            for (let c = first; c < first + form.scaleCols; c++)
              dot += integers[c]! * i16[x / 2 + activationPlace(t, c, cols, tokens)]!;
            sum += dot * floatOf(w, r, first, cols, form, 0) * f32[xs / 4 + theirs]!;
            if (form.hasMinimums) sum += floatOf(w, r, first, cols, form, 1) * f32[xm / 4 + theirs]!;
          }
          f32[(out + t * outStride) / 4 + r] = sum;
        }
      }
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

    narrowF16(src, dst, n) {
      const { f32, u16 } = views();
      for (let i = 0; i < n; i++) {
        const x = f32[src / 4 + i]!;
        const magnitude = Math.min(Math.abs(x), LARGEST_HALF);
        const unit = magnitude < 2 ** -14 ? 2 ** -24 : 2 ** (Math.floor(Math.log2(magnitude)) - 10);
        u16[dst / 2 + i] = halfBits(nearest(magnitude / unit) * unit) | (x < 0 || Object.is(x, -0) ? 0x8000 : 0);
      }
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

    attention(...numbers) {
      this.attentionShared(...numbers, 0, 0, 0);
    },

    attentionShared(q, keys, values, out, _scores, heads, kvHeads, headSize, length, kvStride, scale, cap, ...range) {
      const { f32, data } = views();
      const group = heads / kvHeads;
      const [tokens, growth, window, halves, shared, sharedKeys, sharedValues] = range;
      const rowOf = (own: number, others: number, p: number): number =>
        p < shared ? others + p * kvStride : own + (p - Math.max(0, shared - SHARED_OVERLAP)) * kvStride;
      const cached = (row: number, i: number): number =>
        halves === 0 ? f32[row / 4 + i]! : half(data.getUint16(row + 2 * i, true));
      for (let row = 0; row < tokens * heads; row++) {
        const seen = length + Math.floor(row / heads) * growth;
        const first = Math.max(0, seen - window);
        const kvAt = Math.floor((row % heads) / group) * headSize;
        const scores = new Float32Array(seen - first);
        let largest = -Infinity;
        for (let p = first; p < seen; p++) {
          let dot = 0;
          for (let d = 0; d < headSize; d++)
            dot += f32[q / 4 + row * headSize + d]! * cached(rowOf(keys, sharedKeys, p), kvAt + d);
          const score = dot * scale;
          scores[p - first] = cap > 0 ? cap * Math.tanh(score / cap) : score;
          largest = Math.max(largest, scores[p - first]!);
        }
        let total = 0;
        const sums = new Float64Array(headSize); // (headSize) weighted values
        for (let p = first; p < seen; p++) {
          const weight = Math.exp(scores[p - first]! - largest);
          total += weight;
          for (let d = 0; d < headSize; d++) sums[d]! += weight * cached(rowOf(values, sharedValues, p), kvAt + d);
        }
        for (let d = 0; d < headSize; d++) f32[out / 4 + row * headSize + d] = sums[d]! / total;
      }
    },

    attentionWeights(q, keys, out, _room, heads, kvHeads, headSize, length, kvStride, scale, cap, ...range) {
      const { f32, data } = views();
      const [tokens, window, halves] = range;
      const width = Math.ceil((length + tokens - 1) / 4) * 4;
      const cached = (row: number, i: number): number =>
        halves === 0 ? f32[row / 4 + i]! : half(data.getUint16(row + 2 * i, true));
      for (let row = 0; row < tokens * heads; row++) {
        const seen = length + Math.floor(row / heads);
        const first = Math.max(0, seen - window);
        const kvAt = Math.floor((row % heads) / (heads / kvHeads)) * headSize;
        const scores = Array.from({ length: seen - first }, (_, p) => {
          let dot = 0;
          for (let d = 0; d < headSize; d++)
            dot += f32[q / 4 + row * headSize + d]! * cached(keys + (first + p) * kvStride, kvAt + d);
          return cap > 0 ? cap * Math.tanh((dot * scale) / cap) : dot * scale;
        });
        const largest = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const at = out / 4 + row * width;
        f32.fill(0, at, at + width);
        weights.forEach((weight, p) => (f32[at + first + p] = weight / total));
      }
    },

    meanOfHeads(weights, out, heads, n, tokens) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) {
        for (let p = 0; p < n; p++) {
          let sum = 0;
          for (let h = 0; h < heads; h++) sum += f32[weights / 4 + (t * heads + h) * n + p]!;
          f32[out / 4 + t * n + p] = sum / heads;
        }
      }
    },

    addGrams(rows, count, grams, heads, size) {
      const { f32 } = views();
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < size; i++) {
          for (let j = i & ~3; j < size; j++) {
            let sum = 0;
            for (let r = 0; r < count; r++) {
              const row = rows / 4 + (r * heads + h) * size;
              sum += f32[row + i]! * f32[row + j]!;
            }
            f32[grams / 4 + (h * size + i) * size + j]! += sum;
          }
        }
      }
    },

    gramNorms(grams, values, out, heads, kvHeads, size, count, outStride) {
      const { f32 } = views();
      for (let h = 0; h < heads; h++) {
        for (let p = 0; p < count; p++) {
          const v = values / 4 + (p * kvHeads + Math.floor((h * kvHeads) / heads)) * size;
          let sum = 0;
          for (let i = 0; i < size; i++) {
            for (let j = i & ~3; j < size; j++) {
              const twice = j >= (i & ~3) + 4 ? 2 : 1;
              sum += twice * f32[grams / 4 + (h * size + i) * size + j]! * f32[v + i]! * f32[v + j]!;
            }
          }
          f32[(out + h * outStride) / 4 + p] = Math.sqrt(Math.max(0, sum));
        }
      }
    },
  };
}
