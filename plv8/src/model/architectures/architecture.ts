/**
 * What distinguishes one architecture from another, in declarations: which tensors a layer has and what is computed
 * with them. A new architecture is one more file beside llama.ts and its line in registry.ts. Tensors are named as
 * GGUF names them, without `blk.N.` and `.weight`.
 */
import type { ArchitectureName } from '../../format/architecture-names.ts';

export interface Architecture {
  /** `general.architecture` of the file. */
  readonly name: ArchitectureName;
  /** A decoder writes token after token; an encoder reads a whole text in both directions and has no logits. */
  readonly kind: 'decoder' | 'encoder';
  /** `rms` scales by the root mean square (weight); `layer` also subtracts the mean (weight and bias). */
  readonly norm: 'rms' | 'layer';
  readonly norms: LayerNorms;
  /** False where nothing normalises the residual stream after the last layer (output_norm). */
  readonly finalNorm?: false;
  /** Every head of Q and K is normalised before RoPE (attn_q_norm, attn_k_norm). */
  readonly headNorms?: boolean;
  /** Three tensors attn_q, attn_k and attn_v, or the rows of all in one tensor attn_qkv. */
  readonly queryKeyValue: 'separate' | 'fused';
  /** Whether the matrices of a layer must have biases; where it is not said they are taken where the file has them. */
  readonly biases?: 'all' | 'optional';
  /**
   * down(activation(gate) * up) with tensors ffn_gate and ffn_up; the same with the rows of both in ffn_up, gate first;
   * or down(activation(up)).
   */
  readonly feedForward: 'gated' | 'gated-fused' | 'plain';
  /** GELU in its tanh form; a plain network has no other. */
  readonly activation: 'silu' | 'gelu';
  /** Pairs that RoPE rotates: neighbours (2i, 2i + 1), or halves (i, i + d / 2); null for no rotation. */
  readonly rope: 'neighbours' | 'halves' | null;
  /** A learned vector is added for each position (position_embd). */
  readonly learnedPositions?: boolean;
  /** The first row of token_types is added to every embedding. */
  readonly tokenTypes?: boolean;
  /** The sum of a token's embeddings is normalised before the first layer (token_embd_norm). */
  readonly embeddingNorm?: boolean;
  /** Some layers' feed-forward networks are experts, of which each token takes the likeliest (expert_count). */
  readonly experts?: boolean;
  /** Embeddings go through the matrices dense_2 and dense_3, where the file has them. */
  readonly denseHeads?: boolean;
  /** May hold a classifier (cls, cls.output) of the first token's state, or of the last one's. */
  readonly classifier?: 'first' | 'last';
  /** Token embeddings are multiplied by the square root of their width. */
  readonly scaledEmbeddings?: boolean;
  /** Bounds of attention scores and of logits, by tanh, where the file states none. */
  readonly softcaps?: { readonly attention: number; readonly logits: number };
  /** Layers whose attention reaches back over the file's sliding window only. */
  readonly windows?: Windows;
  /** Tokens without an embedding that a vocabulary may end with; nobody writes them. */
  readonly surplusTokens?: number;
  /** May rotate sequences beyond the original context by factors of their own (LongRoPE). */
  readonly longFactors?: boolean;
  /** Less than a whole head may be rotated (rope.dimension_count). */
  readonly partialRotation?: boolean;
  /** Other names of metadata keys: key that is read -> as some files spell it. */
  readonly keyAliases?: Readonly<Record<string, string>>;
  /** What its makers mean where a file leaves a key out and GGUF would mean something else. */
  readonly keyDefaults?: Readonly<Record<string, number>>;
  /** Models of so many layers with a window divide positions by this where their files say nothing. */
  readonly linearScaleByDepth?: Readonly<Record<number, number>>;
  /** Models of so many layers bound no logits, whatever their files say. */
  readonly uncappedDepth?: number;
  /** Models of so many layers divide scores by the root of dim / nHeads instead of the head size's; files do not say. */
  readonly widthScaledDepth?: number;
}

/** Places where a layer has norms, each with the name of its tensor. */
export interface LayerNorms {
  /** Of what goes into attention, and into the feed-forward network. */
  readonly attentionInput?: string;
  readonly feedForwardInput?: string;
  /** Of what comes out of them, before it is added to the residual stream. */
  readonly attentionOutput?: string;
  readonly feedForwardOutput?: string;
  /** Of the residual stream after that. */
  readonly attentionSum?: string;
  readonly feedForwardSum?: string;
}

export interface Windows {
  /** Every so manieth layer sees everything; absent where the window is for all layers. */
  readonly fullEvery?: number;
  /** The window reaches half as far into the future as into the past; of encoders. */
  readonly symmetric?: true;
  /** RoPE base of the windowed layers; absent for that of the others. */
  readonly ropeBase?: number;
}

/** Norms before attention and before the feed-forward network, as in most decoders. */
export const INPUT_NORMS: LayerNorms = { attentionInput: 'attn_norm', feedForwardInput: 'ffn_norm' };
