import type { Architecture } from './architecture.ts';

/** Llama 2 and 3, TinyLlama, Mistral, SmolLM2: GGUF stores their Q and K rows permuted for neighbouring pairs. */
export const llama: Architecture = { name: 'llama', ropeLayout: 'neighbours' };
