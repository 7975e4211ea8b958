/** Loading a model: its weights into its memories, and what each memory has beside them. */
import { TILE_TARGET_BYTES } from '../format/tiles.ts';
import { Arena, MAX_MEMORY_BYTES } from './arena.ts';
import { allocateBuffers } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import { Layers } from './layers.ts';
import type { LoadOptions } from './load-options.ts';
import type { Matrix } from './matrix.ts';
import { copyRow } from './matrix.ts';
import type { MemoriesPlan } from './memories.ts';
import { planMemories } from './memories.ts';
import { ropeTables } from './rope.ts';
import { loadShared } from './segment.ts';
import type { WeightSource } from './source.ts';
import type { WeightPlan, Weights } from './weights.ts';
import { loadWeights, planWeights } from './weights.ts';

/** A model in its memories. */
export interface ModelParts {
  /** How the matrices are held, as `q4_1, q8_0`. */
  precision: string;
  /** Whether keys and values are held as half floats. */
  halfCaches: boolean;
  weights: Weights;
  /** Its layers by the memory that holds them, in their order; the first holds the embedding. */
  parts: readonly Layers[];
  /** The one of `parts` where the logits are made, or where an encoder's hidden states end. */
  output: Layers;
}

/** Read every tile of the source into kernel layout. Throws naming the tensor or number that is wrong. */
export function loadModel(config: ModelConfig, source: WeightSource, options: LoadOptions): ModelParts {
  const plan = planWeights(source.tensors(), options.precision, TILE_TARGET_BYTES);
  const limit = Math.min(options.maxMemoryBytes ?? Infinity, MAX_MEMORY_BYTES);
  const spread = planMemories(options.name ?? 'given', config, source.tensors(), plan, limit);
  const { arenas, weights } =
    loadShared(config, source, plan, spread, options) ?? loadPrivate(config, source, plan, spread, options);
  const encoder = config.architecture.kind === 'encoder';
  const held = spread.memories.map((memory, i) => ({
    ...memory,
    arena: arenas[i]!,
    buffers: allocateBuffers(arenas[i]!, config, memory.output && !encoder),
  }));
  const floats = (vector: Matrix | null): number[] | null =>
    vector === null
      ? null
      : floatsOf(arenas[vector.memory]!, vector, held[vector.memory]!.buffers.scratch, config.ropeDims / 2);
  const factors = {
    near: floats(weights.ropeFactors) ?? floats(weights.ropeShort) ?? config.ropeFactors,
    far: floats(weights.ropeLong),
  };
  const parts = held.map(({ arena, buffers, first, end }) => {
    const layers = new Layers(config, arena, weights, first, end, buffers, ropeTables(arena, config, factors));
    arena.seal();
    return layers;
  });
  const output = parts[spread.memories.findIndex((memory) => memory.output)]!;
  return { precision: plan.precision, halfCaches: plan.halfCaches, weights, parts, output };
}

function loadPrivate(
  config: ModelConfig,
  source: WeightSource,
  plan: WeightPlan,
  spread: MemoriesPlan,
  options: LoadOptions,
): { arenas: Arena[]; weights: Weights } {
  const arenas = spread.memories.map(({ weightBytes, otherBytes }) => {
    const arena = new Arena(weightBytes + plan.stagingBytes + otherBytes, null, options.maxMemoryBytes);
    options.prepareMemory?.(arena.untouched(weightBytes));
    return arena;
  });
  return { arenas, weights: loadWeights(arenas, config, source, plan, spread, options.poll).weights };
}

/** The first n floats of a vector, by way of a scratch address: JavaScript has no view of shared weights. */
function floatsOf(arena: Arena, vector: Matrix, scratch: number, n: number): number[] {
  copyRow(arena, vector, 0, scratch);
  return Array.from(arena.f32.subarray(scratch / 4, scratch / 4 + n));
}
