import type { Architecture } from './architecture.ts';

/** Phi 3 without long-context RoPE factors: files that hold such factors are refused by the tensor's name. */
export const phi3: Architecture = {
  name: 'phi3',
  ropeLayout: 'halves',
  fused: true,
  contextWithinWindow: true,
};
