/** A weight matrix in WebAssembly memory in the layout its kernel reads: `f32`, or `q8` with or without minimums. */
import { raise, SQLSTATE } from '../errors.ts';
import { COMPUTABLE_TYPES } from '../format/computable-types.ts';
import { ggmlTypeByName } from '../format/ggml-types.ts';
import type { Arena } from './arena.ts';
import { dequantizeRow } from './dequantize.ts';
import type { TensorInfo } from './source.ts';

const BLOCK = 32;
/** Stored types whose integers the q8 layout holds exactly. */
const QUANTIZED = new Set(['Q8_0', 'Q4_0', 'Q4_1']);

export type Layout = 'f32' | 'q8';

export interface Matrix {
  readonly info: TensorInfo;
  readonly layout: Layout;
  readonly rows: number;
  /** Row length of the stored tensor. */
  readonly cols: number;
  /** Row length in memory: cols, rounded up to a multiple of 4 for f32. */
  readonly stride: number;
  /** Address of the floats or int8. */
  weights: number;
  /** Address of the scales (rows, stride / 32); q8 only. */
  scales: number;
  /** Address of the minimums (rows, stride / 32); 0 where the type has none. */
  mins: number;
}

/** Layout that a tensor takes: its own integers, or floats, or floats rounded to q8. */
export function layoutOf(info: TensorInfo, floats: Layout, quantized: Layout): Layout {
  if (!COMPUTABLE_TYPES.has(info.type))
    raise(SQLSTATE.featureNotSupported, `tensor ${info.name} has type ${info.type}, which is not supported`);
  const cols = info.shape[0] ?? 0;
  if (QUANTIZED.has(info.type)) return quantized;
  return floats === 'q8' && cols % BLOCK === 0 ? 'q8' : 'f32';
}

export function matrixBytes(info: TensorInfo, layout: Layout): number {
  const cols = info.shape[0] ?? 0;
  const rows = info.shape[1] ?? 1;
  if (layout === 'f32') return rows * Math.ceil(cols / 4) * 4 * 4;
  const perBlock = info.type === 'Q4_1' ? 8 : 4;
  return rows * cols + (rows * cols * perBlock) / BLOCK;
}

/** A matrix that has no memory yet: all addresses are 0. */
export function unplacedMatrix(info: TensorInfo, layout: Layout): Matrix {
  const cols = info.shape[0] ?? 0;
  const rows = info.shape[1] ?? 1;
  const stride = layout === 'f32' ? Math.ceil(cols / 4) * 4 : cols;
  return { info, layout, rows, cols, stride, weights: 0, scales: 0, mins: 0 };
}

export function allocateMatrix(arena: Arena, info: TensorInfo, layout: Layout): Matrix {
  const matrix = unplacedMatrix(info, layout);
  const { rows, cols, stride } = matrix;
  if (layout === 'f32') {
    matrix.weights = arena.allocate(rows * stride * 4);
    return matrix;
  }
  const blocks = (rows * cols) / BLOCK;
  matrix.weights = arena.allocate(rows * cols);
  matrix.scales = arena.allocate(blocks * 4);
  if (info.type === 'Q4_1') matrix.mins = arena.allocate(blocks * 4);
  return matrix;
}

/** Room that `fillMatrix` needs for a tile of `bytes` bytes. */
export function stagingBytes(bytes: number, cols: number): number {
  return bytes + Math.ceil(cols / 4) * 4 * 4;
}

/** Write a tile (whole rows from firstRow on) into its place; `staging` is an address with room for the tile. */
export function fillMatrix(arena: Arena, matrix: Matrix, firstRow: number, bytes: Uint8Array, staging: number): void {
  const { kernels } = arena;
  const { info, cols, stride } = matrix;
  const rowBytes = rowByteLength(info.type, cols);
  const rows = bytes.length / rowBytes;
  if (!Number.isInteger(rows) || firstRow + rows > matrix.rows) {
    raise(
      SQLSTATE.dataCorrupted,
      `tensor ${info.name} has ${matrix.rows} rows of ${rowBytes} bytes, a tile at row ${firstRow} has ${bytes.length} bytes`,
    );
  }
  if (matrix.layout === 'q8' && QUANTIZED.has(info.type)) {
    arena.u8.set(bytes, staging);
    const blocks = (rows * cols) / BLOCK;
    const first = (firstRow * cols) / BLOCK;
    const q = matrix.weights + first * BLOCK;
    const s = matrix.scales + first * 4;
    if (info.type === 'Q8_0') kernels.repackQ8_0(staging, q, s, blocks);
    else if (info.type === 'Q4_0') kernels.repackQ4_0(staging, q, s, blocks);
    else kernels.repackQ4_1(staging, q, s, matrix.mins + first * 4, blocks);
    requireFinite(arena, info, s, blocks, firstRow);
    if (matrix.mins !== 0) requireFinite(arena, info, matrix.mins + first * 4, blocks, firstRow);
    return;
  }
  const row = new Float32Array(cols);
  const rowStaging = staging + Math.ceil(bytes.length / 16) * 16;
  arena.u8.set(bytes, staging);
  for (let r = 0; r < rows; r++) {
    const to = matrix.layout === 'f32' ? matrix.weights + (firstRow + r) * stride * 4 : rowStaging;
    const from = staging + r * rowBytes;
    if (info.type === 'F16') kernels.widenF16(from, to, cols);
    else if (info.type === 'BF16') kernels.widenBF16(from, to, cols);
    else {
      dequantizeRow(info.type, bytes, r * rowBytes, row, cols);
      arena.f32.set(row, to / 4);
    }
    requireFinite(arena, info, to, cols, firstRow + r);
    if (matrix.layout === 'f32') {
      if (stride > cols) arena.f32.fill(0, to / 4 + cols, to / 4 + stride);
    } else {
      const at = (firstRow + r) * cols;
      kernels.roundQ8(to, matrix.weights + at, matrix.scales + (at / BLOCK) * 4, cols);
    }
  }
}

/** Refuse infinities and NaN: one of them would turn every later number of the model into NaN. */
function requireFinite(arena: Arena, info: TensorInfo, at: number, n: number, row: number): void {
  if (arena.kernels.allFinite(at, n) === 1) return;
  raise(SQLSTATE.dataCorrupted, `tensor ${info.name} has an infinite or undefined value at or after row ${row}`);
}

/** Bytes of a stored row of `cols` elements; a fraction where they are no whole number of blocks. */
export function rowByteLength(type: string, cols: number): number {
  const known = COMPUTABLE_TYPES.has(type) ? ggmlTypeByName(type) : undefined;
  if (known === undefined) raise(SQLSTATE.featureNotSupported, `tensor type ${type} is not supported`);
  return (cols / known.blockSize) * known.blockBytes;
}

/** Copy row `index` of the matrix as floats to address `to`. */
export function copyRow(arena: Arena, matrix: Matrix, index: number, to: number): void {
  const { stride } = matrix;
  if (matrix.layout === 'f32') {
    const from = matrix.weights / 4 + index * stride;
    arena.f32.copyWithin(to / 4, from, from + matrix.cols);
    return;
  }
  const block = (index * stride) / BLOCK;
  arena.kernels.expandQ8(
    matrix.weights + index * stride,
    matrix.scales + block * 4,
    matrix.mins === 0 ? 0 : matrix.mins + block * 4,
    to,
    stride,
  );
}
