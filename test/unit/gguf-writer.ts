/** Writes small GGUF files for tests, well-formed or damaged in a stated way. */
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface WrittenTensor {
  name: string;
  shape: (number | bigint)[];
  type: number;
  /** Offset in the tensor data. */
  offset: number | bigint;
}

export interface WrittenFile {
  magic?: string;
  version?: number;
  /** Encoded key-value pairs. */
  metadata?: Buffer[];
  tensors?: WrittenTensor[];
  tensorCount?: bigint;
  metadataCount?: bigint;
  dataBytes?: number;
  /** Tensor data; `dataBytes` ones by default. */
  data?: Buffer;
}

export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

export function u64(value: number | bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}

export function string(text: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** A key with a value of GGUF type `type`, already encoded. */
export function pair(key: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([string(key), u32(type), value]);
}

export function stringPair(key: string, text: string): Buffer {
  return pair(key, 8, string(text));
}

export function arrayPair(
  key: string,
  elementType: number,
  elements: Buffer[],
  length: number | bigint = elements.length,
): Buffer {
  return pair(key, 9, Buffer.concat([u32(elementType), u64(length), ...elements]));
}

/** One pair of every value type, and a vocabulary of two tokens. */
export function usualMetadata(): Buffer[] {
  return [
    stringPair('general.architecture', 'llama'),
    pair('u8', 0, Buffer.from([200])),
    pair('i8', 1, Buffer.from([200])),
    pair('u16', 2, Buffer.from([1, 2])),
    pair('i16', 3, Buffer.from([0xff, 0xff])),
    pair('llama.block_count', 4, u32(1)),
    pair('i32', 5, u32(0xffffffff)),
    pair('f32', 6, Buffer.from([0, 0, 0x80, 0x3f])),
    pair('bool', 7, Buffer.from([1])),
    pair('u64', 10, u64(1n << 60n)),
    pair('i64', 11, u64((1n << 64n) - 5n)),
    pair('f64', 12, Buffer.from([0, 0, 0, 0, 0, 0, 0xf0, 0x3f])),
    arrayPair('tokenizer.ggml.tokens', 8, [string('a'), string('b')]),
    arrayPair('numbers', 4, [u32(7), u32(8)]),
  ];
}

export function ggufBytes(file: WrittenFile): Buffer {
  const metadata = file.metadata ?? usualMetadata();
  const tensors = file.tensors ?? [
    { name: 'token_embd.weight', shape: [8, 2], type: 0, offset: 0 },
    { name: 'blk.0.attn_q.weight', shape: [32, 2], type: 8, offset: 64 },
  ];
  const infos = tensors.map(({ name, shape, type, offset }) =>
    Buffer.concat([string(name), u32(shape.length), ...shape.map(u64), u32(type), u64(offset)]),
  );
  const header = Buffer.concat([
    Buffer.from(file.magic ?? 'GGUF', 'latin1'),
    u32(file.version ?? 3),
    u64(file.tensorCount ?? tensors.length),
    u64(file.metadataCount ?? metadata.length),
    ...metadata,
    ...infos,
  ]);
  const padding = Buffer.alloc((32 - (header.length % 32)) % 32);
  return Buffer.concat([header, padding, file.data ?? Buffer.alloc(file.dataBytes ?? 160, 1)]);
}

/** How the elements of tensors are written: GGUF's id of the type, bytes, and a writer. */
export interface ElementType {
  id: number;
  bytes: number;
  write(data: Buffer, value: number, at: number): void;
}

const F32: ElementType = { id: 0, bytes: 4, write: (data, value, at) => void data.writeFloatLE(value, at) };

/** A complete llama of one layer, its weights taken from `weight(i)`; two tokens unless told otherwise, embeddings for `vocab`. */
export function llamaBytes(
  shape: { dim: number; hidden: number; vocab: number },
  weight: (i: number) => number,
  type: ElementType = F32,
  { tokens = ['a', 'aa'], more = [] }: { tokens?: string[]; more?: Buffer[] } = {},
): Buffer {
  const { dim, hidden, vocab } = shape;
  const shapes: Record<string, number[]> = {
    'token_embd.weight': [dim, vocab],
    'output_norm.weight': [dim],
    'blk.0.attn_norm.weight': [dim],
    'blk.0.attn_q.weight': [dim, dim],
    'blk.0.attn_k.weight': [dim, dim],
    'blk.0.attn_v.weight': [dim, dim],
    'blk.0.attn_output.weight': [dim, dim],
    'blk.0.ffn_norm.weight': [dim],
    'blk.0.ffn_gate.weight': [dim, hidden],
    'blk.0.ffn_up.weight': [dim, hidden],
    'blk.0.ffn_down.weight': [hidden, dim],
  };
  const tensors: WrittenTensor[] = [];
  let offset = 0;
  for (const [name, extents] of Object.entries(shapes)) {
    tensors.push({ name, shape: extents, type: type.id, offset });
    offset += Math.ceil((extents.reduce((a, b) => a * b, 1) * type.bytes) / 32) * 32;
  }
  const data = Buffer.alloc(offset);
  for (let i = 0; i < offset / type.bytes; i++) type.write(data, weight(i), i * type.bytes);
  const metadata = [
    stringPair('general.architecture', 'llama'),
    pair('llama.block_count', 4, u32(1)),
    pair('llama.embedding_length', 4, u32(dim)),
    pair('llama.feed_forward_length', 4, u32(hidden)),
    pair('llama.attention.head_count', 4, u32(1)),
    pair('llama.context_length', 4, u32(64)),
    pair('llama.attention.layer_norm_rms_epsilon', 6, Buffer.from(Float32Array.of(1e-5).buffer)),
    stringPair('tokenizer.ggml.model', 'gpt2'),
    stringPair('tokenizer.ggml.pre', 'gpt-2'),
    arrayPair('tokenizer.ggml.tokens', 8, tokens.map(string)),
    arrayPair('tokenizer.ggml.merges', 8, [string('a a')]),
    ...more,
  ];
  return ggufBytes({ metadata, tensors, data });
}

/** A folder for files of one test file. */
export class FileFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'hartonomous-test-'));
  private count = 0;

  write(bytes: Buffer, name = `file-${this.count++}.gguf`): string {
    const path = join(this.path, name);
    writeFileSync(path, bytes);
    return path;
  }

  open(bytes: Buffer): number {
    return openSync(this.write(bytes, 'open.gguf'), 'r');
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
