/** What distinguishes one architecture from another; a new one is one more file beside llama.ts. */
export interface Architecture {
  /** `general.architecture` of the file. */
  readonly name: string;
  /** Pairs that RoPE rotates: neighbours (2i, 2i + 1), or halves (i, i + d / 2). */
  readonly ropeLayout: 'neighbours' | 'halves';
  /** Every head of Q and K is normalised before RoPE (attn_q_norm, attn_k_norm). */
  readonly headNorms?: boolean;
  /** One tensor attn_qkv holds the rows of Q, K and V, and one tensor ffn_up those of gate and up. */
  readonly fused?: boolean;
  /** The context ends where the stated sliding window does: within it, a window changes nothing. */
  readonly contextWithinWindow?: boolean;
}
