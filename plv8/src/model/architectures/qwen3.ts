import type { Architecture } from './architecture.ts';

/** Qwen 3, dense: normalised heads instead of biases on Q, K and V. */
export const qwen3: Architecture = { name: 'qwen3', ropeLayout: 'halves', headNorms: true };
