import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/**
 * Llama 2 and 3, TinyLlama, Mistral, SmolLM2: GGUF stores their Q and K rows permuted for neighbouring pairs. The
 * window is Mistral's, where the file states one.
 */
export const llama: Architecture = {
  name: 'llama',
  kind: 'decoder',
  norm: 'rms',
  norms: INPUT_NORMS,
  queryKeyValue: 'separate',
  feedForward: 'gated',
  activation: 'silu',
  partialRotation: true,
  rope: 'neighbours',
  windows: {},
  longFactors: true,
};
