import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import { SHARED_OVERLAP } from '../kernels/load.ts';
import type { Arena, Piece } from './arena.ts';
import type { ModelConfig } from './config.ts';

/** Memory is taken for that many tokens at a time, at least. */
const ROOM_STEP = 32;
/** A cache that has to grow takes this much more than it had, so that growing copies every token a few times at most. */
const GROWTH = 1.5;
/** A cache that begins with what others have, too, has room of its own for so many tokens at least. */
const LEAST_OWN_ROOM = 2 * ROOM_STEP;
/** Fewer tokens are copied. */
const LEAST_SHARED = 4 * ROOM_STEP;

/** Keys, then values, of one layer. */
type LayerPiece = Piece & { room: number };

/** Keys and values of leading tokens that several caches have in common; nobody writes to them any more. */
export interface Beginning {
  readonly layers: readonly LayerPiece[];
  readonly bytes: number;
  /** Caches that have it. */
  users: number;
}

/** Addresses, as attentionShared takes them. */
export interface KeyValuePlaces {
  keys: number;
  values: number;
  /** Leading positions that stand elsewhere; the others begin SHARED_OVERLAP before where these end. */
  shared: number;
  sharedKeys: number;
  sharedValues: number;
}

/** Of a sequence that has all its keys and values itself. */
export const NOTHING_SHARED = { shared: 0, sharedKeys: 0, sharedValues: 0 } as const;

/** What the owner of several caches does about memory. */
export interface CacheHooks {
  /** Called before `bytes` more are taken. */
  makeRoom?(bytes: number): void;
  /** Free another cache because memory has run out; false when there is none to free. */
  evictOne?(): boolean;
}

/**
 * Keys and values of one sequence's tokens, floats or half floats: per layer a piece of (room, kvDim) keys, then as many values. Grows
 * on demand, layer by layer. Leading tokens may stand in a beginning that other caches have, too. At every moment what `ids` says is there and right, so a call that is cut off anywhere,
 * even where no `finally` runs, leaves a cache that can be continued.
 */
export class KvCache {
  /** Ids whose keys and values are here; the cache's length is theirs. */
  readonly ids: number[] = [];
  /** Whether its keys are rotated as those of a sequence beyond the original context (ModelConfig.originalContext). */
  far = false;
  private layers: LayerPiece[] | null = [];
  private beginning: Beginning | null = null;
  /** Leading positions that are read out of the beginning; the cache's own begin SHARED_OVERLAP before where they end. */
  private shared = 0;
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

  /** Memory that it has alone. */
  get bytes(): number {
    return bytesOf(this.layers ?? []);
  }

  /** What it has, or can have, in common with others. */
  get commonBeginning(): Beginning | null {
    return this.beginning;
  }

  /** What it has of one memory, alone or with others. */
  piecesIn(arena: Arena): readonly Piece[] {
    const within = (pieces: readonly Piece[]): Piece[] => pieces.filter((_, layer) => this.arenas[layer] === arena);
    return [...within(this.layers ?? []), ...within(this.beginning?.layers ?? [])];
  }

  private layerAt(layer: number): LayerPiece {
    if (this.layers === null) raise(SQLSTATE.internalError, 'key/value cache was used after it was freed');
    return this.layers[layer] ?? raise(SQLSTATE.internalError, `key/value cache has no room in layer ${layer}`);
  }

  /** The first position whose keys and values are its own. */
  private get ownFrom(): number {
    return Math.max(0, this.shared - SHARED_OVERLAP);
  }

  private keysIn(piece: LayerPiece, row: number): number {
    return piece.at + row * this.tokenBytes;
  }

  private valuesIn(piece: LayerPiece, row: number): number {
    return piece.at + (piece.room + row) * this.tokenBytes;
  }

  /** Where a layer's keys and values lie. */
  placesAt(layer: number): KeyValuePlaces {
    const own = this.layerAt(layer);
    const others = this.shared > 0 ? this.beginning!.layers[layer]! : null;
    return {
      keys: this.keysIn(own, 0),
      values: this.valuesIn(own, 0),
      shared: this.shared,
      sharedKeys: others === null ? 0 : this.keysIn(others, 0),
      sharedValues: others === null ? 0 : this.valuesIn(others, 0),
    };
  }

  /** Where a layer's keys lie, of a cache that has all of them itself. */
  keysAt(layer: number): number {
    this.refuseShared();
    return this.layerAt(layer).at;
  }

  private refuseShared(): void {
    if (this.shared > 0) raise(SQLSTATE.internalError, 'key/value cache has its beginning in common with others');
  }

