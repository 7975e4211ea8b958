/**
 * A feed-forward network of experts (Shazeer et al., "Outrageously Large Neural Networks", 2017): each token goes through
 * the likeliest few by a router, its result is their sum weighted by the router's probabilities.
 */
import type { Arena } from './arena.ts';
import type { Buffers } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import type { Matrix } from './matrix.ts';
import { rowsOf } from './matrix.ts';

export interface Experts {
  /** (count, dim) */
  router: Matrix;
  /** (count * hiddenDim, dim): one expert's rows after the other's; as many of down (count * dim, hiddenDim) */
  up: Matrix;
  down: Matrix;
  count: number;
  /** Experts that a token goes through. */
  used: number;
}

/** What experts need of the layers that they stand in. */
interface Products {
  readonly config: ModelConfig;
  readonly arena: Arena;
  readonly buffers: Buffers;
  multiply(matrices: Matrix[], x: number, outs: number[], tokens: number, poll: () => void): void;
}

/** What the experts make of the tokens (tokens, dim) at `input`, into buffers.projected. */
export function multiplyExperts(
  layers: Products,
  experts: Experts,
  input: number,
  tokens: number,
  poll: () => void,
): void {
  const { arena, buffers } = layers;
  const { dim, hiddenDim } = layers.config;
  const width = dim * 4;
  layers.multiply([experts.router], input, [buffers.gate], tokens, poll);
  const routes = Array.from({ length: tokens }, (_, t) => {
    const at = buffers.gate / 4 + t * experts.count;
    return likeliest(arena.f32.subarray(at, at + experts.count), experts.used);
  });
  const sums = new Float32Array(tokens * dim);
  for (let expert = 0; expert < experts.count; expert++) {
    const up = rowsOf(experts.up, expert * hiddenDim, hiddenDim);
    const down = rowsOf(experts.down, expert * dim, dim);
    for (let t = 0; t < tokens; t++) {
      const share = routes[t]!.get(expert);
      if (share === undefined) continue;
      layers.multiply([up], input + t * width, [buffers.gate], 1, poll);
      arena.kernels.gelu(buffers.gate, hiddenDim);
      layers.multiply([down], buffers.gate, [buffers.projected], 1, poll);
      const made = arena.f32.subarray(buffers.projected / 4, buffers.projected / 4 + dim);
      for (let i = 0; i < dim; i++) sums[t * dim + i]! += share * made[i]!;
    }
  }
  arena.f32.set(sums, buffers.projected / 4);
}

/** The `used` highest of the router's logits as expert -> probability among all. */
function likeliest(logits: Float32Array, used: number): Map<number, number> {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const highest = logits[order[0]!]!;
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
  return new Map(order.slice(0, used).map((expert) => [expert, Math.exp(logits[expert]! - highest) / total]));
}
