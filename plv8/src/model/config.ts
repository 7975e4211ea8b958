/** Hyper-parameters of a model, read from GGUF metadata and checked before anything is allocated. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Architecture, Windows } from './architectures/architecture.ts';
import { findArchitecture } from './architectures/registry.ts';
import { Metadata } from './metadata.ts';
import { checkKeys } from './metadata-keys.ts';
import type { RopeScaling } from './rope-scaling.ts';
import { readScaling } from './rope-scaling.ts';
import type { TensorInfo } from './source.ts';
import { quoted } from '../format/visible-text.ts';

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
  ropeScaling: RopeScaling;
  /** Tokens beyond which a sequence is rotated by factors of its own (rope_factors_long); null where there are none. */
  originalContext: number | null;
  /** Divisors of the RoPE frequencies (ropeDims / 2) that stand in the metadata; null for none. */
  ropeFactors: readonly number[] | null;
  /** (nLayers) positions that a layer's attention reaches back over, its own included; Infinity for all. */
  windows: readonly number[];
  /** What the products of queries and keys are multiplied by. */
  attentionScale: number;
  /** Bounds of attention scores and of logits, reached by tanh; 0 for none. */
  attentionSoftcap: number;
  logitSoftcap: number;
  /** The experts of every so manieth layer; null for none. */
  experts: { count: number; used: number; everyLayers: number } | null;
  /** What token embeddings are multiplied by. */
  embeddingScale: number;
  /** How a text's hidden states become its embedding; null where nothing says it. */
  pooling: Pooling | 'rank' | null;
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
  experts: 512,
  softcap: 10_000,
} as const;

const LONG_FACTORS = 'rope_factors_long.weight';

/** Read and check; throws naming the metadata key and its value. */
export function readConfig(name: string, meta: Record<string, unknown>, tensors: TensorInfo[]): ModelConfig {
  const declared = findArchitecture(meantArchitecture(name, tensors));
  const metadata = new Metadata(declared, meta, name);
  checkKeys(metadata);
  const architecture = withCausality(declared, metadata);

  const dim = metadata.integer('embedding_length', LIMITS.dim);
  const nLayers = metadata.integer('block_count', LIMITS.nLayers);
  const nHeads = metadata.integer('attention.head_count', LIMITS.nHeads);
  const nKvHeads = metadata.integer('attention.head_count_kv', LIMITS.nHeads, nHeads);
  const hiddenDim = metadata.integer('feed_forward_length', LIMITS.hiddenDim);
  const contextLength = metadata.integer('context_length', LIMITS.contextLength);
  if (nHeads % nKvHeads !== 0) {
    raise(SQLSTATE.dataCorrupted, `model has ${nHeads} heads and ${nKvHeads} key/value heads, which do not divide`);
  }
  if (metadata.value('attention.key_length') === undefined && dim % nHeads !== 0) {
    raise(SQLSTATE.dataCorrupted, `model has width ${dim} and ${nHeads} heads, which do not divide`);
  }
  const headSize = metadata.integer('attention.key_length', LIMITS.headSize, Math.floor(dim / nHeads));
  if (headSize % 4 !== 0)
    raise(
      SQLSTATE.featureNotSupported,
      `head size (${metadata.key('attention.key_length')}) ${headSize} is not a multiple of 4`,
    );
  if (metadata.integer('attention.value_length', LIMITS.headSize, headSize) !== headSize)
    metadata.unsupported('attention.value_length', `only that of the keys, ${headSize}, is computed`);
  if (metadata.integer('attention.head_dim', LIMITS.headSize, headSize) !== headSize)
    metadata.unsupported('attention.head_dim', `the head size (attention.key_length) is ${headSize}`);
  const ropeDims = readRotatedDims(metadata, headSize);
  const stretched = architecture.longFactors === true && tensors.some(({ name: each }) => each === LONG_FACTORS);
  const originalContext = stretched
    ? metadata.integer('rope.scaling.original_context_length', LIMITS.contextLength)
    : null;
  const { windows: windowed, softcaps = { attention: 0, logits: 0 } } = architecture;
  const window = readWindow(metadata, contextLength);
  const inWindow =
    windowed === undefined || window === 0
      ? new Array<boolean>(nLayers).fill(false)
      : windowedLayers(metadata.value('attention.sliding_window_pattern'), windowed, nLayers);
  if (architecture.kind === 'encoder' && inWindow.includes(true) && windowed?.symmetric !== true)
    metadata.unsupported(
      'attention.causal',
      `and ${metadata.key('attention.sliding_window')} ${window}: not both are computed`,
    );
  const windowRopeBase = window === 0 ? undefined : windowed?.ropeBase;
  const scaledWidth = nLayers === architecture.widthScaledDepth ? dim / nHeads : headSize;
  const logitSoftcap = metadata.optional('final_logit_softcapping', softcaps.logits, LIMITS.softcap);
  return {
    architecture: withLayout(architecture, meta['hartonomous.rope.layout']),
    dim,
    nLayers,
    nHeads,
    nKvHeads,
    headSize,
    hiddenDim,
    vocabSize: readVocabSize(metadata, tensors),
    contextLength,
    normEps: metadata.positive(`attention.layer_norm_${architecture.norm === 'rms' ? 'rms_' : ''}epsilon`),
    ropeBase: metadata.positive('rope.freq_base', 10000),
    windowRopeBase: windowRopeBase === undefined ? null : metadata.positive('rope.freq_base_swa', windowRopeBase),
    ropeDims,
    ropeScaling: readScaling(metadata, { nLayers, window, contextLength, originalContext }),
    originalContext,
    ropeFactors: readFactors(meta['hartonomous.rope.factors'], ropeDims / 2),
    windows: inWindow.map((is) => (is ? window : Infinity)),
    attentionScale: readAttentionScale(meta['hartonomous.attention.scale'], 1 / Math.sqrt(scaledWidth)),
    attentionSoftcap: metadata.optional('attn_logit_softcapping', softcaps.attention, LIMITS.softcap),
    logitSoftcap: nLayers === architecture.uncappedDepth ? 0 : logitSoftcap,
    experts: readExperts(metadata, hiddenDim),
    embeddingScale: architecture.scaledEmbeddings === true ? Math.sqrt(dim) : 1,
    pooling: readPooling(metadata),
    normalizedEmbeddings:
      meta['hartonomous.embedding.normalize'] !== false && metadata.flag('normalize_embeddings') !== false,
    embeddingTokens: Math.min(contextLength, Number(meta['hartonomous.embedding.max_tokens'] ?? contextLength)),
  };
}

