/** Hyper-parameters of a model, read from GGUF metadata and checked before anything is allocated. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Architecture } from './architectures/architecture.ts';
import { findArchitecture } from './architectures/registry.ts';
import type { TensorInfo } from './source.ts';

export interface ModelConfig {
  architecture: Architecture;
  /** Width of the residual stream. */
  dim: number;
  nLayers: number;
  nHeads: number;
  nKvHeads: number;
  /** Width of one head. */
  headSize: number;
  /** Width inside the feed-forward network. */
  hiddenDim: number;
  vocabSize: number;
  /** Longest context the model was trained for and the engine computes, in tokens. */
  contextLength: number;
  normEps: number;
  ropeBase: number;
  /** RoPE base of the layers with a window, which are not scaled; null where they rotate as the others do. */
  windowRopeBase: number | null;
  /** Leading dimensions of a head that are rotated. */
  ropeDims: number;
  /** Positions are divided by this (linear scaling); 1 for none. */
  ropeScale: number;
  /** Divisors of the RoPE frequencies (ropeDims / 2) that stand in the metadata; null for none. */
  ropeFactors: readonly number[] | null;
  /** (nLayers) positions that a layer's attention reaches back over, its own included; Infinity for all. */
  windows: readonly number[];
  /** What the products of queries and keys are multiplied by. */
  attentionScale: number;
  /** Bounds of attention scores and of logits, reached by tanh; 0 for none. */
  attentionSoftcap: number;
  logitSoftcap: number;
  /** What token embeddings are multiplied by. */
  embeddingScale: number;
  /** How a text's hidden states become its embedding; null where nothing says it. */
  pooling: Pooling | null;
  /** Whether embeddings are made to have length 1 unless a call says otherwise. */
  normalizedEmbeddings: boolean;
  /** Tokens of a text that its embedding sees. */
  embeddingTokens: number;
}

/** The mean of all hidden states, that of the first token, or that of the last. */
export type Pooling = 'mean' | 'cls' | 'last';
export const POOLINGS: readonly Pooling[] = ['mean', 'cls', 'last'];

/** Bounds of what a file may ask for; the largest published models of these architectures stay below. */
const LIMITS = {
  dim: 65_536,
  nLayers: 1_024,
  nHeads: 1_024,
  hiddenDim: 1_048_576,
  headSize: 1_024,
  contextLength: 16_777_216,
  vocabSize: 4_194_304,
} as const;

