/** The tensors of a model, found by name, checked by shape, and filled from their source. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import type { Experts } from './experts.ts';
import type { Heads } from './heads.ts';
import { bindHeads } from './heads.ts';
import type { Layout, Matrix } from './matrix.ts';
import {
  allocateMatrix,
  elementsFrom,
  fillMatrix,
  unplacedMatrix,
  layoutOf,
  matrixBytes,
  rowByteLength,
  rowsOf,
  stagingBytes,
} from './matrix.ts';
import type { TensorInfo, WeightSource } from './source.ts';

export type Precision = 'auto' | 'f32' | 'q8';

/** Alignment of a matrix's parts can cost as much. */
export const PADDING_BYTES = 64;
/** Float matrices stay floats under `auto` while that form of the model is smaller than this. */
const MAX_AUTO_F32_BYTES = 512 * 1024 * 1024;

/** A norm over rows of the residual stream's width (dim) or of a head's (headSize). */
export interface Norm {
  weight: Matrix;
  /** null for an RMS norm. */
  bias: Matrix | null;
}

/** The places of norms are those of LayerNorms; what an architecture or a file does not have is null. */
export interface LayerWeights {
  attentionInputNorm: Norm | null;
  q: Matrix;
  k: Matrix;
  v: Matrix;
  qNorm: Norm | null;
  kNorm: Norm | null;
  qBias: Matrix | null;
  kBias: Matrix | null;
  vBias: Matrix | null;
  attnOut: Matrix;
  attnOutBias: Matrix | null;
  attentionOutputNorm: Norm | null;
  attentionSumNorm: Norm | null;
  feedForwardInputNorm: Norm | null;
  gate: Matrix | null;
  gateBias: Matrix | null;
  /** null in a layer of experts, as down. */
  up: Matrix | null;
  upBias: Matrix | null;
  down: Matrix | null;
  downBias: Matrix | null;
  experts: Experts | null;
  feedForwardOutputNorm: Norm | null;
  feedForwardSumNorm: Norm | null;
}

export interface Weights {
  embedding: Matrix;
  /** (contextLength, dim) added by position; null where there are none. */
  positions: Matrix | null;
  /** (types, dim) of which the first row is added to every embedding; null where there are none. */
  tokenTypes: Matrix | null;
  embeddingNorm: Norm | null;
  layers: LayerWeights[];
  /** The final norm, and a decoder's output matrix, which is the embedding itself where the file has no output.weight. */
  norm: Norm | null;
  output: Matrix | null;
  /** Divisors of the RoPE frequencies (ropeDims / 2); null where the file has none. */
  ropeFactors: Matrix | null;
  /** The same for sequences within the original context, and for longer ones. */
  ropeShort: Matrix | null;
  ropeLong: Matrix | null;
  heads: Heads;
}

export interface WeightPlan {
  /** WebAssembly bytes of all matrices. */
  bytes: number;
  /** Room for the largest tile in transit. */
  stagingBytes: number;
  /** How the matrices are held, for people. */
  precision: string;
  layouts: Map<string, Layout>;
  /** Whether keys and values are held as half floats: where any matrix is one of integers. */
  halfCaches: boolean;
}

/** In which of a model's memories each tensor stands. */
export interface TensorMemories {
  /** Index of the memory that holds a tensor. */
  memoryOf(name: string): number;
}

/** Rows of a tensor; those of several matrices together where it holds as many. */
function heightOf(info: TensorInfo): number {
  return info.shape.slice(1).reduce((product, size) => product * size, 1);
}

function isVector(info: TensorInfo): boolean {
  return heightOf(info) === 1;
}

