import { raise, SQLSTATE } from '../errors.ts';
import type { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';

/** Keys and values of the tokens seen so far, floats: per layer (capacity, kvDim) keys, then as many values. */
export class KvCache {
  readonly capacity: number;
  /** Ids whose keys and values are here; the cache's length is theirs. */
  readonly ids: number[] = [];
  readonly bytes: number;
  private base: number;
  private readonly layerBytes: number;

  constructor(
    private readonly arena: Arena,
    config: ModelConfig,
    capacity: number,
    private readonly onFree: (cache: KvCache) => void,
  ) {
    this.capacity = capacity;
    this.layerBytes = capacity * config.nKvHeads * config.headSize * 4;
    this.bytes = this.layerBytes * 2 * config.nLayers;
    // Pages nobody has written yet cost nothing, so the whole context is laid out at once.
    this.base = arena.allocate(this.bytes);
  }

  get length(): number {
    return this.ids.length;
  }

  get isFreed(): boolean {
    return this.base === 0;
  }

  keysAt(layer: number): number {
    if (this.base === 0) raise(SQLSTATE.internalError, 'key/value cache was used after it was freed');
    return this.base + layer * 2 * this.layerBytes;
  }

  valuesAt(layer: number): number {
    return this.keysAt(layer) + this.layerBytes;
  }

  /** Forget all but the first `length` tokens. */
  truncate(length: number): void {
    if (length < this.ids.length) this.ids.length = length;
  }

  free(): void {
    if (this.base === 0) return;
    this.arena.release(this.base, this.bytes);
    this.base = 0;
    this.ids.length = 0;
    this.onFree(this);
  }
}
