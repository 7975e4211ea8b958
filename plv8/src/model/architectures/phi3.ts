import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/** Phi 3, 3.5 and Phi 4 mini. */
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
  longFactors: true,
  partialRotation: true,
};
