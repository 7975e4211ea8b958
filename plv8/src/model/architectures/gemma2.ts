import type { Architecture } from './architecture.ts';
import { INPUT_NORMS } from './architecture.ts';

/** Gemma 2: norms around attention and feed-forward network, soft caps, and a window on every other layer. */
export const gemma2: Architecture = {
  name: 'gemma2',
  kind: 'decoder',
  norm: 'rms',
  norms: { ...INPUT_NORMS, attentionOutput: 'post_attention_norm', feedForwardOutput: 'post_ffw_norm' },
  queryKeyValue: 'separate',
  feedForward: 'gated',
  activation: 'gelu',
  rope: 'halves',
  scaledEmbeddings: true,
  softcaps: { attention: 50, logits: 30 },
  windows: { fullEvery: 2 },
  widthScaledDepth: 46,
  keyDefaults: { 'attention.sliding_window': 4096 },
};
