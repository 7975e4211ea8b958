/**
 * Direct logit attribution: what each part of the network wrote into the residual stream, read along the direction of a
 * token's logit. The parts sum to the logit before any soft cap.
 */
import type { Model } from '../model/model.ts';
import type { LayerWeights } from '../model/weights.ts';
import type { Captured } from './capture.ts';
import type { Direction } from './direction.ts';
import { along, logitDirection, throughNorm, vectorOf } from './direction.ts';

export type ComponentKind = 'embedding' | 'position' | 'head' | 'attention_bias' | 'ffn' | 'ffn_bias' | 'norm_bias';

export interface Component {
  kind: ComponentKind;
  /** From 0; -1 before the first layer, nLayers after the last. */
  layer: number;
  /** From 0; -1 where there is none. */
  head: number;
  /** Share of the logit of each token asked about, in their order. */
  shares: number[];
  /** Of a head: how long what it wrote is beside the residual stream that it was added to. */
  size?: number;
}

/** One explained position and the tokens whose logits are taken apart. */
export interface Target {
  captured: Captured;
  ids: readonly number[];
}

export interface TakenApart {
  components: Component[];
  /** Logit of each token asked about before any soft cap, computed from the final residual stream. */
  logits: number[];
}

/** Components of every target; the output matrix of each layer is read twice at most for all of them. */
export function componentsOf(model: Model, targets: readonly Target[], poll: () => void): TakenApart[] {
  const { nLayers } = model.config;
  const { weights } = model;
  const directions = targets.map(({ captured, ids }) =>
    ids.map((id) => logitDirection(model, id, captured.residuals[nLayers]!)),
  );
  const all = targets.map(({ captured }, t) => embeddingComponents(model, captured, directions[t]!));
  weights.layers.forEach((layer, index) => {
    const reading = readHeads(model, layer, index, targets, directions, poll);
    const attentionBias = vectorOf(model, layer.attnOutBias);
    const ffnBias = layer.feedForwardOutputNorm === null ? vectorOf(model, layer.downBias) : null;
    targets.forEach(({ captured }, t) => {
      const own = directions[t]!;
      const { inner, shares, lengths } = reading[t]!;
      all[t]!.push(...headComponents(captured, index, shares, lengths));
      const constants = inner.map(
        (direction, i) =>
          direction.constant - own[i]!.constant + (attentionBias === null ? 0 : along(direction, attentionBias)),
      );
      if (constants.some((each) => each !== 0)) {
        all[t]!.push({ kind: 'attention_bias', layer: index, head: -1, shares: constants });
      }
      // What a layer adds beside attention is its feed-forward network's.
      const before = captured.residuals[index]!;
      const added = captured.added[index]!;
      const written = captured.residuals[index + 1]!.map((x, d) => x - before[d]! - added[d]!);
      const biases = own.map((direction) => (ffnBias === null ? 0 : along(direction, ffnBias)));
      all[t]!.push({
        kind: 'ffn',
        layer: index,
        head: -1,
        shares: own.map((direction, i) => along(direction, written) - biases[i]!),
      });
      if (ffnBias !== null) all[t]!.push({ kind: 'ffn_bias', layer: index, head: -1, shares: biases });
    });
    poll();
  });
  return targets.map(({ captured }, t) => {
    const constants = directions[t]!.map((direction) => direction.constant);
    if (constants.some((each) => each !== 0)) {
      all[t]!.push({ kind: 'norm_bias', layer: nLayers, head: -1, shares: constants });
    }
    const stream = captured.residuals[nLayers]!;
    return {
      components: all[t]!,
      logits: directions[t]!.map((direction) => along(direction, stream) + direction.constant),
    };
  });
}

/** The token's embedding, and the position's where positions are learned. */
function embeddingComponents(model: Model, captured: Captured, directions: readonly Direction[]): Component[] {
  const { positions } = model.weights;
  const embedded = captured.residuals[0]!;
  const whole = directions.map((direction) => along(direction, embedded));
  if (positions === null) return [{ kind: 'embedding', layer: -1, head: -1, shares: whole }];
  const row = new Float32Array(positions.cols);
  model.readRow(positions, captured.position, row);
  const ofPosition = directions.map((direction) => along(direction, row));
  return [
    { kind: 'embedding', layer: -1, head: -1, shares: whole.map((each, i) => each - ofPosition[i]!) },
    { kind: 'position', layer: -1, head: -1, shares: ofPosition },
  ];
}

