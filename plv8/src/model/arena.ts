/** One WebAssembly memory, handed out in 16-byte aligned pieces. Weights come first and stay; caches come and go. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Kernels, WasmMemory } from '../kernels/load.ts';
import { instantiateKernels, MAX_PAGES, newMemory, PAGE_BYTES } from '../kernels/load.ts';

/** Below this address lie the kernels' own constants. */
const FIRST_BYTE = PAGE_BYTES;
const ALIGN = 16;

function roundUp(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}

export interface Piece {
  at: number;
  bytes: number;
}

export class Arena {
  readonly kernels: Kernels;
  private readonly memory: WasmMemory;
  private next = FIRST_BYTE;
  private freed: Piece[] = [];
  /** What was handed out for good when `seal` was called: all below `next` but the pieces of `freed`. */
  private sealed: { next: number; freed: Piece[] } = { next: FIRST_BYTE, freed: [] };
  private f32View: Float32Array | null = null;
  private u8View: Uint8Array | null = null;

  /** `bytes` is what will surely be needed; more is taken from the system when asked for. */
  constructor(bytes: number) {
    const pages = Math.ceil((FIRST_BYTE + bytes) / PAGE_BYTES) + 1;
    if (pages > MAX_PAGES) {
      raise(
        SQLSTATE.programLimitExceeded,
        `model needs ${bytes} bytes of WebAssembly memory, at most ${MAX_PAGES * PAGE_BYTES} can be had`,
      );
    }
    try {
      this.memory = newMemory(pages);
    } catch (cause) {
      raise(SQLSTATE.outOfMemory, `could not allocate ${pages * PAGE_BYTES} bytes of WebAssembly memory`, { cause });
    }
    this.kernels = instantiateKernels(this.memory);
  }

  /** The next `bytes` bytes that `allocate` will hand out of memory nobody has used yet. */
  untouched(bytes: number): Uint8Array {
    return this.u8.subarray(this.next, this.next + bytes);
  }

  /** Bytes handed out and not given back. */
  get usedBytes(): number {
    return this.next - FIRST_BYTE - this.freed.reduce((sum, piece) => sum + piece.bytes, 0);
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
    const have = this.memory.buffer.byteLength / PAGE_BYTES;
    if (pages > have) {
      try {
        if (pages > MAX_PAGES) throw new RangeError('over 4 GiB');
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

  /** The whole memory as floats; taken anew after every growth. */
  get f32(): Float32Array {
    if (this.f32View === null || this.f32View.buffer !== this.memory.buffer)
      this.f32View = new Float32Array(this.memory.buffer);
    return this.f32View;
  }

  /** The whole memory as bytes; taken anew after every growth. */
  get u8(): Uint8Array {
    if (this.u8View === null || this.u8View.buffer !== this.memory.buffer)
      this.u8View = new Uint8Array(this.memory.buffer);
    return this.u8View;
  }
}
