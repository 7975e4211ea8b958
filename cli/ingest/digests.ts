import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import type { GgufHeader } from '../sources/gguf.ts';

const BUFFER_BYTES = 4 << 20;

export interface Digests {
  file: Buffer;
  /** SHA-256 of each tensor's bytes, by place in the header. */
  tensors: Buffer[];
}

/** Hash the whole file and every tensor in one sequential pass. */
export function hashFile(fd: number, header: GgufHeader, onBytes: (done: number) => void): Digests {
  const file = createHash('sha256');
  const hashes = header.tensors.map(() => createHash('sha256'));
  const order = header.tensors
    .map((tensor, index) => ({ tensor, index }))
    .sort((a, b) => a.tensor.offset - b.tensor.offset);
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  let first = 0;
  for (let at = 0; at < header.fileSize;) {
    const n = readSync(fd, buffer, 0, Math.min(BUFFER_BYTES, header.fileSize - at), at);
    if (n === 0) break;
    file.update(buffer.subarray(0, n));
    while (first < order.length && order[first]!.tensor.offset + order[first]!.tensor.sizeBytes <= at) first++;
    for (let i = first; i < order.length && order[i]!.tensor.offset < at + n; i++) {
      const { tensor, index } = order[i]!;
      const from = Math.max(tensor.offset, at) - at;
      const to = Math.min(tensor.offset + tensor.sizeBytes, at + n) - at;
      if (to > from) hashes[index]!.update(buffer.subarray(from, to));
    }
    at += n;
    onBytes(at);
  }
  return { file: file.digest(), tensors: hashes.map((hash) => hash.digest()) };
}
