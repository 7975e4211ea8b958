import type { Architecture } from './architecture.ts';

/** BERT, all-MiniLM, BGE: an encoder whose norms follow the sums. */
export const bert: Architecture = {
  name: 'bert',
  kind: 'encoder',
  norm: 'layer',
  norms: { attentionSum: 'attn_output_norm', feedForwardSum: 'layer_output_norm' },
  finalNorm: false,
  queryKeyValue: 'separate',
  biases: 'all',
  feedForward: 'plain',
  activation: 'gelu',
  rope: null,
  learnedPositions: true,
  tokenTypes: true,
  embeddingNorm: true,
  classifier: 'first',
};
