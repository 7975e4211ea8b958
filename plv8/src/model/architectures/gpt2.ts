import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/** GPT-2: learned positions, biases everywhere, a plain feed-forward network. */
export const gpt2: Architecture = {
  name: 'gpt2',
  kind: 'decoder',
  norm: 'layer',
  norms: INPUT_NORMS,
  queryKeyValue: 'fused',
  biases: 'all',
  feedForward: 'plain',
  activation: 'gelu',
  rope: null,
  learnedPositions: true,
};
