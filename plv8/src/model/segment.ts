/**
 * Weights in segments, one for each of a model's memories, that every backend maps read-only. The first backend that loads a
 * model reads its tiles as always, publishes the result and maps it in place of its own pages; later ones only map. Where
 * that cannot be done, the weights stay, or are read into, the backend's own memory.
 */
import type { WasmMemory } from '../kernels/web-assembly.ts';
import { HartonomousError, SQLSTATE } from '../errors.ts';
import { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import type { LoadOptions } from './load.ts';
import type { MemoriesPlan } from './memories.ts';
import type { WeightSource } from './source.ts';
import type { Places, WeightPlan, Weights } from './weights.ts';
import { loadWeights, placesOf, weightsAt } from './weights.ts';

/** A published segment; `map` puts it over a memory at a page-aligned address. */
export interface MappableWeights {
  readonly bytes: number;
  readonly places: Places;
  map(memory: WasmMemory, at: number): void;
}

/** What goes into the segment of one memory: `bytes` bytes from `at` on. */
export interface PublishedWeights {
  readonly places: Places;
  readonly memory: WasmMemory;
  readonly at: number;
  readonly bytes: number;
}

export interface WeightSegments {
  /** The segments of a model of so many memories as they are now; null unless all of them are there. */
  find(memories: number): MappableWeights[] | null;
  /** Publish those of all memories; false where this backend is not the one to do it or there is no room. */
  publish(weights: readonly PublishedWeights[]): boolean;
}

/** How a memory is refused that a smaller one, or one that grows, might not be. */
const NO_SUCH_MEMORY: string[] = [SQLSTATE.outOfMemory, SQLSTATE.programLimitExceeded];
/** A segment ends with its last page. */
const PAGE = 4096;

/** Load through segments. Null where there is no way to: no host for it, or no memories of the sizes that never have to grow. */
export function loadShared(
  config: ModelConfig,
  source: WeightSource,
  plan: WeightPlan,
  spread: MemoriesPlan,
  options: LoadOptions,
): { arenas: Arena[]; weights: Weights } | null {
  const { segments } = options;
  if (segments === undefined || segments === null) return null;
  const { memories } = spread;
  let arenas: Arena[];
  try {
    arenas = memories.map(
      ({ weightBytes, otherBytes }) => new Arena(plan.stagingBytes + otherBytes, weightBytes, options.maxMemoryBytes),
    );
  } catch (error) {
    if (error instanceof HartonomousError && NO_SUCH_MEMORY.includes(error.code)) return null;
    throw error;
  }
  const found = segments.find(memories.length);
  if (found?.every(({ bytes }, memory) => bytes <= memories[memory]!.weightBytes + PAGE)) {
    map(arenas, found);
    const places = found.map((segment) => segment.places);
    return { arenas, weights: weightsAt(arenas, config, source.tensors(), plan, spread, places) };
  }
  arenas.forEach((arena, memory) => options.prepareMemory?.(arena.untouched(memories[memory]!.weightBytes)));
  const { weights, matrices } = loadWeights(arenas, config, source, plan, spread, options.poll);
  const places = placesOf(matrices, arenas);
  const published = segments.publish(
    arenas.map((arena, i) => arena.withWeights((memory, at, bytes) => ({ places: places[i]!, memory, at, bytes }))),
  );
  const own = published ? segments.find(memories.length) : null;
  if (own !== null) map(arenas, own);
  return { arenas, weights };
}

function map(arenas: readonly Arena[], found: readonly MappableWeights[]): void {
  arenas.forEach((arena, i) => {
    arena.withWeights((memory, at) => found[i]!.map(memory, at));
    arena.sealWeights(found[i]!.bytes);
  });
}
