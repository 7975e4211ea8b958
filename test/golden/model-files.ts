/**
 * Where test models are. What our own scripts made lies in test/golden/models; stories260k and tinystories-656k, which
 * they did not make, are read from ../shared/models beside the repository, and what is compared with them is skipped
 * where that is absent. Tests that need just some model use llama-260k.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const COMMITTED = join(dirname(fileURLToPath(import.meta.url)), 'models');
const SHARED = join(COMMITTED, '../../../../shared/models');
const NOT_OURS = ['stories260k/', 'tinystories-656k/'];

/** A random decoder in F32 of every architecture. */
export const ZOO_DECODERS = [
  'zoo/llama-untied-gqa-f32',
  'zoo/llama32-ropefreqs-f32',
  'zoo/qwen2-tiny-f32',
  'zoo/qwen3-tiny-f32',
  'zoo/phi3-tiny-f32',
  'zoo/gemma2-tiny-f32',
  'zoo/gemma3-tiny-f32',
  'zoo/gpt2-tiny-f32',
];

/** Path of a model file, as `zoo/qwen2-tiny-f32.gguf`. */
export function modelPath(name: string): string {
  return join(NOT_OURS.some((folder) => name.startsWith(folder)) ? SHARED : COMMITTED, name);
}

/** Whether a model is here; false only for one that others made. */
export function isHere(name: string): boolean {
  if (existsSync(modelPath(`${name}.gguf`))) return true;
  if (NOT_OURS.some((folder) => name.startsWith(folder))) return false;
  throw new Error(`test model ${modelPath(`${name}.gguf`)} is missing`);
}
