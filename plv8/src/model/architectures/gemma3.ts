import type { Architecture } from './architecture.ts';
import { gemma2 } from './gemma2.ts';

/**
 * Gemma 3, text: normalised heads instead of soft caps; five windowed layers, with a RoPE base of their own, to a full one.
 * Files that Ollama made spell the bases differently, leave the epsilon out, do not scale the positions of the larger
 * models, and bound the logits of the 1B model, which Google does not.
 */
export const gemma3: Architecture = {
  ...gemma2,
  name: 'gemma3',
  headNorms: true,
  softcaps: { attention: 0, logits: 0 },
  windows: { fullEvery: 6, ropeBase: 10_000 },
  widthScaledDepth: 62,
  keyAliases: { 'rope.freq_base': 'rope.global.freq_base', 'rope.freq_base_swa': 'rope.local.freq_base' },
  keyDefaults: { 'rope.freq_base': 1_000_000, 'attention.layer_norm_rms_epsilon': 1e-6 },
  linearScaleByDepth: { 34: 8, 48: 8, 62: 8 },
  uncappedDepth: 26,
  surplusTokens: 256,
};