/** What the heads of a layer write, as one target's directions read it. */
interface HeadsRead {
  /** Directions behind the layer's output matrix, within the norm that may follow it. */
  inner: Direction[];
  /** (nHeads) what each head writes along each of them. */
  shares: Float64Array[];
  lengths: HeadLengths;
}

/** How long what each head (nHeads) writes is before any norm, and what all of them write together. */
interface HeadLengths {
  each: Float64Array;
  together: number;
}

/** What the heads of a layer write for each target. */
function readHeads(
  model: Model,
  layer: LayerWeights,
  index: number,
  targets: readonly Target[],
  directions: readonly Direction[][],
  poll: () => void,
): HeadsRead[] {
  const norm = layer.attentionOutputNorm;
  const outputs = targets.map(({ captured }) => captured.heads[index]!);
  let inner = directions.map((own) => [...own]);
  if (norm !== null) {
    const bias = vectorOf(model, layer.attnOutBias);
    const projected = project(model, layer, outputs, poll);
    if (bias !== null) projected.forEach((each) => each.forEach((_, d) => (each[d]! += bias[d]!)));
    inner = inner.map((own, t) => own.map((direction) => throughNorm(model, norm, direction, projected[t]!)));
  }
  const written = inner.map((own, t) => ({ own, output: outputs[t]!, ...noHeads(model, own.length) }));
  eachOutputRow(model, layer, poll, (d, row) => written.forEach((one) => addRow(one, d, row)));
  return written.map(({ own, shares, squares, together }) => ({
    inner: own,
    shares,
    lengths: { each: squares.map(Math.sqrt), together: Math.sqrt(together) },
  }));
}

function headComponents(
  captured: Captured,
  layer: number,
  shares: readonly Float64Array[],
  { each, together }: HeadLengths,
): Component[] {
  // A norm behind the output matrix makes all of them longer or shorter alike.
  const scale = lengthOf(captured.added[layer]!) / (together * lengthOf(captured.residuals[layer]!));
  return Array.from(each, (length, head): Component => ({
    kind: 'head',
    layer,
    head,
    shares: shares.map((along) => along[head]!),
    size: Number.isFinite(scale) ? length * scale : 0,
  }));
}

function lengthOf(vector: Float32Array): number {
  return Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
}

/** Call `visit` with every row (nHeads * headSize) of the layer's output matrix. */
function eachOutputRow(
  model: Model,
  { attnOut }: LayerWeights,
  poll: () => void,
  visit: (d: number, row: Float32Array) => void,
): void {
  const row = new Float32Array(attnOut.cols);
  for (let d = 0; d < attnOut.rows; d++) {
    model.readRow(attnOut, d, row);
    visit(d, row);
    poll();
  }
}

/** The output matrix times each of `inputs` (nHeads * headSize): (dim) each. */
function project(model: Model, layer: LayerWeights, inputs: readonly Float32Array[], poll: () => void): Float32Array[] {
  const out = inputs.map(() => new Float32Array(model.config.dim));
  eachOutputRow(model, layer, poll, (d, row) => {
    inputs.forEach((input, i) => {
      let sum = 0;
      for (let c = 0; c < row.length; c++) sum += row[c]! * input[c]!;
      out[i]![d] = sum;
    });
  });
  return out;
}

/** Sums over the rows of a layer's output matrix of what each head (nHeads) writes there. */
interface HeadSums {
  /** Along each direction. */
  shares: Float64Array[];
  squares: Float64Array;
  /** Squares of what all of them write together. */
  together: number;
}

function noHeads({ config }: Model, directions: number): HeadSums {
  const { nHeads } = config;
  const shares = Array.from({ length: directions }, () => new Float64Array(nHeads));
  return { shares, squares: new Float64Array(nHeads), together: 0 };
}

/** Add what row `d` (nHeads * headSize) of the output matrix makes of a target's heads' outputs. */
function addRow(
  target: HeadSums & { own: readonly Direction[]; output: Float32Array },
  d: number,
  row: Float32Array,
): void {
  const { own, output, shares, squares } = target;
  const headSize = row.length / squares.length;
  let all = 0;
  for (let head = 0, c = 0; head < squares.length; head++) {
    // Two sums, so that no addition waits for the one before; the size of a head is a multiple of four.
    let even = 0;
    let odd = 0;
    for (const end = c + headSize; c < end; c += 2) {
      even += row[c]! * output[c]!;
      odd += row[c + 1]! * output[c + 1]!;
    }
    const sum = even + odd;
    squares[head]! += sum * sum;
    all += sum;
    for (let i = 0; i < own.length; i++) shares[i]![head]! += own[i]!.vector[d]! * sum;
  }
  target.together += all * all;
}
