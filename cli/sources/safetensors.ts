/**
 * Bounded reader of SafeTensors headers: a 64-bit length, JSON of that length, then the tensors' bytes.
 * Format: https://github.com/huggingface/safetensors#format
 */
import { quoted } from '../../plv8/src/format/visible-text.ts';
import { ggmlTypeByName } from '../../plv8/src/format/ggml-types.ts';
import type { GgmlType } from '../../plv8/src/format/ggml-types.ts';
import { CommandError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';

/** Models with thousands of tensors have headers of a few hundred kilobytes. */
export const MAX_HEADER_BYTES = 16 << 20;
export const MAX_TENSORS = 65_536;
export const MAX_DIMS = 4;
const MAX_NAME_LENGTH = 255;
const LENGTH_BYTES = 8;

/** SafeTensors type names that are stored, which are ggml's too. */
const STORED_TYPES: ReadonlySet<string> = new Set(['F32', 'F16', 'BF16']);
/** Bytes of an element of types that are read over: buffers of indices that no forward pass needs. */
const OTHER_TYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ['BOOL', 1],
  ['U8', 1],
  ['I8', 1],
  ['F8_E4M3', 1],
  ['F8_E5M2', 1],
  ['I16', 2],
  ['U16', 2],
  ['I32', 4],
  ['U32', 4],
  ['I64', 8],
  ['U64', 8],
  ['F64', 8],
]);

export interface SafetensorsTensor {
  name: string;
  typeName: string;
  /** null for a type that is not stored. */
  type: GgmlType | null;
  /** Extents as the file has them: the length of a row last. */
  shape: number[];
  /** First byte in the file. */
  offset: number;
  sizeBytes: number;
}

function shown(name: string): string {
  const plain = /^[\x21-\x7e]+$/.test(name) ? name : JSON.stringify(name);
  return plain.length > 80 ? `${plain.slice(0, 77)}...` : plain;
}

/** Whole numbers from 0 on that a number holds exactly. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function readTensor(name: string, entry: unknown, dataOffset: number, fileSize: number): SafetensorsTensor {
  const what = `tensor ${shown(name)}`;
  if (name === '' || name.length > MAX_NAME_LENGTH || name.includes('\0'))
    throw new CommandError(`${what} has a name of ${name.length} characters, 1 to ${MAX_NAME_LENGTH} are read`);
  const {
    dtype,
    shape,
    data_offsets: place,
  } = (typeof entry === 'object' && entry !== null ? entry : {}) as {
    dtype?: unknown;
    shape?: unknown;
    data_offsets?: unknown;
  };
  if (typeof dtype !== 'string') throw new CommandError(`${what} has no dtype`);
  const type = STORED_TYPES.has(dtype) ? (ggmlTypeByName(dtype) ?? null) : null;
  const elementBytes = type?.blockBytes ?? OTHER_TYPE_BYTES.get(dtype);
  if (elementBytes === undefined) throw new CommandError(`${what} has type ${shown(dtype)}, which is not supported`);
  if (!Array.isArray(shape) || shape.length > MAX_DIMS || !shape.every(isCount))
    throw new CommandError(`${what} has no shape of at most ${MAX_DIMS} whole numbers`);
  if (!Array.isArray(place) || place.length !== 2 || !place.every(isCount))
    throw new CommandError(`${what} has no data_offsets of two whole numbers`);
  const [from, to] = place as [number, number];
  let elements = 1;
  for (const extent of shape as number[]) {
    elements *= extent;
    // Checked at every factor, so that the product never leaves the exact integers.
    if (elements > fileSize)
      throw new CommandError(`${what} has shape ${shape.join(' x ')}, file has ${fileSize} bytes`);
  }
  const sizeBytes = elements * elementBytes;
  if (to - from !== sizeBytes)
    throw new CommandError(
      `${what} has shape ${shape.join(' x ')} of ${sizeBytes} bytes, and data_offsets ${from} to ${to}`,
    );
  if (dataOffset + to > fileSize)
    throw new CommandError(`${what} needs bytes ${dataOffset + from} to ${dataOffset + to}, file has ${fileSize}`, {
      hint: 'the file is damaged or was not downloaded completely',
    });
  return { name, typeName: dtype, type, shape: shape as number[], offset: dataOffset + from, sizeBytes };
}

/** Tensors of an open file in file order. Throws CommandError with one line naming what is wrong and both values. */
export function readSafetensorsHeader(fd: number): SafetensorsTensor[] {
  const reader = new ByteReader(fd, MAX_HEADER_BYTES + LENGTH_BYTES);
  if (reader.fileSize < LENGTH_BYTES + 2)
    throw new CommandError(`file has ${reader.fileSize} bytes, a SafeTensors header has at least 10`);
  const length = reader.size('length of the header');
  if (length > MAX_HEADER_BYTES)
    throw new CommandError(`SafeTensors header has ${length} bytes, at most ${MAX_HEADER_BYTES} are read`);
  const header = parseObject(reader.bytes(length, 'header').toString('utf8'), 'SafeTensors header');
  const names = Object.keys(header).filter((name) => name !== '__metadata__');
  if (names.length > MAX_TENSORS)
    throw new CommandError(`header has ${names.length} tensors, at most ${MAX_TENSORS} are read`);
  const tensors = names
    .map((name) => readTensor(name, header[name], LENGTH_BYTES + length, reader.fileSize))
    .sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  for (let i = 1; i < tensors.length; i++) {
    const before = tensors[i - 1]!;
    const tensor = tensors[i]!;
    if (before.offset + before.sizeBytes > tensor.offset)
      throw new CommandError(
        `tensor ${shown(tensor.name)} begins at byte ${tensor.offset}, inside tensor ${shown(before.name)} which ends at ${before.offset + before.sizeBytes}`,
      );
  }
  return tensors;
}

/** A JSON value; the error says where the text is not one. */
export function parseValue(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new CommandError(`${what} is no JSON: ${quoted(reason).slice(1, -1)}`, { cause });
  }
}

/** A JSON object; throws as parseValue does. */
export function parseObject(text: string, what: string): Record<string, unknown> {
  const value = parseValue(text, what);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CommandError(`${what} is no JSON object`);
  return value as Record<string, unknown>;
}
