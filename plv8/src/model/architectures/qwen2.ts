import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/** Qwen 2 and 2.5: biases on Q, K and V. */
export const qwen2: Architecture = {
  name: 'qwen2',
  kind: 'decoder',
  norm: 'rms',
  norms: INPUT_NORMS,
  queryKeyValue: 'separate',
  feedForward: 'gated',
  activation: 'silu',
  rope: 'halves',
};