/** Decide every tensor's layout and add up the memory. Throws for a type or shape that cannot be computed with. */
export function planWeights(tensors: TensorInfo[], precision: Precision, largestTile: number): WeightPlan {
  let asFloats = 0;
  for (const info of tensors) {
    for (const size of info.shape) {
      if (!Number.isSafeInteger(size) || size < 1) {
        raise(SQLSTATE.dataCorrupted, `tensor ${info.name} has shape ${info.shape.join(' x ')}`);
      }
    }
    asFloats += matrixBytes(info, 'f32');
  }
  const floats = precision === 'q8' || (precision === 'auto' && asFloats >= MAX_AUTO_F32_BYTES) ? 'q8' : 'f32';
  const layouts = new Map<string, Layout>();
  let bytes = 0;
  let staging = 0;
  const used = new Set<string>();
  for (const info of tensors) {
    const layout = isVector(info) ? 'f32' : layoutOf(info, { floats, integers: precision !== 'f32' });
    layouts.set(info.name, layout);
    bytes += matrixBytes(info, layout) + PADDING_BYTES;
    const cols = info.shape[0] ?? 0;
    staging = Math.max(
      staging,
      stagingBytes(info.type, Math.max(largestTile, Math.ceil(rowByteLength(info.type, cols))), cols),
    );
    if (!isVector(info)) used.add(layout === 'f32' ? 'f32' : /Q/.test(info.type) ? info.type.toLowerCase() : 'q8');
  }
  const halfCaches = [...layouts.values()].some((layout) => layout !== 'f32');
  return { bytes, stagingBytes: staging + 64, precision: [...used].sort().join(', '), layouts, halfCaches };
}

export interface BoundWeights {
  weights: Weights;
  matrices: Map<string, Matrix>;
}

/**
 * Find every tensor of the architecture by name and check its shape; `place` makes the matrix of each. Throws naming the
 * tensor that is missing, unknown to the architecture, or of the wrong shape.
 */
