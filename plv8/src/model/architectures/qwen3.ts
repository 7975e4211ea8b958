import type { Architecture } from './architecture.ts';
import { qwen2 } from './qwen2.ts';

/** Qwen 3, dense: normalised heads instead of biases on Q, K and V. */
export const qwen3: Architecture = { ...qwen2, name: 'qwen3', headNorms: true, classifier: 'last' };
