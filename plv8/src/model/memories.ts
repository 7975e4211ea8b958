/**
 * Which of a model's WebAssembly memories holds what. A memory is at most 4 GiB, so a larger model has several: each holds
 * a run of layers with all that computes them (weights, activations, rotation tables, key/value caches), and only the
 * residual stream goes from one to the next. The embedding stands with the first layers; the output matrix with the last
 * ones, or with the embedding where it is the same.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { tensorDepth, tensorPlace } from '../format/tensor-names.ts';
import { ARENA_OVERHEAD_BYTES } from './arena.ts';
import { bufferBytes } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import { matrixBytes } from './matrix.ts';
import { ropeBytes } from './rope.ts';
import type { TensorInfo } from './source.ts';
import type { TensorMemories, WeightPlan } from './weights.ts';
import { PADDING_BYTES } from './weights.ts';

/** A memory has room for a cache of so many tokens in all its layers, or the whole context where that is shorter. */
const ROOM_TOKENS = 32_768;

/** What one memory holds. */
export interface MemoryPlan {
  /** Layers [first, end). */
  first: number;
  end: number;
  /** Whether the logits are made here; for an encoder, whether its last layer stands here. */
  output: boolean;
  weightBytes: number;
  /** Bytes of activations and tables. */
  otherBytes: number;
}

export interface MemoriesPlan extends TensorMemories {
  /** In the order of their layers. */
  memories: MemoryPlan[];
}

/** What cannot be divided: the embedding and what goes with it, a layer, or the output matrix. */
interface Part {
  what: string;
  weightBytes: number;
  logitBytes: number;
  cacheBytes: number;
}

/**
 * Spread a model over as few memories of at most `limit` bytes as hold it, as evenly as they do, so that all have about the
 * same room for caches. Throws programLimitExceeded, naming the model, where a layer alone is too large for a memory.
 */
export function planMemories(
  name: string,
  config: ModelConfig,
  tensors: readonly TensorInfo[],
  plan: WeightPlan,
  limit: number,
): MemoriesPlan {
  const { nLayers } = config;
  const tied = !tensors.some((info) => info.name === 'output.weight');
  const decoder = config.architecture.kind === 'decoder';
  const outputPart = tied ? 0 : nLayers + 1;
  const partOf = (tensor: string): number => {
    const depth = tensorDepth(tensorPlace(tensor), nLayers);
    return depth <= nLayers ? depth : decoder ? outputPart : nLayers;
  };
  const kvBytes = decoder
    ? (plan.halfCaches ? 4 : 8) * config.nKvHeads * config.headSize * Math.min(config.contextLength, ROOM_TOKENS)
    : 0;
  const logitBytes = decoder ? bufferBytes(config, true) - bufferBytes(config, false) : 0;
  const parts = Array.from({ length: nLayers + 2 }, (_, depth): Part => {
    const layer = depth > 0 && depth <= nLayers;
    return {
      what: layer ? `layer ${depth - 1}` : depth === 0 ? 'its embedding' : 'its output matrix',
      weightBytes: 0,
      logitBytes: depth === outputPart ? logitBytes : 0,
      cacheBytes: layer ? kvBytes : 0,
    };
  });
  for (const info of tensors)
    parts[partOf(info.name)]!.weightBytes += matrixBytes(info, plan.layouts.get(info.name) ?? 'f32') + PADDING_BYTES;

  const everyMemory = ARENA_OVERHEAD_BYTES + bufferBytes(config, false) + ropeBytes(config);
  const bytesOf = (some: readonly Part[]): number => {
    const held = some.reduce((sum, part) => sum + part.weightBytes + part.logitBytes, 0);
    const caches = some.reduce((sum, part) => sum + part.cacheBytes, 0);
    // The staging area is given back before there is a cache.
    return everyMemory + held + Math.max(caches, plan.stagingBytes);
  };
  for (const part of parts) {
    const bytes = bytesOf([part]);
    if (bytes > limit) {
      raise(
        SQLSTATE.programLimitExceeded,
        `model ${name} needs ${bytes} bytes of WebAssembly memory for ${part.what}, one memory holds ${limit}`,
      );
    }
  }
  const memoryOfPart = divide(parts, bytesOf, limit);

  const count = memoryOfPart.at(-1)! + 1;
  const output = decoder ? memoryOfPart[outputPart]! : memoryOfPart[nLayers]!;
  const memories = Array.from({ length: count }, (_, memory): MemoryPlan => {
    const held = parts.filter((__, depth) => memoryOfPart[depth] === memory);
    const layers = config.windows.map((__, layer) => layer).filter((layer) => memoryOfPart[layer + 1] === memory);
    const first = layers[0] ?? (memory === 0 ? 0 : nLayers);
    return {
      first,
      end: first + layers.length,
      output: memory === output,
      weightBytes: held.reduce((sum, part) => sum + part.weightBytes, 0),
      otherBytes: bufferBytes(config, decoder && memory === output) + ropeBytes(config),
    };
  });
  return { memories, memoryOf: (tensor) => memoryOfPart[partOf(tensor)]! };
}

/** The memory of each part: runs of parts, as few as stay within `limit`, and of those the ones whose largest is smallest. */
function divide(parts: readonly Part[], bytesOf: (some: readonly Part[]) => number, limit: number): number[] {
  const within = (most: number): number[] => {
    const memoryOfPart: number[] = [];
    let run: Part[] = [];
    let memory = 0;
    for (const part of parts) {
      if (run.length > 0 && bytesOf([...run, part]) > most) {
        memory++;
        run = [];
      }
      run.push(part);
      memoryOfPart.push(memory);
    }
    return memoryOfPart;
  };
  let best = within(limit);
  let low = Math.max(...parts.map((part) => bytesOf([part])));
  let high = limit;
  while (best.at(-1)! > 0 && low < high) {
    const middle = Math.floor((low + high) / 2);
    const divided = within(middle);
    if (divided.at(-1) === best.at(-1)) {
      best = divided;
      high = middle;
    } else low = middle + 1;
  }
  return best;
}
