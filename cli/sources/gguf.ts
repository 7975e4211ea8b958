/**
 * Bounded reader of GGUF headers, versions 2 and 3, little-endian.
 * Format: the GGUF page of ggml's documentation. Every count and length is checked against the bytes that the file still
 * has, and against the limits below, before memory is taken for it. Our own reader, because the npm package
 * @huggingface/gguf decodes every string as UTF-8, which loses the bytes of tokens that are not; a test compares the two.
 */
import { ggmlTypeById, rowBytes } from '../../plv8/src/format/ggml-types.ts';
import type { GgmlType } from '../../plv8/src/format/ggml-types.ts';
import { CommandError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { StringTable } from './string-table.ts';

const MAGIC = 'GGUF';
const DEFAULT_ALIGNMENT = 32;

/** A header is mostly vocabulary: 262,144 tokens with merges take about 15 MB. */
export const MAX_HEADER_BYTES = 128 << 20;
/** Real models have tens of keys. */
export const MAX_METADATA_KEYS = 4096;
/** The largest models known have a few thousand tensors. */
export const MAX_TENSORS = 65_536;
/** A merge list is at most twice the largest vocabulary known, 262,144. */
export const MAX_ARRAY_ELEMENTS = 4_194_304;
/** The specification's limit for keys. */
export const MAX_KEY_BYTES = 65_535;
/** ggml holds names in 64 bytes with a terminating zero; leave room for other writers. */
export const MAX_TENSOR_NAME_BYTES = 255;
/** ggml's GGML_MAX_DIMS. */
export const MAX_DIMS = 4;
/** The largest alignment anybody could want: a huge page. */
export const MAX_ALIGNMENT = 1 << 21;
/** Arrays of arrays are read this deep. */
export const MAX_ARRAY_DEPTH = 4;

export type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | StringTable | readonly GgufValue[];

export interface GgufTensor {
  name: string;
  type: GgmlType;
  /** Extents, the length of a row first. */
  shape: number[];
  rowCount: number;
  rowBytes: number;
  sizeBytes: number;
  /** First byte in the file. */
  offset: number;
}

export interface GgufHeader {
  version: number;
  alignment: number;
  metadata: Map<string, GgufValue>;
  /** In file order. */
  tensors: GgufTensor[];
  /** First byte of the tensor data. */
  dataOffset: number;
  fileSize: number;
}

/** Types of ggml that exist and are not read here, for the message. */
const OTHER_TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);

const enum ValueType {
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  F32,
  Bool,
  String,
  Array,
  U64,
  I64,
  F64,
}

/** Smallest number of bytes an element of each type takes in a file. */
const MIN_BYTES: readonly number[] = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

/** Read the header of an open file. Throws CommandError with one line naming what is wrong and both values. */
export function readGgufHeader(fd: number): GgufHeader {
  const reader = new ByteReader(fd, MAX_HEADER_BYTES);
  if (reader.fileSize < 24) throw new CommandError(`file has ${reader.fileSize} bytes, a GGUF header has at least 24`);
  const magic = reader.bytes(4, 'magic').toString('latin1');
  if (magic !== MAGIC) throw new CommandError(`file begins with ${JSON.stringify(magic)}, GGUF files with "GGUF"`);
  const version = reader.u32('version');
  if (version !== 2 && version !== 3) {
    const swapped = version !== 0 && (version & 0xffff) === 0;
    throw new CommandError(
      swapped
        ? 'file is big-endian GGUF, only little-endian is read'
        : `GGUF version is ${version}, versions 2 and 3 are read`,
    );
  }
  const tensorCount = boundedCount(reader.size('tensor count'), MAX_TENSORS, 'tensors');
  const keyCount = boundedCount(reader.size('metadata count'), MAX_METADATA_KEYS, 'metadata keys');
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = readString(reader, MAX_KEY_BYTES, `metadata key ${i}`);
    if (metadata.has(key)) throw new CommandError(`metadata key ${shown(key)} occurs twice`);
    metadata.set(key, readValue(reader, reader.u32(`type of ${shown(key)}`), shown(key), 0));
  }
  const alignment = readAlignment(metadata);
  const infos = readTensorInfos(reader, tensorCount);
  const dataOffset = Math.ceil(reader.position / alignment) * alignment;
  const tensors = infos.map((info) => placeTensor(info, alignment, dataOffset, reader.fileSize));
  refuseOverlaps(tensors);
  return { version, alignment, metadata, tensors, dataOffset, fileSize: reader.fileSize };
}

