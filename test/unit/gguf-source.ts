/** A GGUF file as a weight source. */
import { readFileSync } from 'node:fs';
import type { GgufModel } from './gguf-model.ts';
import { ggufModel } from './gguf-model.ts';

/** Read a whole GGUF v3 file. Throws on unknown value and tensor types. */
export function readGguf(path: string): GgufModel {
  const file = readFileSync(path);
  return ggufModel(new Uint8Array(file.buffer, file.byteOffset, file.byteLength));
}
