/**
 * A weight matrix in WebAssembly memory in the layout its kernel reads: `f32` row-major, or rows in eights ("octs", see
 * kernels/assembly/layout.ts) as `q8` or `q4`, with a scale and perhaps a minimum per block of 32.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { ggmlTypeByName } from '../format/ggml-types.ts';
import type { Kernels } from '../kernels/load.ts';
import type { Arena } from './arena.ts';
import { dequantizeRow } from './dequantize.ts';
import type { TensorInfo } from './source.ts';

const BLOCK = 32;

export type Layout = 'f32' | 'q8' | 'q4';

/** How the integers of a quantised type are held: exactly as they are stored. */
interface IntegerForm {
  layout: 'q8' | 'q4';
  /** What a held integer is above its weight. */
  offset: number;
  hasMinimums: boolean;
  /** Columns that share a scale. */
  scaleCols: 16 | 32;
  /** Fill row-major integers, scales and minimums from `blocks` blocks at address src. */
  unpack(kernels: Kernels, src: number, to: IntegerPlaces, blocks: number): void;
}

interface IntegerPlaces {
  integers: number;
  scales: number;
  mins: number;
}

function form(layout: 'q8' | 'q4', unpack: IntegerForm['unpack'], other: Partial<IntegerForm> = {}): IntegerForm {
  return { layout, offset: 0, hasMinimums: false, scaleCols: 32, unpack, ...other };
}

/** Q2_K is not here: its minimums stand for 16 columns each, which no kernel has; it is held as floats. */
const INTEGER_FORMS: ReadonlyMap<string, IntegerForm> = new Map([
  ['Q8_0', form('q8', (k, src, to, n) => k.repackQ8_0(src, to.integers, to.scales, n))],
  ['Q4_0', form('q4', (k, src, to, n) => k.repackQ4_0(src, to.integers, to.scales, n), { offset: 8 })],
  ['Q4_1', form('q4', (k, src, to, n) => k.repackQ4_1(src, to.integers, to.scales, to.mins, n), { hasMinimums: true })],
  ['Q5_0', form('q8', (k, src, to, n) => k.repackQ5_0(src, to.integers, to.scales, n))],
  ['Q5_1', form('q8', (k, src, to, n) => k.repackQ5_1(src, to.integers, to.scales, to.mins, n), { hasMinimums: true })],
  ['IQ4_NL', form('q8', (k, src, to, n) => k.repackIQ4_NL(src, to.integers, to.scales, n))],
  ['IQ4_XS', form('q8', (k, src, to, n) => k.repackIQ4_XS(src, to.integers, to.scales, n))],
  ['Q4_K', form('q4', (k, src, to, n) => k.repackQ4_K(src, to.integers, to.scales, to.mins, n), { hasMinimums: true })],
  ['Q5_K', form('q8', (k, src, to, n) => k.repackQ5_K(src, to.integers, to.scales, to.mins, n), { hasMinimums: true })],
  ['Q6_K', form('q8', (k, src, to, n) => k.repackQ6_K(src, to.integers, to.scales, n), { scaleCols: 16 })],
  ['Q3_K', form('q8', (k, src, to, n) => k.repackQ3_K(src, to.integers, to.scales, n), { scaleCols: 16 })],
]);

export interface Matrix {
  readonly info: TensorInfo;
  readonly layout: Layout;
  readonly rows: number;
  /** Row length of the stored tensor. */
  readonly cols: number;
  /** Row length in memory: cols, rounded up to a multiple of 4 for f32. */
  readonly stride: number;
  /** What a held integer is above its weight; q4 only. */
  readonly offset: number;
  /** Columns that share a scale, 32 or 16; q8 and q4 only. */
  readonly scaleCols: number;
  readonly hasMinimums: boolean;
  /** Which of the model's memories holds it. */
  readonly memory: number;
  /** Address of the floats or the first oct. */
  weights: number;
}

/** Layout that a tensor takes: its own integers, or floats, or floats rounded to q8. */
export function layoutOf(info: TensorInfo, precision: { floats: 'f32' | 'q8'; integers: boolean }): Layout {
  if (ggmlTypeByName(info.type) === undefined)
    raise(SQLSTATE.featureNotSupported, `tensor ${info.name} has type ${info.type}, which is not supported`);
  const known = INTEGER_FORMS.get(info.type);
  if (known !== undefined) return precision.integers ? known.layout : 'f32';
  return precision.floats === 'q8' && (info.shape[0] ?? 0) % BLOCK === 0 ? 'q8' : 'f32';
}

/** Bytes of eight rows with their scales and minimums; q8 and q4 only. */
function octBytes({ layout, cols, scaleCols, hasMinimums }: Omit<Matrix, 'weights'>): number {
  return cols * (layout === 'q4' ? 4 : 8) + (cols / scaleCols) * 32 + (hasMinimums ? cols : 0);
}