/** A name as a message shows it: short and on one line. */
function shown(name: string): string {
  const plain = /^[\x21-\x7e]+$/.test(name) ? name : JSON.stringify(name);
  return plain.length > 80 ? `${plain.slice(0, 77)}...` : plain;
}

function boundedCount(count: number, most: number, what: string): number {
  if (count > most) throw new CommandError(`header counts ${count} ${what}, at most ${most} are read`);
  return count;
}

function readString(reader: ByteReader, most: number, what: string): string {
  const bytes = reader.size(`length of ${what}`);
  if (bytes > most) throw new CommandError(`${what} has ${bytes} bytes, at most ${most} are read`);
  return reader.bytes(bytes, what).toString('utf8');
}

function readValue(reader: ByteReader, type: number, what: string, depth: number): GgufValue {
  switch (type) {
    case ValueType.U8:
      return reader.u8(what);
    case ValueType.I8:
      return reader.i8(what);
    case ValueType.U16:
      return reader.u16(what);
    case ValueType.I16:
      return reader.i16(what);
    case ValueType.U32:
      return reader.u32(what);
    case ValueType.I32:
      return reader.i32(what);
    case ValueType.F32:
      return reader.f32(what);
    case ValueType.F64:
      return reader.f64(what);
    case ValueType.U64:
      return narrow(reader.u64(what));
    case ValueType.I64:
      return narrow(reader.i64(what));
    case ValueType.Bool: {
      const value = reader.u8(what);
      if (value > 1) throw new CommandError(`metadata ${what} is a bool of value ${value}`);
      return value === 1;
    }
    case ValueType.String:
      return readString(reader, MAX_HEADER_BYTES, `metadata ${what}`);
    case ValueType.Array:
      return readArray(reader, what, depth);
    default:
      throw new CommandError(`metadata ${what} has value type ${type}, types 0 to 12 exist`);
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readArray(reader: ByteReader, what: string, depth: number): GgufValue {
  if (depth >= MAX_ARRAY_DEPTH) throw new CommandError(`metadata ${what} nests arrays deeper than ${MAX_ARRAY_DEPTH}`);
  const type = reader.u32(`element type of ${what}`);
  const length = reader.size(`length of ${what}`);
  const minBytes = MIN_BYTES[type];
  if (minBytes === undefined) throw new CommandError(`metadata ${what} has element type ${type}, types 0 to 12 exist`);
  if (length > MAX_ARRAY_ELEMENTS) {
    throw new CommandError(`metadata ${what} has ${length} elements, at most ${MAX_ARRAY_ELEMENTS} are read`);
  }
  reader.need(length * minBytes, `metadata ${what}`);
  if (type === ValueType.String) return readStrings(reader, length, what);
  const values = new Array<GgufValue>(length);
  for (let i = 0; i < length; i++) values[i] = readValue(reader, type, what, depth + 1);
  return values;
}

function readStrings(reader: ByteReader, length: number, what: string): StringTable {
  const builder = StringTable.builder(length);
  for (let i = 0; i < length; i++) {
    const bytes = reader.size(`length of ${what}[${i}]`);
    reader.need(bytes, `metadata ${what}[${i}]`);
    const room = builder.reserve(bytes);
    reader.bytesInto(room.data, room.offset, bytes, what);
  }
  return builder.finish();
}

function readAlignment(metadata: Map<string, GgufValue>): number {
  const value = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  if (
    typeof value !== 'number' ||
    !Number.isInteger(value) ||
    value < 1 ||
    value > MAX_ALIGNMENT ||
    (value & (value - 1)) !== 0
  ) {
    const given = typeof value === 'object' ? 'an array' : String(value);
    throw new CommandError(`general.alignment is ${given}, a power of two up to ${MAX_ALIGNMENT} is needed`);
  }
  return value;
}

interface TensorInfo {
  name: string;
  typeId: number;
  shape: number[];
  /** Relative to the tensor data. */
  offset: number;
}

function readTensorInfos(reader: ByteReader, count: number): TensorInfo[] {
  const infos: TensorInfo[] = [];
  const names = new Set<string>();
  for (let i = 0; i < count; i++) {
    const name = readString(reader, MAX_TENSOR_NAME_BYTES, `name of tensor ${i}`);
    if (name === '' || name.includes('\0')) throw new CommandError(`tensor ${i} has the name ${JSON.stringify(name)}`);
    if (names.has(name)) throw new CommandError(`tensor ${shown(name)} occurs twice`);
    names.add(name);
    const what = `tensor ${shown(name)}`;
    const dims = reader.u32(`dimensions of ${what}`);
    if (dims < 1 || dims > MAX_DIMS)
      throw new CommandError(`${what} has ${dims} dimensions, 1 to ${MAX_DIMS} are read`);
    const shape: number[] = [];
    for (let d = 0; d < dims; d++) {
      const extent = reader.size(`shape of ${what}`);
      if (extent < 1) throw new CommandError(`${what} has extent ${extent} in dimension ${d + 1}`);
      shape.push(extent);
    }
    infos.push({ name, shape, typeId: reader.u32(`type of ${what}`), offset: reader.size(`offset of ${what}`) });
  }
  return infos;
}

function placeTensor(info: TensorInfo, alignment: number, dataOffset: number, fileSize: number): GgufTensor {
  const what = `tensor ${shown(info.name)}`;
  const type = ggmlTypeById(info.typeId);
  if (type === undefined) {
    const known = OTHER_TYPE_NAMES.get(info.typeId);
    throw new CommandError(`${what} has type ${known ?? info.typeId}, which is not supported`);
  }
  const rowLength = info.shape[0] as number;
  const bytesPerRow = rowBytes(type, rowLength);
  if (bytesPerRow === undefined) {
    throw new CommandError(`${what} has rows of ${rowLength} elements, ${type.name} has blocks of ${type.blockSize}`);
  }
  let rowCount = 1;
  for (const extent of info.shape.slice(1)) {
    rowCount *= extent;
    // Checked at every factor, so that the product never leaves the exact integers.
    if (rowCount > fileSize)
      throw new CommandError(`${what} has shape ${info.shape.join(' x ')}, file has ${fileSize} bytes`);
  }
  if (info.offset % alignment !== 0) {
    throw new CommandError(`${what} begins at offset ${info.offset}, not a multiple of the alignment ${alignment}`);
  }
  const sizeBytes = rowCount * bytesPerRow;
  const offset = dataOffset + info.offset;
  if (offset + sizeBytes > fileSize) {
    throw new CommandError(`${what} needs bytes ${offset} to ${offset + sizeBytes}, file has ${fileSize}`, {
      hint: 'the file is damaged or was not downloaded completely',
    });
  }
  return { name: info.name, type, shape: info.shape, rowCount, rowBytes: bytesPerRow, sizeBytes, offset };
}

function refuseOverlaps(tensors: readonly GgufTensor[]): void {
  const inOrder = [...tensors].sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < inOrder.length; i++) {
    const before = inOrder[i - 1] as GgufTensor;
    const tensor = inOrder[i] as GgufTensor;
    if (before.offset + before.sizeBytes > tensor.offset) {
      throw new CommandError(
        `tensor ${shown(tensor.name)} begins at byte ${tensor.offset}, inside tensor ${shown(before.name)} which ends at ${before.offset + before.sizeBytes}`,
      );
    }
  }
}