/** Read and check; throws naming the metadata key and its value. */
export function readConfig(name: string, meta: Record<string, unknown>, tensors: TensorInfo[]): ModelConfig {
  const architecture = findArchitecture(name);
  const key = (suffix: string): string => `${name}.${suffix}`;

  function integer(suffix: string, limit: number, otherwise?: number): number {
    const value = meta[key(suffix)] ?? otherwise;
    if (value === undefined) raise(SQLSTATE.dataCorrupted, `model metadata has no ${key(suffix)}`);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > limit) {
      raise(
        SQLSTATE.dataCorrupted,
        `model metadata ${key(suffix)} must be a whole number between 1 and ${limit}, got ${JSON.stringify(value)}`,
      );
    }
    return value;
  }

  function positive(suffix: string, otherwise: number): number {
    const value = meta[key(suffix)] ?? otherwise;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
      raise(
        SQLSTATE.dataCorrupted,
        `model metadata ${key(suffix)} must be a positive number, got ${JSON.stringify(value)}`,
      );
    }
    return value;
  }

  /** A number that may be 0, which means none. */
  function optional(suffix: string, otherwise: number): number {
    return (meta[key(suffix)] ?? otherwise) === 0 ? 0 : positive(suffix, otherwise);
  }

  const dim = integer('embedding_length', LIMITS.dim);
  const nLayers = integer('block_count', LIMITS.nLayers);
  const nHeads = integer('attention.head_count', LIMITS.nHeads);
  const nKvHeads = integer('attention.head_count_kv', LIMITS.nHeads, nHeads);
  const hiddenDim = integer('feed_forward_length', LIMITS.hiddenDim);
  const contextLength = integer('context_length', LIMITS.contextLength);
  if (nHeads % nKvHeads !== 0) {
    raise(SQLSTATE.dataCorrupted, `model has ${nHeads} heads and ${nKvHeads} key/value heads, which do not divide`);
  }
  if (meta[key('attention.key_length')] === undefined && dim % nHeads !== 0) {
    raise(SQLSTATE.dataCorrupted, `model has width ${dim} and ${nHeads} heads, which do not divide`);
  }
  const headSize = integer('attention.key_length', LIMITS.headSize, Math.floor(dim / nHeads));
  if (headSize % 4 !== 0) raise(SQLSTATE.featureNotSupported, `head size ${headSize} is not a multiple of 4`);
  const ropeDims = integer('rope.dimension_count', LIMITS.headSize, headSize);
  if (ropeDims > headSize || ropeDims % 2 !== 0) {
    raise(
      SQLSTATE.dataCorrupted,
      `model metadata ${key('rope.dimension_count')} is ${ropeDims}, the head size is ${headSize}`,
    );
  }
  const scaling = meta[key('rope.scaling.type')];
  if (scaling !== undefined && scaling !== 'none' && scaling !== 'linear') {
    raise(
      SQLSTATE.featureNotSupported,
      `rope scaling ${JSON.stringify(scaling)} is not supported, only none and linear`,
    );
  }
  const { windows: declared, softcaps = { attention: 0, logits: 0 } } = architecture;
  // Files without a window may say 0, or nothing.
  const statedWindow = meta[key('attention.sliding_window')] ?? 0;
  const window = statedWindow === 0 ? 0 : integer('attention.sliding_window', LIMITS.contextLength);
  const windowed =
    declared === undefined || window === 0
      ? new Array<boolean>(nLayers).fill(false)
      : windowedLayers(meta[key('attention.sliding_window_pattern')], declared.fullEvery, nLayers);
  const windowRopeBase = window === 0 ? undefined : declared?.ropeBase;
  const scaledWidth = nLayers === architecture.widthScaledDepth ? dim / nHeads : headSize;
  const embedding = tensors.find((tensor) => tensor.name === 'token_embd.weight');
  if (embedding === undefined) raise(SQLSTATE.dataCorrupted, 'model has no tensor token_embd.weight');
  const vocabSize = embedding.shape[1] ?? 0;
  if (vocabSize < 1 || vocabSize > LIMITS.vocabSize) {
    raise(SQLSTATE.dataCorrupted, `tensor token_embd.weight has ${vocabSize} rows, expected 1 to ${LIMITS.vocabSize}`);
  }
  return {
    architecture: withLayout(architecture, meta['hartonomous.rope.layout']),
    dim,
    nLayers,
    nHeads,
    nKvHeads,
    headSize,
    hiddenDim,
    vocabSize,
    contextLength,
    normEps: positive(`attention.layer_norm_${architecture.norm === 'rms' ? 'rms_' : ''}epsilon`, 1e-5),
    ropeBase: positive('rope.freq_base', 10000),
    windowRopeBase: windowRopeBase === undefined ? null : positive('rope.freq_base_swa', windowRopeBase),
    ropeDims,
    ropeScale: scaling === 'linear' ? positive('rope.scaling.factor', 1) : 1,
    ropeFactors: readFactors(meta['hartonomous.rope.factors'], ropeDims / 2),
    windows: windowed.map((is) => (is ? window : Infinity)),
    attentionScale: positive('attention.scale', 1 / Math.sqrt(scaledWidth)),
    attentionSoftcap: optional('attn_logit_softcapping', softcaps.attention),
    logitSoftcap: optional('final_logit_softcapping', softcaps.logits),
    embeddingScale: architecture.scaledEmbeddings === true ? Math.sqrt(dim) : 1,
    pooling: readPooling(meta[key('pooling_type')], architecture),
    normalizedEmbeddings: meta['hartonomous.embedding.normalize'] !== false,
    embeddingTokens: Math.min(contextLength, Number(meta['hartonomous.embedding.max_tokens'] ?? contextLength)),
  };
}

/**
 * (nLayers) whether a layer's attention has a window: by the file's pattern (a list, or the distance of two full
 * layers), else by the architecture's.
 */
function windowedLayers(stated: unknown, fullEvery: number | undefined, nLayers: number): readonly boolean[] {
  if (Array.isArray(stated)) {
    if (stated.length !== nLayers || !stated.every((each) => typeof each === 'boolean')) {
      raise(
        SQLSTATE.dataCorrupted,
        `model metadata attention.sliding_window_pattern has ${stated.length} values, expected ${nLayers} of true or false`,
      );
    }
    return stated;
  }
  const period = typeof stated === 'number' && Number.isInteger(stated) && stated > 0 ? stated : fullEvery;
  return Array.from({ length: nLayers }, (_, layer) => period === undefined || layer % period !== period - 1);
}

/** By GGUF's numbers, of which 0 is none and 4 that of a reranker; an encoder that says nothing takes the mean. */
function readPooling(type: unknown, architecture: Architecture): Pooling | null {
  if (type === undefined || type === null) return architecture.kind === 'encoder' ? 'mean' : null;
  return typeof type === 'number' ? (POOLINGS[type - 1] ?? null) : null;
}

/** Files of Hugging Face hold Q and K as they were trained: they rotate halves where GGUF's llama rotates neighbours. */
function withLayout(architecture: Architecture, layout: unknown): Architecture {
  if (layout === undefined) return architecture;
  if (layout === 'halves' || layout === 'neighbours') return { ...architecture, rope: layout };
  return raise(SQLSTATE.dataCorrupted, `model metadata hartonomous.rope.layout is ${JSON.stringify(layout)}`);
}

function readFactors(value: unknown, pairs: number): readonly number[] | null {
  if (value === undefined) return null;
  const factors = Array.isArray(value) ? (value as unknown[]) : [];
  if (factors.length !== pairs || !factors.every((each) => typeof each === 'number' && each > 0)) {
    raise(
      SQLSTATE.dataCorrupted,
      `model metadata hartonomous.rope.factors has ${factors.length} values, expected ${pairs} positive numbers`,
    );
  }
  return factors as number[];
}
