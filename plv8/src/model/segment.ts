/**
 * Weights in a segment that every backend maps read-only. The first backend that loads a model reads its tiles as always,
 * publishes the result and maps it in place of its own pages; later ones only map. Where that cannot be done, the weights
 * stay, or are read into, the backend's own memory.
 */
import type { WasmMemory } from '../kernels/load.ts';
import { HartonomousError, SQLSTATE } from '../errors.ts';
import { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import type { WeightSource } from './source.ts';
import type { Places, WeightPlan, Weights } from './weights.ts';
import { loadWeights, placesOf, weightsAt } from './weights.ts';

/** A published segment; `map` puts it over a memory at a page-aligned address. */
export interface MappableWeights {
  readonly bytes: number;
  readonly places: Places;
  map(memory: WasmMemory, at: number): void;
}

export interface WeightSegment {
  /** The segment as it is now; null where there is none. */
  find(): MappableWeights | null;
  /** Publish `bytes` bytes of a memory; false where this backend is not the one to do it or there is no room. */
  publish(places: Places, memory: WasmMemory, at: number, bytes: number): boolean;
}

/** How a memory is refused that a smaller one, or one that grows, might not be. */
const NO_SUCH_MEMORY: string[] = [SQLSTATE.outOfMemory, SQLSTATE.programLimitExceeded];
/** A segment ends with its last page. */
const PAGE = 4096;

interface Loading {
  segment?: WeightSegment | null;
  poll(): void;
  prepareMemory?(view: Uint8Array): void;
}

/** Load through a segment. Null where there is no way to: no host for it, or no memory of the size that never has to grow. */
export function loadShared(
  config: ModelConfig,
  source: WeightSource,
  plan: WeightPlan,
  otherBytes: number,
  options: Loading,
): { arena: Arena; weights: Weights } | null {
  const { segment } = options;
  if (segment === undefined || segment === null) return null;
  let arena: Arena;
  try {
    arena = new Arena(plan.stagingBytes + otherBytes, plan.bytes);
  } catch (error) {
    if (error instanceof HartonomousError && NO_SUCH_MEMORY.includes(error.code)) return null;
    throw error;
  }
  const found = segment.find();
  if (found !== null && found.bytes <= plan.bytes + PAGE) {
    map(arena, found);
    return { arena, weights: weightsAt(config, source.tensors(), plan, found.places, arena.firstWeight) };
  }
  options.prepareMemory?.(arena.untouched(plan.bytes));
  const { weights, matrices } = loadWeights(arena, config, source, plan, options.poll);
  const places = placesOf(matrices, arena.firstWeight);
  const published = arena.withWeights((memory, at, bytes) => segment.publish(places, memory, at, bytes));
  const own = published ? segment.find() : null;
  if (own !== null) map(arena, own);
  return { arena, weights };
}

function map(arena: Arena, found: MappableWeights): void {
  arena.withWeights((memory, at) => found.map(memory, at));
  arena.sealWeights(found.bytes);
}