/** Bytes of a tensor in a layout; rows are filled up to a multiple of eight in the integer layouts. */
export function matrixBytes(info: TensorInfo, layout: Layout): number {
  const matrix = unplacedMatrix(info, layout);
  if (layout === 'f32') return matrix.rows * matrix.stride * 4;
  return Math.ceil(matrix.rows / 8) * octBytes(matrix);
}

/** A matrix that has no place yet: its address is 0. */
export function unplacedMatrix(info: TensorInfo, layout: Layout, memory = 0): Matrix {
  const cols = info.shape[0] ?? 0;
  const rows = info.shape.slice(1).reduce((product, size) => product * size, 1);
  const stride = layout === 'f32' ? Math.ceil(cols / 4) * 4 : cols;
  const known = layout === 'f32' ? undefined : INTEGER_FORMS.get(info.type);
  const offset = known?.offset ?? 0;
  const scaleCols = known?.scaleCols ?? BLOCK;
  const hasMinimums = known?.hasMinimums ?? false;
  return { info, layout, rows, cols, stride, offset, scaleCols, hasMinimums, memory, weights: 0 };
}

export function allocateMatrix(arena: Arena, info: TensorInfo, layout: Layout, memory = 0): Matrix {
  const matrix = unplacedMatrix(info, layout, memory);
  matrix.weights = arena.allocateWeights(matrixBytes(info, layout));
  return matrix;
}

/** Rows [firstRow, firstRow + rows) of a matrix as a matrix that shares its memory. Throws when they split an oct. */
export function rowsOf(matrix: Matrix, firstRow: number, rows: number): Matrix {
  const { info, layout, stride } = matrix;
  if (layout === 'f32') return { ...matrix, rows, weights: matrix.weights + firstRow * stride * 4 };
  if (firstRow % 8 !== 0) {
    raise(SQLSTATE.featureNotSupported, `tensor ${info.name} is divided at row ${firstRow}, which is no multiple of 8`);
  }
  return { ...matrix, rows, weights: octAt(matrix, firstRow) };
}

/** Address of the oct that holds a row. */
function octAt(matrix: Matrix, row: number): number {
  return matrix.weights + (row >>> 3) * octBytes(matrix);
}

/** A vector from its element `first` on, in the same memory. */
export function elementsFrom(vector: Matrix, first: number): Matrix {
  return { ...vector, weights: vector.weights + first * 4 };
}

/** Room that `fillMatrix` needs for a tile of `bytes` bytes of rows of `cols` elements of a type. */
export function stagingBytes(type: string, bytes: number, cols: number): number {
  const rows = Math.ceil(bytes / rowByteLength(type, cols));
  const scales = Math.ceil(cols / (INTEGER_FORMS.get(type)?.scaleCols ?? BLOCK));
  // The tile itself; integers, scales and minimums row by row; one row of floats.
  return align(bytes) + align(rows * cols) + 2 * align(rows * scales * 4) + align(cols * 4) + 16;
}

function align(bytes: number): number {
  return Math.ceil(bytes / 16) * 16;
}

/** Write a tile (whole rows from firstRow on) into its place; `staging` is an address with room for the tile. */
export function fillMatrix(arena: Arena, matrix: Matrix, firstRow: number, bytes: Uint8Array, staging: number): void {
  const { info, cols } = matrix;
  const rowBytes = rowByteLength(info.type, cols);
  const rows = bytes.length / rowBytes;
  if (!Number.isInteger(rows) || firstRow + rows > matrix.rows) {
    raise(
      SQLSTATE.dataCorrupted,
      `tensor ${info.name} has ${matrix.rows} rows of ${rowBytes} bytes, a tile at row ${firstRow} has ${bytes.length} bytes`,
    );
  }
  arena.u8.set(bytes, staging);
  if (matrix.layout === 'f32') fillFloats(arena, matrix, firstRow, rows, bytes, staging);
  else fillIntegers(arena, matrix, firstRow, rows, bytes, staging);
}

/** Rows as floats at `to`, `step` bytes apart; the tile stands in `bytes` and at address `staging`. */
function floatRow(
  arena: Arena,
  info: TensorInfo,
  bytes: Uint8Array,
  staging: number,
  offset: number,
  to: number,
): void {
  const cols = info.shape[0] ?? 0;
  if (info.type === 'F16') arena.kernels.widenF16(staging + offset, to, cols);
  else if (info.type === 'BF16') arena.kernels.widenBF16(staging + offset, to, cols);
  else dequantizeRow(info.type, bytes, offset, arena.f32.subarray(to / 4, to / 4 + cols), cols);
}

