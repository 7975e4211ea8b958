/** Files of the zoo with more metadata, or for longer texts, as make-long-goldens.py reads them. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { readGgufHeader } from '../../cli/sources/gguf.ts';
import { arrayPair, ggufBytes, pair, string, stringPair, u32 } from '../unit/gguf-writer.ts';
import { modelPath } from './model-files.ts';

/** Keys without tokenizer. or general. in front are those of the file's architecture; null takes one away. */
export type MoreKeys = Readonly<Record<string, string | number | boolean | readonly (number | boolean)[] | null>>;

/** Floats among the numbers; the others are u32, in lists i32. */
const FLOATS = /(factor|freq_base|scale_linear|softcapping)$/;
const POSITIONS = 'position_embd.weight';
const LONGER_CONTEXT = 2048;
/** In front of a text. */
const LENGTH_BYTES = 8;
/** Magic, version and both counts. */
const FIXED_BYTES = 24;

const flag = (value: unknown): Buffer => Buffer.of(value === true ? 1 : 0);

function encodedPair(key: string, value: NonNullable<MoreKeys[string]>): Buffer {
  if (typeof value === 'string') return stringPair(key, value);
  if (typeof value === 'boolean') return pair(key, 7, flag(value));
  if (typeof value !== 'number') {
    const flags = typeof value[0] === 'boolean';
    return arrayPair(
      key,
      flags ? 7 : 5,
      value.map((each) => (flags ? flag(each) : u32(Number(each)))),
    );
  }
  return FLOATS.test(key) ? pair(key, 6, Buffer.from(Float32Array.of(value).buffer)) : pair(key, 4, u32(value));
}

/** Rows of learned positions from `first` on, (LONGER_CONTEXT - first, dim). */
function positions(first: number, dim: number): Buffer {
  const rows = new Float32Array((LONGER_CONTEXT - first) * dim);
  rows.forEach((_, at) => {
    const p = first + Math.floor(at / dim);
    const i = at % dim;
    rows[at] = (((31 * p + 17 * i + p * i) % 101) - 50) / 128;
  });
  return Buffer.from(rows.buffer);
}

/** A file of the zoo with more keys, which take the place of its own; `longer` makes its context one of 2,048 tokens. */
export function zooFile(name: string, more: MoreKeys, longer = false): Buffer {
  const path = modelPath(`zoo/${name}.gguf`);
  const bytes = readFileSync(path);
  const file = openSync(path, 'r');
  const header = readGgufHeader(file);
  closeSync(file);
  const architecture = String(header.metadata.get('general.architecture'));
  if (longer) {
    const context = string(`${architecture}.context_length`);
    bytes.writeUInt32LE(LONGER_CONTEXT, bytes.indexOf(context) + context.length + 4);
  }
  const { name: firstName, shape } = header.tensors[0]!;
  const metadataEnd = bytes.indexOf(Buffer.concat([string(firstName), u32(shape.length)]), FIXED_BYTES);
  const added = Object.entries(more).flatMap(([key, value]) => {
    const whole = /^(tokenizer|general)\./.test(key) ? key : `${architecture}.${key}`;
    // Under another name of the same length the file's own is nobody's.
    if (header.metadata.has(whole)) bytes.write('x', bytes.indexOf(string(whole)) + LENGTH_BYTES);
    return value === null ? [] : [encodedPair(whole, value)];
  });
  let data = bytes.subarray(header.dataOffset);
  const tensors = header.tensors.map(({ name: tensor, shape: given, type, offset, sizeBytes }) => {
    const plain = { name: tensor, shape: given, type: type.id, offset: offset - header.dataOffset };
    if (!longer || tensor !== POSITIONS) return plain;
    const [dim, rows] = given as [number, number];
    const all = Buffer.concat([bytes.subarray(offset, offset + sizeBytes), positions(rows, dim)]);
    const at = Math.ceil(data.length / header.alignment) * header.alignment;
    data = Buffer.concat([data, Buffer.alloc(at - data.length), all]);
    return { ...plain, shape: [dim, LONGER_CONTEXT], offset: at };
  });
  return ggufBytes({
    metadata: [bytes.subarray(FIXED_BYTES, metadataEnd), ...added],
    metadataCount: BigInt(header.metadata.size + added.length),
    tensors,
    data,
  });
}