/** Ollama's EmbeddingGemma calls itself gemma3. */
function meantArchitecture(name: string, tensors: readonly TensorInfo[]): string {
  return name === 'gemma3' && tensors.some((tensor) => tensor.name === 'dense_2.weight') ? 'gemma-embedding' : name;
}

/** A decoder whose tokens attend to all others reads texts only. */
function withCausality(architecture: Architecture, metadata: Metadata): Architecture {
  const causal = metadata.flag('attention.causal');
  if (causal === null || causal === (architecture.kind === 'decoder')) return architecture;
  if (causal) metadata.unsupported('attention.causal', 'an encoder attends in both directions');
  return { ...architecture, kind: 'encoder' };
}

function readRotatedDims(metadata: Metadata, headSize: number): number {
  const { architecture } = metadata;
  if (architecture.rope === null) return headSize;
  const dims = metadata.integer('rope.dimension_count', LIMITS.headSize, headSize);
  if (dims > headSize || dims % 2 !== 0) {
    raise(
      SQLSTATE.dataCorrupted,
      `model metadata ${metadata.key('rope.dimension_count')} is ${dims}, the head size (attention.key_length) is ${headSize}`,
    );
  }
  if (dims !== headSize && architecture.partialRotation !== true)
    metadata.unsupported('rope.dimension_count', `only the head size (attention.key_length), ${headSize}, is computed`);
  return dims;
}

/**
 * Tokens of the window, 0 for none. Files without a window say 0, or nothing, or at least the context; an encoder that was
 * trained with one has to say how long it is.
 */
function readWindow(metadata: Metadata, contextLength: number): number {
  const suffix = 'attention.sliding_window';
  if ((metadata.value(suffix) ?? 0) === 0 && metadata.architecture.windows?.symmetric !== true) return 0;
  const window = metadata.integer(suffix, LIMITS.contextLength);
  if (metadata.architecture.windows !== undefined) return window;
  if (window < contextLength)
    metadata.unsupported(suffix, `only a window of the whole context, ${contextLength}, is computed`);
  return 0;
}

