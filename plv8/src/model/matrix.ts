/**
 * A weight matrix in WebAssembly memory in the layout its kernel reads: `f32` row-major, or integers with rows in eights ("octs",
 * kernels/assembly/layout.ts) of 4, 5, 6 or 8 bits (`q4` to `q8`), with the scales and minimums of their type.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { ggmlTypeByName } from '../format/ggml-types.ts';
import type { Form } from '../kernels/form.ts';
import { formNumber, octBytes, SUPER_COLS } from '../kernels/form.ts';
import type { Kernels } from '../kernels/load.ts';
import { kernelBuild } from '../kernels/load.ts';
import type { Arena } from './arena.ts';
import { dequantizeRow } from './dequantize.ts';
import type { TensorInfo } from './source.ts';

const BLOCK = 32;

export type Layout = 'f32' | 'q4' | 'q5' | 'q6' | 'q8';

/** How the integers of a quantised type are held, and how its blocks are taken apart. */
interface IntegerForm extends Form {
  /** Fill row-major integers, scales, minimums and super scales from `blocks` blocks at address src. */
  unpack(kernels: Kernels, src: number, to: IntegerPlaces, blocks: number): void;
}

interface IntegerPlaces {
  integers: number;
  scales: number;
  mins: number;
  supers: number;
}

function form(
  bits: Form['bits'],
  scales: Form['scales'],
  unpack: IntegerForm['unpack'],
  other: Partial<Form> = {},
): IntegerForm {
  return { bits, scales, offset: 0, hasMinimums: false, scaleCols: 32, unpack, ...other };
}

/** Floats rounded to 8 bits. */
const ROUNDED: Form = { bits: 8, scales: 'floats', offset: 0, hasMinimums: false, scaleCols: 32 };
const MINIMUMS = { hasMinimums: true };

/**
 * Q2_K is not here: its minimums stand for 16 columns each, which no kernel has; it is held as floats. IQ4_XS and Q3_K have no
 * form of so few bits.
 */
const INTEGER_FORMS: ReadonlyMap<string, IntegerForm> = new Map([
  ['Q8_0', form(8, 'halves', (k, src, to, n) => k.repackQ8_0(src, to.integers, to.scales, n))],
  ['Q4_0', form(4, 'halves', (k, src, to, n) => k.repackQ4_0(src, to.integers, to.scales, n), { offset: 8 })],
  ['Q4_1', form(4, 'halves', (k, src, to, n) => k.repackQ4_1(src, to.integers, to.scales, to.mins, n), MINIMUMS)],
  ['Q5_0', form(5, 'halves', (k, src, to, n) => k.repackQ5_0(src, to.integers, to.scales, n), { offset: 16 })],
  ['Q5_1', form(5, 'halves', (k, src, to, n) => k.repackQ5_1(src, to.integers, to.scales, to.mins, n), MINIMUMS)],
  ['IQ4_NL', form(8, 'halves', (k, src, to, n) => k.repackIQ4_NL(src, to.integers, to.scales, n))],
  ['IQ4_XS', form(8, 'floats', (k, src, to, n) => k.repackIQ4_XS(src, to.integers, to.scales, n))],
  [
    'Q4_K',
    form(4, 'super', (k, src, to, n) => k.repackQ4_K(src, to.integers, to.scales, to.mins, to.supers, n), MINIMUMS),
  ],
  [
    'Q5_K',
    form(5, 'super', (k, src, to, n) => k.repackQ5_K(src, to.integers, to.scales, to.mins, to.supers, n), MINIMUMS),
  ],
  [
    'Q6_K',
    form(6, 'super', (k, src, to, n) => k.repackQ6_K(src, to.integers, to.scales, to.supers, n), {
      offset: 32,
      scaleCols: 16,
    }),
  ],
  ['Q3_K', form(8, 'floats', (k, src, to, n) => k.repackQ3_K(src, to.integers, to.scales, n), { scaleCols: 16 })],
]);

export interface Matrix {
  readonly info: TensorInfo;
  readonly layout: Layout;
  readonly rows: number;
  /** Row length of the stored tensor. */
  readonly cols: number;
  /** Row length in memory: cols, rounded up to a multiple of 4 for f32. */
  readonly stride: number;
  /** How its integers are held; null for f32. */
  readonly form: Form | null;
  /** Which of the model's memories holds it. */
  readonly memory: number;
  /** Address of the floats or the first oct. */
  weights: number;
}

/**
 * Bits in which a form's integers are held. Of 5 and 6 bits only the host's own kernels make much: in WebAssembly taking them apart
 * costs more time than their bytes save, so there they are held in 8.
 */
function heldBits({ bits }: Form): Form['bits'] {
  return (bits === 5 || bits === 6) && kernelBuild() !== 'native' ? 8 : bits;
}

/** How a layout holds a type's integers. */
function formOf(type: string, layout: Layout): Form | null {
  if (layout === 'f32') return null;
  const known = INTEGER_FORMS.get(type);
  if (known === undefined) return ROUNDED;
  return layout === 'q8' && known.bits !== 8 ? { ...known, bits: 8, offset: 0 } : known;
}

