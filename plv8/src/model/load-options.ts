/** What loading a model is given, and how it reaches weights that backends share. */
import type { WasmMemory } from '../kernels/web-assembly.ts';
import type { Places, Precision } from './weights.ts';

export interface LoadOptions {
  precision: Precision;
  /** The model's name, for errors. */
  name?: string;
  /** Bytes of one memory at most; a model that needs more is spread over several. 4 GiB where it is not given. */
  maxMemoryBytes?: number;
  /** Where weights that backends share are found and published; without it they are this backend's own. */
  segments?: WeightSegments | null;
  /** Called every few milliseconds; throws to stop. */
  poll(): void;
  /** Called with memory that weights are about to fill, before it is touched. */
  prepareMemory?(view: Uint8Array): void;
}

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
  /** The best place for weights from address `at` of a memory on: less than 2 MiB behind it. */
  place(memory: WasmMemory, at: number): number;
  /** The segments of a model of so many memories as they are now; null unless all of them are there. */
  find(memories: number): MappableWeights[] | null;
  /** Publish those of all memories; false where this backend is not the one to do it or there is no room. */
  publish(weights: readonly PublishedWeights[]): boolean;
}
