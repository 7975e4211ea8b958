/** Splits a GGUF file as llama.cpp's gguf-split does: all metadata in the first part, tensors in order over all parts. */
import { writeFileSync, mkdtempSync, openSync, closeSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readGgufHeader } from '../../cli/sources/gguf.ts';
import type { GgufHeader } from '../../cli/sources/gguf.ts';
import { ggufBytes, pair, u32 } from './gguf-writer.ts';

export function headerOf(bytes: Buffer): GgufHeader {
  const folder = mkdtempSync(join(tmpdir(), 'hartonomous-split-'));
  writeFileSync(join(folder, 'whole'), bytes);
  const fd = openSync(join(folder, 'whole'), 'r');
  try {
    return readGgufHeader(fd);
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

/** First byte after the metadata: the first tensor's name begins there with its length. */
function metadataEnd(bytes: Buffer, first: string): number {
  const name = Buffer.alloc(8 + first.length);
  name.writeBigUInt64LE(BigInt(first.length));
  name.write(first, 8);
  return bytes.indexOf(name);
}

const FIXED_HEADER_BYTES = 24;
const PADDING = 32;

export function splitGguf(bytes: Buffer, parts: number): Buffer[] {
  const header = headerOf(bytes);
  const metadata = bytes.subarray(FIXED_HEADER_BYTES, metadataEnd(bytes, header.tensors[0]!.name));
  const perPart = Math.ceil(header.tensors.length / parts);
  return Array.from({ length: parts }, (_, part) => {
    const tensors = header.tensors.slice(part * perPart, (part + 1) * perPart);
    const split = [
      pair('split.no', 2, Buffer.from([part, 0])),
      pair('split.count', 2, Buffer.from([parts, 0])),
      pair('split.tensors.count', 5, u32(header.tensors.length)),
    ];
    let offset = 0;
    const infos = tensors.map((tensor) => {
      const info = { name: tensor.name, shape: tensor.shape, type: tensor.type.id, offset };
      offset += Math.ceil(tensor.sizeBytes / PADDING) * PADDING;
      return info;
    });
    const data = Buffer.alloc(offset);
    tensors.forEach((tensor, i) => bytes.copy(data, infos[i]!.offset, tensor.offset, tensor.offset + tensor.sizeBytes));
    return ggufBytes({
      metadata: part === 0 ? [metadata, ...split] : split,
      metadataCount: BigInt(part === 0 ? header.metadata.size + split.length : split.length),
      tensors: infos,
      data,
    });
  });
}