/** Throws dataCorrupted where tokens have no embedding, but for those of pictures, which Ollama's converter left in Gemma 3. */
export function checkVocabularySize(name: string, { architecture, vocabSize }: ModelConfig, tokens: number): void {
  if (tokens <= vocabSize + (architecture.surplusTokens ?? 0)) return;
  raise(SQLSTATE.dataCorrupted, `model ${name} has ${tokens} tokens and embeddings for ${vocabSize}`);
}

function readExperts(metadata: Metadata, hiddenDim: number): ModelConfig['experts'] {
  if (metadata.architecture.experts !== true) return null;
  const everyLayers = metadata.integer('moe_every_n_layers', LIMITS.nLayers);
  const count = metadata.integer('expert_count', Math.min(LIMITS.experts, hiddenDim));
  return { count, used: metadata.integer('expert_used_count', count), everyLayers };
}

function readVocabSize(metadata: Metadata, tensors: readonly TensorInfo[]): number {
  const embedding = tensors.find((tensor) => tensor.name === 'token_embd.weight');
  if (embedding === undefined) raise(SQLSTATE.dataCorrupted, 'model has no tensor token_embd.weight');
  const rows = embedding.shape[1] ?? 0;
  if (rows < 1 || rows > LIMITS.vocabSize) {
    raise(SQLSTATE.dataCorrupted, `tensor token_embd.weight has ${rows} rows, expected 1 to ${LIMITS.vocabSize}`);
  }
  if (metadata.integer('vocab_size', LIMITS.vocabSize, rows) !== rows)
    metadata.unsupported('vocab_size', `tensor token_embd.weight has ${rows} rows`);
  return rows;
}

/**
 * (nLayers) whether a layer's attention has a window: by the file's pattern (a list, or the distance of two full
 * layers), else by the architecture's.
 */
function windowedLayers(stated: unknown, { fullEvery, symmetric }: Windows, nLayers: number): readonly boolean[] {
  if (Array.isArray(stated)) {
    if (stated.length !== nLayers || !stated.every((each) => typeof each === 'boolean')) {
      raise(
        SQLSTATE.dataCorrupted,
        `model metadata attention.sliding_window_pattern has ${stated.length} values, expected ${nLayers} of true or false`,
      );
    }
    return stated;
  }
  if (stated === 1)
    raise(SQLSTATE.featureNotSupported, 'model metadata attention.sliding_window_pattern is 1: no layer has a window');
  if (stated === 0 && symmetric === true)
    raise(
      SQLSTATE.featureNotSupported,
      'model metadata attention.sliding_window_pattern is 0: every layer has a window',
    );
  const period = typeof stated === 'number' && Number.isInteger(stated) ? stated || undefined : fullEvery;
  return Array.from({ length: nLayers }, (_, layer) => period === undefined || layer % period !== period - 1);
}

/** By GGUF's numbers, of which 0 is none and 4 that of a reranker; an encoder that says nothing takes the mean. */
function readPooling(metadata: Metadata): ModelConfig['pooling'] {
  const type = metadata.value('pooling_type') ?? null;
  if (type === null) return metadata.architecture.kind === 'encoder' ? 'mean' : null;
  const ranks = metadata.architecture.classifier !== undefined;
  const pooling = [null, ...POOLINGS, ...(ranks ? (['rank'] as const) : [])][Number(type)];
  if (pooling === undefined) metadata.unsupported('pooling_type', `only 0 to ${ranks ? 4 : 3} are computed`);
  return pooling;
}

/** Files of Hugging Face hold Q and K as they were trained: they rotate halves where GGUF's llama rotates neighbours. */
function withLayout(architecture: Architecture, layout: unknown): Architecture {
  if (layout === undefined) return architecture;
  if (layout === 'halves' || layout === 'neighbours') return { ...architecture, rope: layout };
  return raise(SQLSTATE.dataCorrupted, `model metadata hartonomous.rope.layout is ${quoted(layout)}`);
}

/** The factor of queries by keys that Hugging Face's Gemma states. */
function readAttentionScale(scale: unknown, otherwise: number): number {
  if (scale === undefined) return otherwise;
  if (typeof scale === 'number' && Number.isFinite(scale) && scale > 0) return scale;
  return raise(SQLSTATE.dataCorrupted, `model metadata hartonomous.attention.scale is ${quoted(scale)}`);
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