function bindWeights(config: ModelConfig, tensors: TensorInfo[], place: (info: TensorInfo) => Matrix): BoundWeights {
  const byName = new Map(tensors.map((info) => [info.name, info]));
  const matrices = new Map<string, Matrix>();

  function take(name: string, cols: number, rows: number): Matrix | null {
    const info = byName.get(name);
    if (info === undefined) return null;
    if (info.shape[0] !== cols || heightOf(info) !== rows) {
      raise(SQLSTATE.dataCorrupted, `tensor ${name} has shape ${info.shape.join(' x ')}, expected ${cols} x ${rows}`);
    }
    const matrix = place(info);
    matrices.set(name, matrix);
    return matrix;
  }
  function need(name: string, cols: number, rows: number): Matrix {
    return take(name, cols, rows) ?? raise(SQLSTATE.dataCorrupted, `model has no tensor ${name}`);
  }

  const { architecture, dim, hiddenDim, headSize } = config;
  const qDim = config.nHeads * headSize;
  const kvDim = config.nKvHeads * headSize;

  function norm(name: string | undefined, size = dim): Norm | null {
    if (name === undefined) return null;
    return {
      weight: need(`${name}.weight`, size, 1),
      bias: architecture.norm === 'layer' ? need(`${name}.bias`, size, 1) : null,
    };
  }
  function bias(name: string, size: number): Matrix | null {
    return architecture.biases === 'all' ? need(`${name}.bias`, size, 1) : take(`${name}.bias`, size, 1);
  }
  function queryKeyValue(at: string): Pick<LayerWeights, 'q' | 'k' | 'v' | 'qBias' | 'kBias' | 'vBias'> {
    if (architecture.queryKeyValue === 'separate') {
      return {
        q: need(`${at}attn_q.weight`, dim, qDim),
        k: need(`${at}attn_k.weight`, dim, kvDim),
        v: need(`${at}attn_v.weight`, dim, kvDim),
        qBias: bias(`${at}attn_q`, qDim),
        kBias: bias(`${at}attn_k`, kvDim),
        vBias: bias(`${at}attn_v`, kvDim),
      };
    }
    const all = need(`${at}attn_qkv.weight`, dim, qDim + 2 * kvDim);
    const biases = bias(`${at}attn_qkv`, qDim + 2 * kvDim);
    const part = (first: number): Matrix | null => (biases === null ? null : elementsFrom(biases, first));
    return {
      q: rowsOf(all, 0, qDim),
      k: rowsOf(all, qDim, kvDim),
      v: rowsOf(all, qDim + kvDim, kvDim),
      qBias: part(0),
      kBias: part(qDim),
      vBias: part(qDim + kvDim),
    };
  }
  type Network = Pick<LayerWeights, 'gate' | 'gateBias' | 'up' | 'upBias' | 'down' | 'downBias' | 'experts'>;
  function feedForward(at: string, layer: number): Network {
    const none = { gate: null, gateBias: null, up: null, upBias: null, down: null, downBias: null, experts: null };
    const { experts } = config;
    if (experts !== null && layer % experts.everyLayers === 1) {
      const { count, used } = experts;
      const router = need(`${at}ffn_gate_inp.weight`, dim, count);
      const up = need(`${at}ffn_up_exps.weight`, dim, hiddenDim * count);
      const down = need(`${at}ffn_down_exps.weight`, hiddenDim, dim * count);
      return { ...none, experts: { router, up, down, count, used } };
    }
    const down = (): Pick<Network, 'down' | 'downBias'> => ({
      down: need(`${at}ffn_down.weight`, hiddenDim, dim),
      downBias: bias(`${at}ffn_down`, dim),
    });
    if (architecture.feedForward === 'gated-fused') {
      const both = need(`${at}ffn_up.weight`, dim, 2 * hiddenDim);
      return { ...none, gate: rowsOf(both, 0, hiddenDim), up: rowsOf(both, hiddenDim, hiddenDim), ...down() };
    }
    const gated = architecture.feedForward === 'gated';
    return {
      gate: gated ? need(`${at}ffn_gate.weight`, dim, hiddenDim) : null,
      gateBias: gated ? bias(`${at}ffn_gate`, hiddenDim) : null,
      up: need(`${at}ffn_up.weight`, dim, hiddenDim),
      upBias: bias(`${at}ffn_up`, hiddenDim),
      ...down(),
      experts: null,
    };
  }

  const embedding = need('token_embd.weight', dim, config.vocabSize);
  const positions =
    architecture.learnedPositions === true ? need('position_embd.weight', dim, config.contextLength) : null;
  const types = heightOf(byName.get('token_types.weight') ?? { name: '', type: '', shape: [] });
  const tokenTypes = architecture.tokenTypes === true ? need('token_types.weight', dim, types) : null;
  const embeddingNorm = architecture.embeddingNorm === true ? norm('token_embd_norm') : null;
  const layers: LayerWeights[] = [];
  for (let i = 0; i < config.nLayers; i++) {
    const at = `blk.${i}.`;
    const place = (name: string | undefined): string | undefined => (name === undefined ? undefined : at + name);
    const { norms } = architecture;
    layers.push({
      attentionInputNorm: norm(place(norms.attentionInput)),
      ...queryKeyValue(at),
      qNorm: architecture.headNorms === true ? norm(`${at}attn_q_norm`, headSize) : null,
      kNorm: architecture.headNorms === true ? norm(`${at}attn_k_norm`, headSize) : null,
      attnOut: need(`${at}attn_output.weight`, qDim, dim),
      attnOutBias: bias(`${at}attn_output`, dim),
      attentionOutputNorm: norm(place(norms.attentionOutput)),
      attentionSumNorm: norm(place(norms.attentionSum)),
      feedForwardInputNorm: norm(place(norms.feedForwardInput)),
      ...feedForward(at, i),
      feedForwardOutputNorm: norm(place(norms.feedForwardOutput)),
      feedForwardSumNorm: norm(place(norms.feedForwardSum)),
    });
  }
  const finalNorm = architecture.finalNorm === false ? null : norm('output_norm');
  const matrix = architecture.finalNorm === false ? null : (take('output.weight', dim, config.vocabSize) ?? embedding);
  const output = architecture.kind === 'decoder' ? matrix : null;
  const pairs = config.ropeDims / 2;
  const ropeFactors = architecture.rope === null ? null : take('rope_freqs.weight', pairs, 1);
  const stretched = config.originalContext !== null;
  const ropeShort = stretched ? need('rope_factors_short.weight', pairs, 1) : null;
  const ropeLong = stretched ? need('rope_factors_long.weight', pairs, 1) : null;
  const heads = bindHeads(config, (name) => (byName.has(name) ? heightOf(byName.get(name)!) : 0), take);
  for (const name of byName.keys()) {
    if (!matrices.has(name)) {
      raise(SQLSTATE.featureNotSupported, `tensor ${name} is not known to architecture ${config.architecture.name}`);
    }
  }

  return {
    weights: {
      embedding,
      positions,
      tokenTypes,
      embeddingNorm,
      layers,
      norm: finalNorm,
      output,
      ropeFactors,
      ropeShort,
      ropeLong,
      heads,
    },
    matrices,
  };
}

