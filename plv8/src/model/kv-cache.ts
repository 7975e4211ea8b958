import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { Arena, Piece } from './arena.ts';
import type { ModelConfig } from './config.ts';

/** Memory is taken for that many tokens at a time, at least. */
const ROOM_STEP = 32;
/** A cache that has to grow takes this much more than it had, so that growing copies every token a few times at most. */
const GROWTH = 1.5;

/** What the owner of several caches does about memory. */
export interface CacheHooks {
  /** Called before `bytes` more are taken. */
  makeRoom?(bytes: number): void;
  /** Free another cache because memory has run out; false when there is none to free. */
  evictOne?(): boolean;
}

/**
 * Keys and values of one sequence's tokens, floats or half floats: per layer a piece of (room, kvDim) keys, then as many values. Grows
 * on demand, layer by layer. At every moment what `ids` says is there and right, so a call that is cut off anywhere,
 * even where no `finally` runs, leaves a cache that can be continued.
 */
export class KvCache {
  /** Ids whose keys and values are here; the cache's length is theirs. */
  readonly ids: number[] = [];
  /** Whether its keys are rotated as those of a sequence beyond the original context (ModelConfig.originalContext). */
  far = false;
  private layers: (Piece & { room: number })[] | null = [];
  private readonly tokenBytes: number; // keys of one token in one layer

  constructor(
    /** (nLayers) the memory that holds the layer. */
    private readonly arenas: readonly Arena[],
    private readonly config: ModelConfig,
    /** Whether what is stored is rounded to half floats. */
    readonly halves: boolean,
    /** Most tokens it may hold. */
    readonly limit: number,
    private readonly hooks: CacheHooks,
    private readonly onFree: (cache: KvCache) => void,
  ) {
    this.tokenBytes = config.nKvHeads * config.headSize * (halves ? 2 : 4);
  }

  get length(): number {
    return this.ids.length;
  }

  get isFreed(): boolean {
    return this.layers === null;
  }

  /** Memory taken. */
  get bytes(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  }

  private get pieces(): readonly Piece[] {
    return this.layers ?? [];
  }

  /** What it has taken of one memory. */
  piecesIn(arena: Arena): readonly Piece[] {
    return this.pieces.filter((_, layer) => this.arenas[layer] === arena);
  }

  private layerAt(layer: number): Piece & { room: number } {
    if (this.layers === null) raise(SQLSTATE.internalError, 'key/value cache was used after it was freed');
    return this.layers[layer] ?? raise(SQLSTATE.internalError, `key/value cache has no room in layer ${layer}`);
  }

  keysAt(layer: number): number {
    return this.layerAt(layer).at;
  }

  valuesAt(layer: number): number {
    const { at, room } = this.layerAt(layer);
    return at + room * this.tokenBytes;
  }

  /** Write a layer's values of `tokens` tokens from position `start` on to an address of its memory, as floats (tokens, kvDim). */
  loadValues(layer: number, start: number, tokens: number, to: number): void {
    const { kernels } = this.arenas[layer]!;
    const take = this.halves ? kernels.widenF16 : kernels.copyFloats;
    take(this.valuesAt(layer) + start * this.tokenBytes, to, tokens * this.config.nKvHeads * this.config.headSize);
  }

  /**
   * Call `use` with the address of `bytes` bytes in a layer's memory, which are given back afterwards; other caches are freed
   * where memory has run out. Views of the memory are no longer valid.
   */
  withRoom(layer: number, bytes: number, use: (at: number) => void): void {
    const at = this.allocate(layer, bytes, this.length);
    try {
      use(at);
    } finally {
      this.arenas[layer]!.release(at, bytes);
    }
  }

