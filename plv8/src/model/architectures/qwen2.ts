import type { Architecture } from './architecture.ts';

/** Qwen 2 and 2.5: biases on Q, K and V. */
export const qwen2: Architecture = { name: 'qwen2', ropeLayout: 'halves' };