  /** Write a layer's values of `tokens` tokens from position `start` on to an address of its memory, as floats (tokens, kvDim). */
  loadValues(layer: number, start: number, tokens: number, to: number): void {
    this.refuseShared();
    const { kernels } = this.arenas[layer]!;
    const take = this.halves ? kernels.widenF16 : kernels.copyFloats;
    take(this.valuesIn(this.layerAt(layer), start), to, tokens * this.config.nKvHeads * this.config.headSize);
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
    this.alignBeginning();
    const { nLayers } = this.config;
    const from = this.ownFrom;
    const least = layers.length < nLayers ? 0 : layers.reduce((room, piece) => Math.min(room, piece.room), Infinity);
    if (length - from <= least) return;
    const wanted = roomFor(Math.max(length - from, Math.floor(least * GROWTH)), this.limit - from);
    this.hooks.makeRoom?.(nLayers * this.bytesFor(wanted) - this.bytes);
    for (let index = 0; index < nLayers; index++) {
      const old = layers[index];
      if (old !== undefined && old.room >= wanted) continue;
      const arena = this.arenas[index]!;
      const piece = this.newPiece(index, wanted, from + wanted);
      if (old !== undefined) this.copyRows(index, { piece: old, row: 0 }, { piece, row: 0 }, this.length - from);
      layers[index] = piece;
      if (old !== undefined) arena.release(old.at, old.bytes);
      poll();
    }
  }

  private bytesFor(room: number): number {
    return 2 * room * this.tokenBytes;
  }

  private newPiece(layer: number, room: number, context: number): LayerPiece {
    const bytes = this.bytesFor(room);
    return { at: this.allocate(layer, bytes, context), bytes, room };
  }

  /** Copy keys and values of `rows` tokens of a layer from one of its pieces to another. */
  private copyRows(layer: number, from: Row, to: Row, rows: number): void {
    const arena = this.arenas[layer]!;
    const bytes = rows * this.tokenBytes;
    move(arena, this.keysIn(from.piece, from.row), this.keysIn(to.piece, to.row), bytes);
    move(arena, this.valuesIn(from.piece, from.row), this.valuesIn(to.piece, to.row), bytes);
  }

  /** Copy positions [start, end) of a layer, wherever they lie, to a piece whose first row is position `first`. */
  private copyTo(piece: LayerPiece, first: number, layer: number, start: number, end: number): void {
    const split = Math.min(Math.max(this.shared, start), end);
    if (split > start)
      this.copyRows(
        layer,
        { piece: this.beginning!.layers[layer]!, row: start },
        { piece, row: start - first },
        split - start,
      );
    if (end > split)
      this.copyRows(
        layer,
        { piece: this.layerAt(layer), row: split - this.ownFrom },
        { piece, row: split - first },
        end - split,
      );
  }

  /**
   * Where tokens of the beginning were forgotten: have the own positions begin SHARED_OVERLAP before those that are left, or with
   * the first where there is room for all. Takes no memory.
   */
  private alignBeginning(): void {
    const { length } = this.ids;
    if (this.shared <= length) return;
    const keeps = length > LEAST_OWN_ROOM;
    const from = keeps ? length - SHARED_OVERLAP : 0;
    for (let layer = 0; layer < this.config.nLayers; layer++)
      this.copyTo(this.layerAt(layer), from, layer, from, length);
    this.shared = keeps ? length : 0;
    if (!keeps) this.release(this.leaveBeginning());
  }

  /** What is to be released, for which nobody has it any more. */
  private leaveBeginning(): readonly LayerPiece[] {
    const { beginning } = this;
    this.beginning = null;
    this.shared = 0;
    return beginning === null || --beginning.users > 0 ? [] : beginning.layers;
  }

  /** New pieces of a cache whose own positions begin at `first`, filled from `source` up to position `end`. */
  private piecesFrom(source: KvCache, first: number, end: number, room: number, poll: () => void): LayerPiece[] {
    const pieces: LayerPiece[] = [];
    try {
      for (let layer = 0; layer < this.config.nLayers; layer++) {
        const piece = this.newPiece(layer, room, first + room);
        pieces.push(piece);
        source.copyTo(piece, first, layer, first, end);
        poll();
      }
    } catch (error) {
      this.release(pieces);
      throw error;
    }
    return pieces;
  }

  /**
   * Set the first `length` tokens apart for other caches to have, too, if there are enough, no beginning is there already, and there
   * is memory to do so.
   */
  private makeBeginning(length: number, poll: () => void): void {
    if (this.layers === null || this.beginning !== null || length < LEAST_SHARED) return;
    try {
      this.setApart(this.layers, length, poll);
    } catch (error) {
      if (!(error instanceof HartonomousError) || error.sqlerrcode !== SQLSTATE.outOfMemory) throw error;
    }
  }

