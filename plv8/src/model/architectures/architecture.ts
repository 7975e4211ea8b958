/** What distinguishes one architecture from another; a new one is one more file beside llama.ts. */
export interface Architecture {
  /** `general.architecture` of the file. */
  readonly name: string;
  /** Pairs that RoPE rotates: neighbours (2i, 2i + 1), or halves (i, i + d / 2). */
  readonly ropeLayout: 'neighbours' | 'halves';
}