function fillFloats(
  arena: Arena,
  matrix: Matrix,
  firstRow: number,
  rows: number,
  bytes: Uint8Array,
  staging: number,
): void {
  const { info, cols, stride } = matrix;
  const rowBytes = rowByteLength(info.type, cols);
  for (let r = 0; r < rows; r++) {
    const to = matrix.weights + (firstRow + r) * stride * 4;
    floatRow(arena, info, bytes, staging, r * rowBytes, to);
    requireFinite(arena, info, to, cols, firstRow + r);
    if (stride > cols) arena.f32.fill(0, to / 4 + cols, to / 4 + stride);
  }
}

/** First the tile's integers, scales and minimums row by row, then into their places among the rows of eight. */
function fillIntegers(
  arena: Arena,
  matrix: Matrix,
  firstRow: number,
  rows: number,
  bytes: Uint8Array,
  staging: number,
): void {
  const { kernels } = arena;
  const { info, cols, scaleCols } = matrix;
  const nScales = (rows * cols) / scaleCols;
  const integers = staging + align(bytes.length);
  const scales = integers + align(rows * cols);
  const mins = scales + align(nScales * 4);
  const known = INTEGER_FORMS.get(info.type);
  if (known !== undefined) {
    const blockBytes = ggmlTypeByName(info.type)!.blockBytes;
    known.unpack(kernels, staging, { integers, scales, mins }, bytes.length / blockBytes);
  } else {
    const row = mins + align(nScales * 4);
    const rowBytes = rowByteLength(info.type, cols);
    for (let r = 0; r < rows; r++) {
      floatRow(arena, info, bytes, staging, r * rowBytes, row);
      requireFinite(arena, info, row, cols, firstRow + r);
      kernels.roundQ8(row, integers + r * cols, scales + ((r * cols) / BLOCK) * 4, cols);
    }
  }
  requireFinite(arena, info, scales, nScales, firstRow);
  const from = matrix.hasMinimums ? mins : 0;
  if (from !== 0) requireFinite(arena, info, from, nScales, firstRow);
  const { weights } = matrix;
  if (matrix.layout === 'q4') kernels.interleaveQ4(integers, scales, from, weights, firstRow, rows, cols);
  else kernels.interleaveQ8(integers, scales, from, weights, firstRow, rows, cols, scaleCols);
}

/** Refuse infinities and NaN: one of them would turn every later number of the model into NaN. */
function requireFinite(arena: Arena, info: TensorInfo, at: number, n: number, row: number): void {
  if (arena.kernels.allFinite(at, n) === 1) return;
  raise(SQLSTATE.dataCorrupted, `tensor ${info.name} has an infinite or undefined value at or after row ${row}`);
}

/** Bytes of a stored row of `cols` elements; a fraction where they are no whole number of blocks. */
export function rowByteLength(type: string, cols: number): number {
  const known = ggmlTypeByName(type);
  if (known === undefined) raise(SQLSTATE.featureNotSupported, `tensor type ${type} is not supported`);
  return (cols / known.blockSize) * known.blockBytes;
}

/** Copy row `index` of the matrix as floats to address `to`. */
export function copyRow(arena: Arena, matrix: Matrix, index: number, to: number): void {
  const { stride, cols, layout } = matrix;
  if (layout === 'f32') {
    arena.kernels.copyFloats(matrix.weights + index * stride * 4, to, cols);
    return;
  }
  const oct = octAt(matrix, index);
  if (layout === 'q4') arena.kernels.expandQ4(oct, matrix.hasMinimums, matrix.offset, to, cols, index & 7);
  else arena.kernels.expandQ8(oct, matrix.hasMinimums, to, cols, index & 7, matrix.scaleCols);
}

/** Activations of a product as quantizeActivations leaves them. */
export interface QuantizedActivations {
  quants: number;
  scales: number;
  sums: number;
  scaledSums: number;
}

/** out[t][row - firstRow] for `rows` rows from `firstRow` (a multiple of 8) on; outStride in bytes. */
export function multiplyIntegers(
  arena: Arena,
  matrix: Matrix,
  firstRow: number,
  rows: number,
  x: QuantizedActivations,
  tokens: number,
  out: number,
  outStride: number,
): void {
  const { cols, hasMinimums } = matrix;
  const oct = octAt(matrix, firstRow);
  const { kernels } = arena;
  const { quants, scales, sums, scaledSums } = x;
  if (matrix.layout === 'q4') {
    const { offset } = matrix;
    kernels.matmulQ4(oct, hasMinimums, offset, quants, scales, sums, scaledSums, out, rows, cols, tokens, outStride);
    return;
  }
  const { scaleCols } = matrix;
  kernels.matmulQ8(oct, hasMinimums, quants, scales, scaledSums, out, rows, cols, tokens, outStride, scaleCols);
}