  private setApart(layers: readonly LayerPiece[], length: number, poll: () => void): void {
    const { room } = layers[0]!;
    const first = length - SHARED_OVERLAP;
    const ownRoom = Math.max(LEAST_OWN_ROOM, roomFor(this.length - first, this.limit));
    // What it has taken becomes the beginning, but where most of that would stay empty.
    const isFitting = 2 * length >= room;
    this.hooks.makeRoom?.(this.config.nLayers * this.bytesFor(ownRoom + (isFitting ? 0 : length)));
    const common = isFitting ? layers : this.piecesFrom(this, 0, length, length, poll);
    let own: LayerPiece[];
    try {
      own = this.piecesFrom(this, first, this.length, ownRoom, poll);
    } catch (error) {
      if (!isFitting) this.release(common);
      throw error;
    }
    this.beginning = { layers: common, bytes: bytesOf(common), users: 1 };
    this.layers = own;
    this.shared = length;
    if (!isFitting) this.release(layers);
  }

  private release(pieces: readonly LayerPiece[]): void {
    pieces.forEach((piece, layer) => this.arenas[layer]!.release(piece.at, piece.bytes));
  }

  /**
   * A cache that has taken nothing yet becomes the first `length` tokens of another one of the same model, with room for `expected`
   * tokens in all. What can be had in common is not copied. Throws outOfMemory.
   */
  beginAs(other: KvCache, length: number, expected: number, poll: () => void): void {
    other.alignBeginning();
    other.makeBeginning(length, poll);
    const { beginning } = other;
    const shared = Math.min(length, other.shared);
    if (beginning === null || shared < LEAST_SHARED) {
      this.reserve(expected, poll);
      this.copyFrom(other, length, poll);
      return;
    }
    const first = shared - SHARED_OVERLAP;
    const room = Math.max(LEAST_OWN_ROOM, roomFor(Math.max(length, expected) - first, this.limit - first));
    this.hooks.makeRoom?.(this.config.nLayers * this.bytesFor(room));
    const own = this.piecesFrom(other, first, length, room, poll);
    beginning.users++;
    this.beginning = beginning;
    this.layers = own;
    this.shared = shared;
    this.far = other.far;
    for (let i = 0; i < length; i++) this.ids.push(other.ids[i]!);
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
    const piece = this.layerAt(layer);
    const row = start - this.ownFrom;
    if (row < 0 || row + tokens > piece.room) {
      raise(
        SQLSTATE.internalError,
        `key/value cache has no room of its own for positions ${start} to ${start + tokens}`,
      );
    }
    const n = tokens * this.config.nKvHeads * this.config.headSize;
    const put = this.halves ? kernels.narrowF16 : kernels.copyFloats;
    put(keys, this.keysIn(piece, row), n);
    put(values, this.valuesIn(piece, row), n);
  }

  /** Become a copy of the first `length` tokens of another cache of the same model, of which the first `same` are here already. */
  copyFrom(other: KvCache, length: number, poll: () => void, same = 0): void {
    this.truncate(same);
    this.reserve(length, poll);
    this.far = other.far;
    if (length === same) return; // an empty cache has no room yet
    for (let layer = 0; layer < this.config.nLayers; layer++) {
      other.copyTo(this.layerAt(layer), this.ownFrom, layer, same, length);
      poll();
    }
    for (let i = same; i < length; i++) this.ids.push(other.ids[i]!);
  }

  /** Forget all but the first `length` tokens. */
  truncate(length: number): void {
    if (length >= this.ids.length) return;
    this.ids.length = length;
    this.alignBeginning();
  }

  free(): void {
    const { layers } = this;
    if (layers === null) return;
    this.ids.length = 0;
    this.layers = null;
    const others = this.leaveBeginning();
    this.onFree(this);
    // Nobody knows of these any more: what a call that is cut off here leaves behind the next one finds.
    this.release(layers);
    this.release(others);
  }
}

/** A token's place in a piece. */
interface Row {
  piece: LayerPiece;
  row: number;
}

/** Memory that several caches take; what they have in common counts once. */
export function bytesOfCaches(caches: readonly KvCache[]): number {
  const beginnings = new Set(caches.map((cache) => cache.commonBeginning));
  const common = [...beginnings].reduce((sum, beginning) => sum + (beginning?.bytes ?? 0), 0);
  return common + caches.reduce((sum, cache) => sum + cache.bytes, 0);
}

function bytesOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.bytes, 0);
}

/** Room for so many tokens, in steps, and no more than may ever be needed. */
function roomFor(tokens: number, most: number): number {
  return Math.min(most, Math.ceil(tokens / ROOM_STEP) * ROOM_STEP);
}

function move(arena: Arena, from: number, to: number, bytes: number): void {
  arena.u8.copyWithin(to, from, from + bytes);
}
