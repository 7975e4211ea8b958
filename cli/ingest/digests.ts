import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { tileBytes } from '../../plv8/src/format/tiles.ts';
import type { GgufHeader } from '../sources/gguf.ts';

const BUFFER_BYTES = 4 << 20;

/** A run of a tensor's bytes as it is stored. */
export interface Tile {
  /** SHA-256. */
  hash: Buffer;
  /** First byte in the file. */
  offset: number;
  bytes: number;
}

export interface TensorDigest {
  /** SHA-256 of the tensor's bytes. */
  digest: Buffer;
  tiles: Tile[];
}

export interface Digests {
  /** SHA-256 of the whole file. */
  file: Buffer;
  /** By place in the header. */
  tensors: TensorDigest[];
}

export interface HashOptions {
  /** Called after every few megabytes. */
  onBytes?(done: number): void;
  signal?: AbortSignal;
}

/** Visit the whole file in order, the next piece being read while one is visited. */
async function eachPiece(
  file: FileHandle,
  fileSize: number,
  options: HashOptions,
  visit: (piece: Buffer, at: number) => void,
): Promise<void> {
  const buffers = [Buffer.allocUnsafe(BUFFER_BYTES), Buffer.allocUnsafe(BUFFER_BYTES)] as const;
  const read = (at: number, turn: number): Promise<{ bytesRead: number }> =>
    file.read(buffers[turn & 1] as Buffer, 0, Math.min(BUFFER_BYTES, fileSize - at), at);
  let next = read(0, 0);
  for (let at = 0, turn = 0; at < fileSize; turn++) {
    const { bytesRead } = await next;
    if (bytesRead === 0) break;
    options.signal?.throwIfAborted();
    const after = at + bytesRead;
    next = after < fileSize ? read(after, turn + 1) : next;
    visit((buffers[turn & 1] as Buffer).subarray(0, bytesRead), at);
    at = after;
    options.onBytes?.(at);
  }
}

/** SHA-256 of the whole file alone. */
export async function hashFile(file: FileHandle, fileSize: number, options: HashOptions = {}): Promise<Buffer> {
  const hash = createHash('sha256');
  await eachPiece(file, fileSize, options, (piece) => hash.update(piece));
  return hash.digest();
}

/** Hashes the tensor that begins at `offset`, whole and tile by tile, as its bytes come. */
class TensorHasher {
  private readonly whole = createHash('sha256');
  private tile: Hash = createHash('sha256');
  private tileAt: number;
  private at: number;
  private readonly end: number;
  private readonly tileBytes: number;
  readonly tiles: Tile[] = [];

  constructor(tensor: { offset: number; sizeBytes: number; rowBytes: number }) {
    this.at = this.tileAt = tensor.offset;
    this.end = tensor.offset + tensor.sizeBytes;
    this.tileBytes = tileBytes(tensor.rowBytes);
  }

  update(bytes: Buffer): void {
    // A tensor of one tile has one digest.
    if (this.end - this.tileAt > this.tileBytes || this.tiles.length > 0) this.whole.update(bytes);
    for (let from = 0; from < bytes.length;) {
      const tileEnd = Math.min(this.end, this.tileAt + this.tileBytes);
      const to = Math.min(bytes.length, from + tileEnd - this.at);
      this.tile.update(bytes.subarray(from, to));
      this.at += to - from;
      from = to;
      if (this.at === tileEnd) {
        this.tiles.push({ hash: this.tile.digest(), offset: this.tileAt, bytes: tileEnd - this.tileAt });
        this.tile = createHash('sha256');
        this.tileAt = tileEnd;
      }
    }
  }

  finish(): TensorDigest {
    const only = this.tiles.length === 1 ? this.tiles[0] : undefined;
    return { digest: only?.hash ?? this.whole.digest(), tiles: this.tiles };
  }
}

/** Hash the whole file, every tensor and every tile in one sequential pass. */
export async function hashTensors(file: FileHandle, header: GgufHeader, options: HashOptions = {}): Promise<Digests> {
  const whole = createHash('sha256');
  const hashers = header.tensors.map((tensor) => new TensorHasher(tensor));
  const order = header.tensors
    .map((tensor, index) => ({ tensor, index }))
    .sort((a, b) => a.tensor.offset - b.tensor.offset);
  let first = 0;
  await eachPiece(file, header.fileSize, options, (piece, at) => {
    whole.update(piece);
    const end = at + piece.length;
    while (first < order.length && order[first]!.tensor.offset + order[first]!.tensor.sizeBytes <= at) first++;
    for (let i = first; i < order.length && order[i]!.tensor.offset < end; i++) {
      const { tensor, index } = order[i]!;
      const from = Math.max(tensor.offset, at) - at;
      const to = Math.min(tensor.offset + tensor.sizeBytes, end) - at;
      if (to > from) hashers[index]!.update(piece.subarray(from, to));
    }
  });
  return { file: whole.digest(), tensors: hashers.map((hasher) => hasher.finish()) };
}
