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
  /** Every head of Q and K is normalised before RoPE (attn_q_norm, attn_k_norm). */
  readonly headNorms?: boolean;
  /** Three tensors attn_q, attn_k and attn_v, or the rows of all in one tensor attn_qkv. */
  readonly queryKeyValue: 'separate' | 'fused';
  /** Which matrices of a layer must have biases; of the others they are taken where the file has them. */
  readonly biases?: 'all';
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
  /** Token embeddings are multiplied by the square root of their width. */
  readonly scaledEmbeddings?: boolean;
  /** Bounds of attention scores and of logits, by tanh, where the file states none. */
  readonly softcaps?: { readonly attention: number; readonly logits: number };
  /** Layers whose attention reaches back over the file's sliding window only. */
  readonly windows?: Windows;
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
  /** RoPE base of the windowed layers; absent for that of the others. */
  readonly ropeBase?: number;
}

/** Norms before attention and before the feed-forward network, as in most decoders. */
export const INPUT_NORMS: LayerNorms = { attentionInput: 'attn_norm', feedForwardInput: 'ffn_norm' };
