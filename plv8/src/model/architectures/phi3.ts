import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/** Phi 3 without long-context RoPE factors: files that hold such factors are refused by the tensor's name. */
export const phi3: Architecture = {
  name: 'phi3',
  kind: 'decoder',
  norm: 'rms',
  norms: INPUT_NORMS,
  queryKeyValue: 'fused',
  feedForward: 'gated-fused',
  activation: 'silu',
  rope: 'halves',
  windows: {},
};
