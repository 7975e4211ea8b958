import type { Architecture } from './architecture.ts';
import { bert } from './bert.ts';

/** Nomic Embed v2: BERT that rotates queries and keys, whose every other layer has experts (moe_every_n_layers). */
export const nomicBertMoe: Architecture = {
  ...bert,
  name: 'nomic-bert-moe',
  queryKeyValue: 'fused',
  biases: 'optional',
  rope: 'halves',
  learnedPositions: false,
  experts: true,
};
