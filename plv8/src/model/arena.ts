/**
 * One WebAssembly memory, handed out in 16-byte aligned pieces. Weights come first and stay; caches come and go. Weights
 * that backends share stand at the top instead, in pages of their own that the host maps and that JavaScript has no view of;
 * such a memory never grows, because V8 would copy it.
 */
import { raise, SQLSTATE } from '../errors.ts';
import type { Kernels } from '../kernels/load.ts';
import { instantiateKernels, MAX_PAGES, newMemory, PAGE_BYTES } from '../kernels/load.ts';
import type { WasmMemory } from '../kernels/web-assembly.ts';

/** What the host can map: pages of the operating system. */
const SYSTEM_PAGE_BYTES = 4096;
/** Sizes to try for a memory that cannot grow, beyond what is surely needed; pages that nobody touches cost nothing. */
const ROOM_BYTES = [4 * 1024 ** 3, 1024 ** 3];

/** Bytes that stay free beside weights that are mapped, so that these can begin where a page of the system's largest kind does. */
const SEGMENT_ROOM_BYTES = 2 * 1024 ** 2;

/** Below this address lie the kernels' own constants. */
const FIRST_BYTE = PAGE_BYTES;
const ALIGN = 16;

/** The most bytes of one memory. */
export const MAX_MEMORY_BYTES = MAX_PAGES * PAGE_BYTES;
/** Bytes of a memory that are not handed out, at most: the first page, and what rounding to pages takes. */
export const ARENA_OVERHEAD_BYTES = FIRST_BYTE + 4 * PAGE_BYTES + SEGMENT_ROOM_BYTES;

function roundUp(bytes: number, unit = ALIGN): number {
  return Math.ceil(bytes / unit) * unit;
}

export interface Piece {
  at: number;
  bytes: number;
}

export class Arena {
  readonly kernels: Kernels;
  private readonly memory: WasmMemory;
  private readonly maxPages: number;
  private next = FIRST_BYTE;
  private freed: Piece[] = [];
  /** What was handed out for good when `seal` was called: all below `next` but the pieces of `freed`. */
  private sealed: { next: number; freed: Piece[] } = { next: FIRST_BYTE, freed: [] };
  /** Where the part for weights begins; Infinity when they stand among the rest. */
  private weightsAt = Infinity;
  private nextWeight = 0;
  private mapped = 0;
  private f32View: Float32Array | null = null;
  private u8View: Uint8Array | null = null;

  /**
   * `bytes` is what will surely be needed; more is taken from the system when asked for, up to `limit` in all. With
   * `weightBytes`, so many more are set apart at the top for weights to be shared, where `place` says. Throws outOfMemory.
   */
  constructor(
    bytes: number,
    weightBytes: number | null = null,
    limit = MAX_MEMORY_BYTES,
    place?: (memory: WasmMemory, at: number) => number,
  ) {
    const top = weightBytes === null ? 0 : roundUp(weightBytes, PAGE_BYTES) + SEGMENT_ROOM_BYTES;
    const pages = Math.ceil((FIRST_BYTE + bytes + top) / PAGE_BYTES) + 1;
    this.maxPages = Math.min(MAX_PAGES, Math.floor(limit / PAGE_BYTES));
    if (pages > this.maxPages) {
      raise(
        SQLSTATE.programLimitExceeded,
        `model needs ${bytes + top} bytes of WebAssembly memory, one memory holds ${this.maxPages * PAGE_BYTES}`,
      );
    }
    try {
      this.memory = weightBytes === null ? newMemory(pages, this.maxPages) : fixedMemory(pages, this.maxPages);
    } catch (cause) {
      raise(SQLSTATE.outOfMemory, `could not allocate ${pages * PAGE_BYTES} bytes of WebAssembly memory`, { cause });
    }
    if (weightBytes !== null) {
      const at = this.memory.buffer.byteLength - top;
      this.weightsAt = place?.(this.memory, at) ?? at;
      this.nextWeight = this.weightsAt;
    }
    this.kernels = instantiateKernels(this.memory);
  }

  /** The next `bytes` bytes that `allocateWeights` will hand out of memory nobody has used yet. */
  untouched(bytes: number): Uint8Array {
    const at = this.weightsAt === Infinity ? this.next : this.nextWeight;
    return this.u8.subarray(at, at + bytes);
  }

  /** Bytes handed out and not given back. */
  get usedBytes(): number {
    const weights = this.weightsAt === Infinity ? 0 : this.nextWeight - this.weightsAt;
    return this.next - FIRST_BYTE - this.freed.reduce((sum, piece) => sum + piece.bytes, 0) + weights;
  }

  /** Bytes that it can hold at most. */
  get maxBytes(): number {
    return Math.max(this.maxPages * PAGE_BYTES, this.memory.buffer.byteLength);
  }

  /** Bytes of it that backends share. */
  get sharedBytes(): number {
    return this.mapped;
  }

  /** Address where the weights that can be shared begin. */
  get firstWeight(): number {
    return this.weightsAt;
  }

