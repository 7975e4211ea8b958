import type { Architecture } from './architecture.ts';
import { gemma3 } from './gemma3.ts';

/** EmbeddingGemma: Gemma 3 that reads in both directions, its mean taken through two matrices more. */
export const gemmaEmbedding: Architecture = {
  ...gemma3,
  name: 'gemma-embedding',
  kind: 'encoder',
  windows: { fullEvery: 6, ropeBase: 10_000, symmetric: true },
  denseHeads: true,
};
