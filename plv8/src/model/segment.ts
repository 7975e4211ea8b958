/**
 * Weights in segments, one for each of a model's memories, that every backend maps read-only. The first backend that loads a
 * model reads its tiles as always, publishes the result and maps it in place of its own pages; later ones only map. Where
 * that cannot be done, the weights stay, or are read into, the backend's own memory.
 */
import { HartonomousError, SQLSTATE } from '../errors.ts';
import { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import type { LoadOptions, MappableWeights } from './load-options.ts';
import type { MemoriesPlan } from './memories.ts';
import type { WeightSource } from './source.ts';
import type { WeightPlan, Weights } from './weights.ts';
import { loadWeights, placesOf, weightsAt } from './weights.ts';

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
      ({ weightBytes, otherBytes }) =>
        new Arena(plan.stagingBytes + otherBytes, weightBytes, options.maxMemoryBytes, (memory, at) =>
          segments.place(memory, at),
        ),
    );
  } catch (error) {
    if (error instanceof HartonomousError && NO_SUCH_MEMORY.includes(error.sqlerrcode)) return null;
    throw error;
  }
  arenas.forEach((arena) => options.prepareMemory?.(arena.u8.subarray(0, arena.firstWeight)));
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
