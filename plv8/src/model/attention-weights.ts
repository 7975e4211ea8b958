/** The weights that a layer's attention gives, computed again from queries and keys for those who look at them. */
import type { Layers } from './layers.ts';
import { ATTENTION_OPS_PER_CALL, MOST_POSITIONS } from './layers.ts';
import type { Segment } from './packing.ts';

/** Of the tokens of a chunk, which belong to one sequence; good while the layer's queries stand where its attention left them. */
export class AttentionWeights {
  constructor(
    private readonly layers: Layers,
    private readonly layer: number,
    private readonly segment: Segment,
    private readonly poll: () => void,
  ) {}

  get tokens(): number {
    return this.segment.tokens;
  }

  /** Softmaxed weights (nHeads, position + 1) of the chunk's token `index`; 0 before the layer's window. */
  of(index: number): Float32Array {
    const { nHeads } = this.layers.config;
    const n = this.segment.position + index + 1;
    const weights = new Float32Array(nHeads * n);
    this.withRows(1, (at) => {
      const width = this.compute(index, 1, at);
      const { f32 } = this.layers.arena;
      for (let h = 0; h < nHeads; h++) {
        const row = at / 4 + h * width;
        weights.set(f32.subarray(row, row + n), h * n);
      }
    });
    return weights;
  }

  /** Call `visit` with the weights (position + 1) of every token of the chunk, averaged over heads; valid during the call. */
  averaged(visit: (index: number, mean: Float32Array) => void): void {
    const { segment, layers, poll } = this;
    const { nHeads, headSize } = layers.config;
    const ops = nHeads * headSize * (segment.position + segment.tokens);
    const most = Math.min(segment.tokens, Math.max(1, Math.floor(ATTENTION_OPS_PER_CALL / ops)));
    this.withRows(most, (at, mean) => {
      for (let first = 0; first < segment.tokens; first += most) {
        const tokens = Math.min(most, segment.tokens - first);
        const width = this.compute(first, tokens, at);
        layers.arena.kernels.meanOfHeads(at, mean, nHeads, width, tokens);
        for (let t = 0; t < tokens; t++) {
          const row = mean / 4 + t * width;
          visit(first + t, layers.arena.f32.subarray(row, row + segment.position + first + t + 1));
        }
        poll();
      }
    });
  }

  /** Call `use` with room for weights (tokens, nHeads, positions) and for a mean of them. */
  private withRows(tokens: number, use: (weights: number, mean: number) => void): void {
    const { layers, layer, segment } = this;
    const { nHeads } = layers.config;
    const rowBytes = widthOf(segment.position + segment.tokens) * tokens * 4;
    segment.cache.withRoom(layer, rowBytes * (nHeads + 1), (at) => use(at, at + nHeads * rowBytes));
  }

  /** Weights (tokens, nHeads, width) of tokens from `first` on, at address `out`; the width. */
  private compute(first: number, tokens: number, out: number): number {
    const { layers, layer, segment } = this;
    const { config, arena, buffers } = layers;
    const { nHeads, nKvHeads, headSize, attentionScale, attentionSoftcap, windows } = config;
    const { cache, row, position } = segment;
    const length = position + first + 1;
    arena.kernels.attentionWeights(
      buffers.q + (row + first) * nHeads * headSize * 4,
      cache.keysAt(layer),
      out,
      buffers.scores,
      nHeads,
      nKvHeads,
      headSize,
      length,
      nKvHeads * headSize * (cache.halves ? 2 : 4),
      attentionScale,
      attentionSoftcap,
      tokens,
      Math.min(windows[layer]!, MOST_POSITIONS),
      cache.halves ? 1 : 0,
    );
    return widthOf(length + tokens - 1);
  }
}

/** Floats of a row of weights of so many positions: whole vectors. */
function widthOf(positions: number): number {
  return Math.ceil(positions / 4) * 4;
}
