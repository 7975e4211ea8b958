/**
 * Directions in the residual stream along which a number is read, with norms frozen at what they did: a frozen norm only
 * scales each element (and subtracts the mean), so what is read from a sum is the sum of what is read from its parts
 * (Elhage et al. 2021, https://transformer-circuits.pub/2021/framework).
 */
import { raise, SQLSTATE } from '../errors.ts';
import type { Model } from '../model/model.ts';
import type { Matrix } from '../model/matrix.ts';
import type { Norm } from '../model/weights.ts';

/** Reads `vector . x + constant`. */
export interface Direction {
  /** (dim) */
  vector: Float64Array;
  constant: number;
}

export function along(direction: Direction, x: ArrayLike<number>): number {
  let sum = 0;
  for (let d = 0; d < x.length; d++) sum += direction.vector[d]! * x[d]!;
  return sum;
}

/** A bias or the weight of a norm as floats (cols); null for none. */
export function vectorOf(model: Model, matrix: Matrix | null): Float32Array | null {
  if (matrix === null) return null;
  const out = new Float32Array(matrix.cols);
  model.readRow(matrix, 0, out);
  return out;
}

/**
 * The direction that reads from x (dim), before a norm, what `direction` reads after it. The norm is frozen at what it
 * did to `x`.
 */
export function throughNorm(model: Model, norm: Norm, direction: Direction, x: Float32Array): Direction {
  const { normEps, architecture } = model.config;
  const weight = vectorOf(model, norm.weight)!;
  const bias = vectorOf(model, norm.bias);
  const n = x.length;
  const centred = architecture.norm === 'layer';
  let mean = 0;
  if (centred) for (let d = 0; d < n; d++) mean += x[d]! / n;
  let squares = 0;
  for (let d = 0; d < n; d++) squares += (x[d]! - mean) * (x[d]! - mean);
  const inverse = 1 / Math.sqrt(squares / n + normEps);
  const vector = direction.vector.map((u, d) => u * weight[d]! * inverse);
  if (centred) {
    // Subtracting the mean of x is subtracting that of the direction.
    let average = 0;
    for (let d = 0; d < n; d++) average += vector[d]! / n;
    for (let d = 0; d < n; d++) vector[d]! -= average;
  }
  return { vector, constant: direction.constant + (bias === null ? 0 : along(direction, bias)) };
}

/** Direction of token `id`'s logit, before any soft cap, for a final residual stream (dim). */
export function logitDirection(model: Model, id: number, stream: Float32Array): Direction {
  const { norm, output } = model.weights;
  if (output === null) {
    raise(SQLSTATE.featureNotSupported, `architecture ${model.config.architecture.name} has no logits to explain`);
  }
  const unembedding = new Float32Array(output.cols);
  model.readRow(output, id, unembedding);
  const direction = { vector: Float64Array.from(unembedding), constant: 0 };
  return norm === null ? direction : throughNorm(model, norm, direction, stream);
}
