/**
 * The kernels in plain TypeScript over the same memory: the oracle that the WebAssembly ones are tested against. Sums
 * are taken in double precision, one element after the other, so a result differs from the WebAssembly one by float
 * rounding only. Addresses, shapes and layouts are those of assembly/index.ts.
 */
import type { Kernels, WasmMemory } from './load.ts';

const BLOCK = 32;
/** Largest int16 and int8 a value is rounded to. */
const INT16_MAX = 32767;
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
  function repackNibbles(src: number, quants: number, blocks: number, header: number, offset: number): void {
    const { i8, u8 } = views();
    for (let b = 0; b < blocks; b++) {
      for (let i = 0; i < 16; i++) {
        const pair = u8[src + b * (header + 16) + header + i]!;
        i8[quants + b * BLOCK + i] = (pair & 15) - offset;
        i8[quants + b * BLOCK + i + 16] = (pair >> 4) - offset;
      }
    }
  }

  /** Half floats `step` bytes apart to floats. */
  function halves(src: number, dst: number, n: number, step: number): void {
    const { f32, data } = views();
    for (let i = 0; i < n; i++) f32[dst / 4 + i] = half(data.getUint16(src + i * step, true));
  }

  return {
    repackQ8_0(src, quants, scales, blocks) {
      const { u8 } = views();
      halves(src, scales, blocks, 34);
      for (let b = 0; b < blocks; b++) u8.copyWithin(quants + b * BLOCK, src + b * 34 + 2, src + b * 34 + 34);
    },

    repackQ4_0(src, quants, scales, blocks) {
      halves(src, scales, blocks, 18);
      repackNibbles(src, quants, blocks, 2, 8);
    },

    repackQ4_1(src, quants, scales, mins, blocks) {
      halves(src, scales, blocks, 20);
      halves(src + 2, mins, blocks, 20);
      repackNibbles(src, quants, blocks, 4, 0);
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

    expandQ8(quants, scales, mins, dst, cols) {
      const { f32, i8 } = views();
      for (let i = 0; i < cols; i++) {
        const block = Math.floor(i / BLOCK);
        const minimum = mins === 0 ? 0 : f32[mins / 4 + block]!;
        f32[dst / 4 + i] = i8[quants + i]! * f32[scales / 4 + block]! + minimum;
      }
    },

    quantizeActivations(src, quants, scales, sums, n) {
      const { f32, i16 } = views();
      for (let b = 0; b < n; b += BLOCK) {
        let largest = 0;
        for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(f32[src / 4 + b + i]!));
        let total = 0;
        for (let i = 0; i < BLOCK; i++) {
          const value =
            largest > 0 ? nearest(Math.fround(f32[src / 4 + b + i]! * Math.fround(INT16_MAX / largest))) : 0;
          i16[quants / 2 + b + i] = Math.max(-INT16_MAX - 1, Math.min(INT16_MAX, value));
          total += i16[quants / 2 + b + i]!;
        }
        const scale = Math.fround(largest / INT16_MAX);
        f32[scales / 4 + b / BLOCK] = scale;
        f32[sums / 4 + b / BLOCK] = scale * total;
      }
    },

    matmulQ8(w, ws, wm, x, xs, xm, out, rows, cols, tokens, outStride) {
      const { f32, i16, i8 } = views();
      const blocks = cols / BLOCK;
      for (let t = 0; t < tokens; t++) {
        for (let r = 0; r < rows; r++) {
          let sum = 0;
          for (let b = 0; b < blocks; b++) {
            let dot = 0;
            for (let i = b * BLOCK; i < (b + 1) * BLOCK; i++) dot += i8[w + r * cols + i]! * i16[x / 2 + t * cols + i]!;
            sum += dot * f32[ws / 4 + r * blocks + b]! * f32[xs / 4 + t * blocks + b]!;
            if (wm !== 0) sum += f32[wm / 4 + r * blocks + b]! * f32[xm / 4 + t * blocks + b]!;
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

    addInto(x, y, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[x / 4 + i]! += f32[y / 4 + i]!;
    },

    addBias(x, bias, n, tokens) {
      const { f32 } = views();
      for (let t = 0; t < tokens; t++) for (let i = 0; i < n; i++) f32[x / 4 + t * n + i]! += f32[bias / 4 + i]!;
    },

    siluMultiply(gate, up, n) {
      const { f32 } = views();
      for (let i = 0; i < n; i++) f32[gate / 4 + i] = silu(f32[gate / 4 + i]!) * f32[up / 4 + i]!;
    },

    rope(x, table, heads, headSize, pairs, step, spread) {
      const { f32 } = views();
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < pairs; i++) {
          const at = x / 4 + h * headSize + i * spread;
          const cos = f32[table / 4 + 2 * i]!;
          const sin = f32[table / 4 + 2 * i + 1]!;
          const a = f32[at]!;
          const b = f32[at + step]!;
          f32[at] = a * cos - b * sin;
          f32[at + step] = a * sin + b * cos;
        }
      }
    },

    attention(q, keys, values, out, scores, heads, kvHeads, headSize, length, kvStride, scale) {
      const { f32 } = views();
      const group = heads / kvHeads;
      for (let h = 0; h < heads; h++) {
        const kvAt = Math.floor(h / group) * headSize;
        let largest = -Infinity;
        for (let p = 0; p < length; p++) {
          let dot = 0;
          for (let d = 0; d < headSize; d++)
            dot += f32[q / 4 + h * headSize + d]! * f32[(keys + p * kvStride) / 4 + kvAt + d]!;
          f32[scores / 4 + p] = dot * scale;
          largest = Math.max(largest, f32[scores / 4 + p]!);
        }
        let total = 0;
        const sums = new Float64Array(headSize); // (headSize) weighted values
        for (let p = 0; p < length; p++) {
          const weight = Math.exp(f32[scores / 4 + p]! - largest);
          f32[scores / 4 + p] = weight;
          total += weight;
          for (let d = 0; d < headSize; d++) sums[d]! += weight * f32[(values + p * kvStride) / 4 + kvAt + d]!;
        }
        for (let d = 0; d < headSize; d++) f32[out / 4 + h * headSize + d] = sums[d]! / total;
      }
    },
  };
}
