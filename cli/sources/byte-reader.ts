import { fstatSync, readSync } from 'node:fs';
import { CommandError } from '../errors.ts';

/** Bytes read from the file at once. */
const CHUNK_BYTES = 1 << 20;

/**
 * Sequential little-endian reader over an open file. Every read names what it reads; a read past `limit` or past the end
 * of the file is an error before anything is allocated.
 */
export class ByteReader {
  readonly fileSize: number;
  private readonly chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  /** File offset of chunk[0]. */
  private chunkStart = 0;
  private chunkLength = 0;
  private at = 0;

  constructor(
    private readonly fd: number,
    /** Highest offset that may be read; bounds what a damaged header can make us hold. */
    private readonly limit: number,
  ) {
    this.fileSize = fstatSync(fd).size;
  }

  get position(): number {
    return this.at;
  }

  /** Refuse `bytes` more bytes unless the file has them. */
  need(bytes: number, what: string): void {
    if (bytes > this.fileSize - this.at) {
      throw new CommandError(`${what} needs bytes ${this.at} to ${this.at + bytes}, file has ${this.fileSize}`);
    }
    if (this.at + bytes > this.limit) {
      throw new CommandError(`${what} ends at byte ${this.at + bytes}, a header may have ${this.limit} bytes`);
    }
  }

  /** A view of the next `bytes` bytes (at most CHUNK_BYTES), valid until the next read. */
  private view(bytes: number, what: string): number {
    this.need(bytes, what);
    let offset = this.at - this.chunkStart;
    if (offset + bytes > this.chunkLength) {
      this.chunkStart = this.at;
      this.chunkLength = 0;
      while (this.chunkLength < bytes) {
        const got = readSync(
          this.fd,
          this.chunk,
          this.chunkLength,
          CHUNK_BYTES - this.chunkLength,
          this.chunkStart + this.chunkLength,
        );
        if (got === 0) throw new CommandError(`${what} ends early: the file shrank while it was read`);
        this.chunkLength += got;
      }
      offset = 0;
    }
    this.at += bytes;
    return offset;
  }

  u8(what: string): number {
    return this.chunk.readUInt8(this.view(1, what));
  }
  i8(what: string): number {
    return this.chunk.readInt8(this.view(1, what));
  }
  u16(what: string): number {
    return this.chunk.readUInt16LE(this.view(2, what));
  }
  i16(what: string): number {
    return this.chunk.readInt16LE(this.view(2, what));
  }
  u32(what: string): number {
    return this.chunk.readUInt32LE(this.view(4, what));
  }
  i32(what: string): number {
    return this.chunk.readInt32LE(this.view(4, what));
  }
  f32(what: string): number {
    return this.chunk.readFloatLE(this.view(4, what));
  }
  u64(what: string): bigint {
    return this.chunk.readBigUInt64LE(this.view(8, what));
  }
  i64(what: string): bigint {
    return this.chunk.readBigInt64LE(this.view(8, what));
  }
  f64(what: string): number {
    return this.chunk.readDoubleLE(this.view(8, what));
  }

  /** A 64-bit count or size as a number; values that a number cannot hold are an error. */
  size(what: string): number {
    const value = this.u64(what);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new CommandError(`${what} is ${value}, more than any file holds`);
    return Number(value);
  }

  /** Copy the next `bytes` bytes into `out` at `offset`. */
  bytesInto(out: Buffer, offset: number, bytes: number, what: string): void {
    this.need(bytes, what);
    let done = 0;
    while (done < bytes) {
      const part = Math.min(bytes - done, CHUNK_BYTES);
      const from = this.view(part, what);
      this.chunk.copy(out, offset + done, from, from + part);
      done += part;
    }
  }

  /** The next `bytes` bytes as a buffer of their own. */
  bytes(bytes: number, what: string): Buffer {
    this.need(bytes, what);
    const out = Buffer.allocUnsafe(bytes);
    this.bytesInto(out, 0, bytes, what);
    return out;
  }
}