  /** As `allocate`, for weights. */
  allocateWeights(bytes: number): number {
    if (this.weightsAt === Infinity) return this.allocate(bytes);
    const at = this.nextWeight;
    this.nextWeight += roundUp(bytes);
    if (this.nextWeight > this.memory.buffer.byteLength) {
      raise(
        SQLSTATE.internalError,
        `weights take more than the ${this.memory.buffer.byteLength - this.weightsAt} bytes planned`,
      );
    }
    return at;
  }

  /** Call `use` with the memory and the place of the weights: whole pages that begin with the first. */
  withWeights<T>(use: (memory: WasmMemory, at: number, bytes: number) => T): T {
    return use(this.memory, this.weightsAt, roundUp(this.nextWeight - this.weightsAt, SYSTEM_PAGE_BYTES));
  }

  /** The first `bytes` bytes of weights are mapped now: JavaScript has no view of them any more. */
  sealWeights(bytes: number): void {
    this.mapped = bytes;
    this.nextWeight = this.weightsAt + bytes;
    this.f32View = null;
    this.u8View = null;
  }

  /** Address of `bytes` bytes; their content is whatever was there. Throws outOfMemory when the memory cannot grow. */
  allocate(bytes: number): number {
    const size = roundUp(bytes);
    const fit = this.freed.findIndex((piece) => piece.bytes >= size);
    if (fit >= 0) {
      const piece = this.freed[fit]!;
      const at = piece.at;
      piece.at += size;
      piece.bytes -= size;
      if (piece.bytes === 0) this.freed.splice(fit, 1);
      return at;
    }
    const end = this.next + size;
    const pages = Math.ceil(end / PAGE_BYTES);
    const have = Math.min(this.memory.buffer.byteLength, this.weightsAt) / PAGE_BYTES;
    if (pages > have) {
      try {
        if (this.weightsAt !== Infinity) throw new RangeError('memory with shared weights does not grow');
        if (pages > this.maxPages) throw new RangeError(`over ${this.maxPages * PAGE_BYTES} bytes`);
        this.memory.grow(pages - have);
      } catch (cause) {
        raise(SQLSTATE.outOfMemory, `could not grow WebAssembly memory from ${have * PAGE_BYTES} to ${end} bytes`, {
          cause,
        });
      }
    }
    const at = this.next;
    this.next = end;
    return at;
  }

  /** Give back what `allocate` handed out. */
  release(at: number, bytes: number): void {
    this.freed.push({ at, bytes: roundUp(bytes) });
    this.freed.sort((a, b) => a.at - b.at);
    const merged: Piece[] = [];
    for (const piece of this.freed) {
      const last = merged[merged.length - 1];
      if (last !== undefined && last.at + last.bytes === piece.at) last.bytes += piece.bytes;
      else merged.push({ ...piece });
    }
    const last = merged[merged.length - 1];
    if (last !== undefined && last.at + last.bytes === this.next) {
      this.next = last.at;
      merged.pop();
    }
    this.freed = merged;
  }

  /** What is handed out now stays for good; `retain` keeps it. */
  seal(): void {
    this.sealed = { next: this.next, freed: this.freed.map((piece) => ({ ...piece })) };
  }

  /** Give back all that was handed out since `seal` but these pieces, whatever was lost where a call was cut off. */
  retain(pieces: Iterable<Piece>): void {
    const live = [...pieces].sort((a, b) => a.at - b.at);
    const holes: Piece[] = [];
    const last = live[live.length - 1];
    const next = Math.max(this.sealed.next, last === undefined ? 0 : last.at + roundUp(last.bytes));
    for (const region of [...this.sealed.freed, { at: this.sealed.next, bytes: next - this.sealed.next }]) {
      const end = region.at + region.bytes;
      let from = region.at;
      for (const piece of live) {
        if (piece.at < region.at || piece.at >= end) continue;
        if (piece.at > from) holes.push({ at: from, bytes: piece.at - from });
        from = piece.at + roundUp(piece.bytes);
      }
      if (end > from) holes.push({ at: from, bytes: end - from });
    }
    this.freed = holes;
    this.next = next;
  }

  /** The memory as floats, without weights that are shared; taken anew after every growth. */
  get f32(): Float32Array {
    if (this.f32View === null || this.f32View.buffer !== this.memory.buffer)
      this.f32View = new Float32Array(this.memory.buffer, 0, this.viewBytes / 4);
    return this.f32View;
  }

  /** The memory as bytes, without weights that are shared; taken anew after every growth. */
  get u8(): Uint8Array {
    if (this.u8View === null || this.u8View.buffer !== this.memory.buffer)
      this.u8View = new Uint8Array(this.memory.buffer, 0, this.viewBytes);
    return this.u8View;
  }

  private get viewBytes(): number {
    return this.mapped > 0 ? this.weightsAt : this.memory.buffer.byteLength;
  }
}

/** A memory of at least `pages` and at most `maxPages` pages that never grows. */
function fixedMemory(pages: number, maxPages: number): WasmMemory {
  let failure: unknown;
  for (const room of ROOM_BYTES) {
    const size = Math.min(pages + room / PAGE_BYTES, maxPages);
    try {
      return newMemory(size, size);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