/** Layout that a tensor takes: its own integers, or floats, or floats rounded to q8. */
export function layoutOf(info: TensorInfo, precision: { floats: 'f32' | 'q8'; integers: boolean }): Layout {
  if (ggmlTypeByName(info.type) === undefined)
    raise(SQLSTATE.featureNotSupported, `tensor ${info.name} has type ${info.type}, which is not supported`);
  const known = INTEGER_FORMS.get(info.type);
  if (known !== undefined) return precision.integers ? `q${heldBits(known)}` : 'f32';
  return precision.floats === 'q8' && (info.shape[0] ?? 0) % BLOCK === 0 ? 'q8' : 'f32';
}

/** Bytes of a tensor in a layout; rows are filled up to a multiple of eight in the integer layouts. */
export function matrixBytes(info: TensorInfo, layout: Layout): number {
  const matrix = unplacedMatrix(info, layout);
  if (matrix.form === null) return matrix.rows * matrix.stride * 4;
  return Math.ceil(matrix.rows / 8) * octBytes(matrix.form, matrix.cols);
}

/** A matrix that has no place yet: its address is 0. */
export function unplacedMatrix(info: TensorInfo, layout: Layout, memory = 0): Matrix {
  const cols = info.shape[0] ?? 0;
  const rows = info.shape.slice(1).reduce((product, size) => product * size, 1);
  const stride = layout === 'f32' ? Math.ceil(cols / 4) * 4 : cols;
  return { info, layout, rows, cols, stride, form: formOf(info.type, layout), memory, weights: 0 };
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

/** Address of the oct that holds a row; not for f32. */
function octAt(matrix: Matrix, row: number): number {
  return matrix.weights + (row >>> 3) * octBytes(matrix.form!, matrix.cols);
}

/** A vector from its element `first` on, in the same memory. */
export function elementsFrom(vector: Matrix, first: number): Matrix {
  return { ...vector, weights: vector.weights + first * 4 };
}

/** Room that `fillMatrix` needs for a tile of `bytes` bytes of rows of `cols` elements of a type. */
export function stagingBytes(type: string, bytes: number, cols: number): number {
  const rows = Math.ceil(bytes / rowByteLength(type, cols));
  const scales = Math.ceil(cols / (INTEGER_FORMS.get(type)?.scaleCols ?? BLOCK));
  // The tile itself; integers, scales, minimums and super scales row by row, these as floats as well; one row of floats.
  const supers = 3 * align(Math.ceil((rows * cols) / SUPER_COLS) * 4);
  return align(bytes) + align(rows * cols) + 2 * align(rows * scales * 4) + supers + align(cols * 4) + 16;
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
  const { info, cols, weights } = matrix;
  const form = matrix.form!;
  const nScales = (rows * cols) / form.scaleCols;
  const integers = staging + align(bytes.length);
  const scales = integers + align(rows * cols);
  const mins = scales + align(nScales * 4);
  const supers = mins + align(nScales * 4);
  const nSupers = (2 * rows * cols) / SUPER_COLS;
  const known = INTEGER_FORMS.get(info.type);
  if (known !== undefined) {
    const blockBytes = ggmlTypeByName(info.type)!.blockBytes;
    known.unpack(kernels, staging, { integers, scales, mins, supers }, bytes.length / blockBytes);
    if (known.offset !== form.offset) kernels.lowerBytes(integers, rows * cols, known.offset);
  } else {
    const row = mins + align(nScales * 4);
    const rowBytes = rowByteLength(info.type, cols);
    for (let r = 0; r < rows; r++) {
      floatRow(arena, info, bytes, staging, r * rowBytes, row);
      requireFinite(arena, info, row, cols, firstRow + r);
      kernels.roundQ8(row, integers + r * cols, scales + ((r * cols) / BLOCK) * 4, cols);
    }
  }
  if (form.scales === 'super') {
    const floats = supers + align(nSupers * 2);
    kernels.widenF16(supers, floats, nSupers);
    requireFinite(arena, info, floats, nSupers, firstRow);
  } else {
    requireFinite(arena, info, scales, nScales, firstRow);
    if (form.hasMinimums) requireFinite(arena, info, mins, nScales, firstRow);
  }
  kernels.interleave(integers, scales, mins, supers, weights, formNumber(form), firstRow, rows, cols);
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
  const { stride, cols, form } = matrix;
  if (form === null) arena.kernels.copyFloats(matrix.weights + index * stride * 4, to, cols);
  else arena.kernels.expand(octAt(matrix, index), formNumber(form), to, cols, index & 7);
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
  const oct = octAt(matrix, firstRow);
  const { quants, scales, sums, scaledSums } = x;
  const form = formNumber(matrix.form!);
  arena.kernels.matmulIntegers(oct, form, quants, scales, sums, scaledSums, out, rows, matrix.cols, tokens, outStride);
}

/** All rows of several integer matrices of as many columns in one call; for kernels that have matmulTogether. */
export function multiplyTogether(
  { kernels }: Arena,
  matrices: readonly Matrix[],
  x: QuantizedActivations,
  tokens: number,
  outs: readonly number[],
): void {
  const { quants, scales, sums, scaledSums } = x;
  const each = matrices.flatMap((matrix, i) => [
    octAt(matrix, 0),
    formNumber(matrix.form!),
    outs[i]!,
    matrix.rows,
    matrix.rows * 4,
  ]);
  kernels.matmulTogether!(quants, scales, sums, scaledSums, matrices[0]!.cols, tokens, ...each);
}
