/** Pieces of a GGUF header: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
import { readFileSync } from 'node:fs';

const enum Type {
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
}

/** Bytes of a value by type; strings and arrays carry their lengths. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function entry(key: string, type: Type, value: Buffer): Buffer {
  return Buffer.concat([string(key), u32(type), value]);
}

function array(key: string, type: Type, length: number, elements: Buffer): Buffer {
  return entry(key, Type.Array, Buffer.concat([u32(type), u64(length), elements]));
}

export function text(key: string, value: string): Buffer {
  return entry(key, Type.String, string(value));
}

export function integer(key: string, value: number): Buffer {
  return entry(key, Type.U32, u32(value));
}

export function float(key: string, value: number): Buffer {
  return entry(key, Type.F32, Buffer.from(Float32Array.of(value).buffer));
}

export function boolean(key: string, value: boolean): Buffer {
  return entry(key, Type.Bool, Buffer.of(value ? 1 : 0));
}

export function texts(key: string, values: readonly string[]): Buffer {
  return array(key, Type.String, values.length, Buffer.concat(values.map(string)));
}

export function integers(key: string, values: Int32Array): Buffer {
  return array(key, Type.I32, values.length, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
}

export function tensorInfo(name: string, dims: readonly number[], type: number, offset: number): Buffer {
  return Buffer.concat([string(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);
}

export function header(entries: readonly Buffer[], infos: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from('GGUF'), u32(3), u64(infos.length), u64(entries.length), ...entries, ...infos]);
}

/** The entries of a GGUF file whose keys begin with `prefix`, as they stand there. */
export function copiedKeys(path: string, prefix: string): Buffer[] {
  const bytes = readFileSync(path);
  const length = (at: number): number => Number(bytes.readBigUInt64LE(at));
  /** First byte after a value of `type`. */
  const after = (at: number, type: number): number => {
    if (type === (Type.String as number)) return at + 8 + length(at);
    if (type !== (Type.Array as number)) return at + SIZES[type]!;
    const element = bytes.readUInt32LE(at);
    let end = at + 12;
    for (let left = length(at + 4); left > 0; left--) end = after(end, element);
    return end;
  };
  const found: Buffer[] = [];
  let at = 24; // magic, version, number of tensors and of keys
  for (let left = length(16); left > 0; left--) {
    const keyEnd = at + 8 + length(at);
    const end = after(keyEnd + 4, bytes.readUInt32LE(keyEnd));
    if (bytes.toString('utf8', at + 8, keyEnd).startsWith(prefix)) found.push(bytes.subarray(at, end));
    at = end;
  }
  return found;
}
