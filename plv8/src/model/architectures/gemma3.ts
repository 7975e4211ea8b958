import type { Architecture } from './architecture.ts';
import { gemma2 } from './gemma2.ts';

/** Gemma 3, text: normalised heads instead of soft caps; five windowed layers, with a RoPE base of their own, to a full one. */
export const gemma3: Architecture = {
  ...gemma2,
  name: 'gemma3',
  headNorms: true,
  softcaps: { attention: 0, logits: 0 },
  windows: { fullEvery: 6, ropeBase: 10_000 },
  widthScaledDepth: 62,
};
