/** The activations that a memory holds beside its layers' weights. */
import type { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';

/** Tokens that go through a layer of a decoder together: one pass over its weights serves them all. */
export const CHUNK_TOKENS = 32;
/** Those of an encoder, whose texts are there as a whole: kernels are called less often. */
const ENCODER_CHUNK_TOKENS = 128;
/** Sequences whose last tokens' logits are computed together. */
export const MAX_SEQUENCES = 16;
/** Tokens of several texts that an encoder takes together where its context is shorter. */
const MIN_ENCODER_TOKENS = 512;

/** Addresses of the activations of up to chunkTokens tokens; (tokens, width) floats unless said otherwise. */
export interface Buffers {
  /** (streamTokens, dim) residual stream: chunkTokens tokens of a decoder, all of an encoder */
  x: number;
  normed: number; // (tokens, dim)
  q: number; // (tokens, nHeads * headSize)
  /** (streamTokens, nKvHeads * headSize) of one layer; a decoder's go into the caches of their sequences */
  keys: number;
  values: number;
  attended: number; // (tokens, nHeads * headSize)
  projected: number; // (tokens, dim)
  gate: number; // (tokens, hiddenDim)
  up: number; // (tokens, hiddenDim)
  /**
   * (tokens, widest row) what one step needs for itself: activations of a matrix whose rows are padded, a row as floats
   */
  scratch: number;
  quants: number; // (tokens, widest row) int16; in the relaxed build their split form after them (assembly/activations.ts)
  quantScales: number; // (tokens, widest row / 32)
  quantSums: number; // (tokens, widest row / 32) int32
  quantScaledSums: number; // (tokens, widest row / 32)
  /** (128 + 2 * nHeads + 128 * headSize) what attention needs for itself: assembly/attention.ts */
  scores: number;
  /** Only in the memory that makes logits. */
  lasts: number; // (sequences, dim) residual stream of each sequence's last token
  logits: number; // (sequences, vocabSize)
}

/** Tokens that go through a layer together, at most. */
export function chunkTokens({ architecture }: ModelConfig): number {
  return architecture.kind === 'encoder' ? ENCODER_CHUNK_TOKENS : CHUNK_TOKENS;
}

/** Tokens whose residual stream is held at once. */
export function streamTokens(config: ModelConfig): number {
  return config.architecture.kind === 'encoder' ? Math.max(config.contextLength, MIN_ENCODER_TOKENS) : CHUNK_TOKENS;
}

function sizes(config: ModelConfig, logits: boolean): Record<keyof Buffers, number> {
  const widest = Math.max(config.dim, config.hiddenDim, config.nHeads * config.headSize);
  const wide = Math.ceil(widest / 32) * 32;
  const chunk = chunkTokens(config);
  const kvBytes = streamTokens(config) * config.nKvHeads * config.headSize * 4;
  return {
    x: streamTokens(config) * config.dim * 4,
    normed: chunk * config.dim * 4,
    q: chunk * config.nHeads * config.headSize * 4,
    keys: kvBytes,
    values: kvBytes,
    attended: chunk * config.nHeads * config.headSize * 4,
    projected: chunk * config.dim * 4,
    gate: chunk * config.hiddenDim * 4,
    up: chunk * config.hiddenDim * 4,
    scratch: chunk * wide * 4,
    quants: chunk * wide * 4,
    quantScales: (chunk * wide) / 8,
    quantSums: (chunk * wide) / 8,
    quantScaledSums: (chunk * wide) / 8,
    scores: (128 + 2 * config.nHeads + 128 * config.headSize) * 4,
    lasts: logits ? MAX_SEQUENCES * config.dim * 4 : 0,
    logits: logits ? MAX_SEQUENCES * config.vocabSize * 4 : 0,
  };
}

/** Bytes that `allocateBuffers` takes, at most. */
export function bufferBytes(config: ModelConfig, logits: boolean): number {
  return Object.values(sizes(config, logits)).reduce((sum, bytes) => sum + bytes + 16, 0);
}

export function allocateBuffers(arena: Arena, config: ModelConfig, logits: boolean): Buffers {
  const places = Object.entries(sizes(config, logits)).map(([name, bytes]) => [name, arena.allocate(bytes)]);
  return Object.fromEntries(places) as Buffers;
}