/** Whether the tensors are those of the architecture; throws as loading them would, without reading one. */
export function checkWeights(config: ModelConfig, tensors: TensorInfo[]): void {
  const { layouts } = planWeights(tensors, 'auto', 0);
  bindWeights(config, tensors, (info) => unplacedMatrix(info, layouts.get(info.name) ?? 'f32'));
}

/** Addresses of one memory's matrices by tensor, from its first weight on. */
export type Places = Record<string, number>;

/** Where the matrices of a loaded model stand in each of its memories, for `weightsAt` of others. */
export function placesOf(matrices: ReadonlyMap<string, Matrix>, arenas: readonly Arena[]): Places[] {
  return arenas.map((arena, memory) =>
    Object.fromEntries(
      [...matrices]
        .filter(([, matrix]) => matrix.memory === memory)
        .map(([name, matrix]) => [name, matrix.weights - arena.firstWeight]),
    ),
  );
}

/** Weights that stand in the arenas already, at the places that `placesOf` gave. Throws as bindWeights does. */
export function weightsAt(
  arenas: readonly Arena[],
  config: ModelConfig,
  tensors: TensorInfo[],
  plan: WeightPlan,
  { memoryOf }: TensorMemories,
  places: readonly Places[],
): Weights {
  return bindWeights(config, tensors, (info) => {
    const memory = memoryOf(info.name);
    const place = places[memory]![info.name];
    if (place === undefined) raise(SQLSTATE.dataCorrupted, `tensor ${info.name} has no place in the segment`);
    const matrix = unplacedMatrix(info, plan.layouts.get(info.name) ?? 'f32', memory);
    return { ...matrix, weights: arenas[memory]!.firstWeight + place };
  }).weights;
}

/** Allocate and fill. Throws as bindWeights does, and for tiles that do not fit their tensor. */
export function loadWeights(
  arenas: readonly Arena[],
  config: ModelConfig,
  source: WeightSource,
  plan: WeightPlan,
  { memoryOf }: TensorMemories,
  poll: () => void,
): BoundWeights {
  const { weights, matrices } = bindWeights(config, source.tensors(), (info) => {
    const memory = memoryOf(info.name);
    return allocateMatrix(arenas[memory]!, info, plan.layouts.get(info.name) ?? 'f32', memory);
  });
  const missingRows = new Map([...matrices].map(([name, matrix]) => [name, matrix.rows]));
  const staging = arenas.map((arena) => arena.allocate(plan.stagingBytes));
  source.eachTile((info, firstRow, bytes) => {
    const matrix = matrices.get(info.name);
    if (matrix === undefined) raise(SQLSTATE.dataCorrupted, `tensor ${info.name} appeared while loading`);
    if (stagingBytes(info.type, bytes.length, matrix.cols) > plan.stagingBytes) {
      raise(
        SQLSTATE.dataCorrupted,
        `tensor ${info.name} has a tile of ${bytes.length} bytes, expected at most ${plan.stagingBytes}`,
      );
    }
    fillMatrix(arenas[matrix.memory]!, matrix, firstRow, bytes, staging[matrix.memory]!);
    const rows = bytes.length / rowByteLength(info.type, matrix.cols);
    missingRows.set(info.name, (missingRows.get(info.name) ?? 0) - rows);
    poll();
  });
  arenas.forEach((arena, memory) => arena.release(staging[memory]!, plan.stagingBytes));
  for (const [name, rows] of missingRows) {
    if (rows !== 0) raise(SQLSTATE.dataCorrupted, `tensor ${name} lacks ${rows} rows`);
  }
  return { weights, matrices };
}
