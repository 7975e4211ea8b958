/**
 * Where test models are. What our own scripts made lies in test/golden/models; stories260k and tinystories-656k, which
 * they did not make, are read from ../shared/models beside the repository and are skipped where that is absent.
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

/** Those of `names` (with `ending` added) that are here; missing ones are counted and printed, and an error under CI. */
export function availableModels(names: readonly string[], ending = '.gguf'): string[] {
  const here = names.filter((name) => existsSync(modelPath(name + ending)));
  const missing = names.length - here.length;
  if (missing > 0) {
    if (process.env.CI)
      throw new Error(`${missing} test models are missing: ../shared/models is not beside the repository`);
    console.log(`skipped ${missing} of ${names.length} test models: ../shared/models is not beside the repository`);
  }
  return here;
}
