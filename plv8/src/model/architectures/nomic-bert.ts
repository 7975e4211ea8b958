import type { Architecture } from './architecture.ts';
import { bert } from './bert.ts';

/** Nomic Embed v1 and v1.5: BERT that rotates queries and keys instead of learning positions, with a gated network. */
export const nomicBert: Architecture = {
  ...bert,
  name: 'nomic-bert',
  queryKeyValue: 'fused',
  biases: 'optional',
  feedForward: 'gated',
  activation: 'silu',
  rope: 'halves',
  learnedPositions: false,
  keyDefaults: { 'rope.freq_base': 1000 },
};