  /** Take memory for `length` tokens in all. Addresses may change. Throws outOfMemory, or when that is over the limit. */
  reserve(length: number, poll: () => void): void {
    const layers = this.layers ?? raise(SQLSTATE.internalError, 'key/value cache was used after it was freed');
    if (length > this.limit) {
      raise(SQLSTATE.programLimitExceeded, `context holds ${this.limit} tokens, ${length} are needed`);
    }
    const { nLayers } = this.config;
    const least = layers.length < nLayers ? 0 : layers.reduce((room, piece) => Math.min(room, piece.room), Infinity);
    if (length <= least) return;
    const room = Math.min(this.limit, Math.ceil(Math.max(length, Math.floor(least * GROWTH)) / ROOM_STEP) * ROOM_STEP);
    const bytes = 2 * room * this.tokenBytes;
    this.hooks.makeRoom?.(nLayers * bytes - this.bytes);
    for (let index = 0; index < nLayers; index++) {
      const old = layers[index];
      if (old !== undefined && old.room >= room) continue;
      const arena = this.arenas[index]!;
      const piece = { at: this.allocate(index, bytes, room), bytes, room };
      if (old !== undefined) {
        const held = this.length * this.tokenBytes;
        move(arena, old.at, piece.at, held);
        move(arena, old.at + old.room * this.tokenBytes, piece.at + room * this.tokenBytes, held);
      }
      layers[index] = piece;
      if (old !== undefined) arena.release(old.at, old.bytes);
      poll();
    }
  }

  private allocate(layer: number, bytes: number, room: number): number {
    const arena = this.arenas[layer]!;
    for (;;) {
      try {
        return arena.allocate(bytes);
      } catch (cause) {
        if (!(cause instanceof HartonomousError) || cause.sqlerrcode !== SQLSTATE.outOfMemory) throw cause;
        if (this.hooks.evictOne?.() === true) continue;
        raise(
          SQLSTATE.outOfMemory,
          `context of ${room} tokens needs ${bytes} bytes more for layer ${layer}, ${arena.usedBytes} of the ${arena.maxBytes} of its WebAssembly memory are taken`,
          { detail: cause.message, hint: 'use less context (option num_ctx)', cause },
        );
      }
    }
  }

  /** Put keys and values of `tokens` tokens, floats (tokens, kvDim), into a layer, from position `start` on. */
  store(layer: number, start: number, keys: number, values: number, tokens: number): void {
    const { kernels } = this.arenas[layer]!;
    const n = tokens * this.config.nKvHeads * this.config.headSize;
    const put = this.halves ? kernels.narrowF16 : kernels.copyFloats;
    put(keys, this.keysAt(layer) + start * this.tokenBytes, n);
    put(values, this.valuesAt(layer) + start * this.tokenBytes, n);
  }

  /** Become a copy of the first `length` tokens of another cache of the same model, of which the first `same` are here already. */
  copyFrom(other: KvCache, length: number, poll: () => void, same = 0): void {
    this.truncate(same);
    this.reserve(length, poll);
    this.far = other.far;
    if (length === same) return; // an empty cache has no room yet
    for (let layer = 0; layer < this.config.nLayers; layer++) {
      const arena = this.arenas[layer]!;
      const at = same * this.tokenBytes;
      move(arena, other.keysAt(layer) + at, this.keysAt(layer) + at, (length - same) * this.tokenBytes);
      move(arena, other.valuesAt(layer) + at, this.valuesAt(layer) + at, (length - same) * this.tokenBytes);
      poll();
    }
    for (let i = same; i < length; i++) this.ids.push(other.ids[i]!);
  }

  /** Forget all but the first `length` tokens. */
  truncate(length: number): void {
    if (length < this.ids.length) this.ids.length = length;
  }

  free(): void {
    const { layers } = this;
    if (layers === null) return;
    this.ids.length = 0;
    this.layers = null;
    layers.forEach((piece, layer) => this.arenas[layer]!.release(piece.at, piece.bytes));
    this.onFree(this);
  }
}

function move(arena: Arena, from: number, to: number, bytes: number): void {
  arena.u8.copyWithin(to, from, from + bytes);
}
