import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { tileBytes } from '../../plv8/src/format/tiles.ts';
import { CommandError } from '../errors.ts';
import type { ModelSource } from '../sources/model-source.ts';
import { FiniteCheck } from './finite.ts';

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
  /** SHA-256 that stands for the model: of its file, or of the lines that sha256sum prints for several. */
  model: Buffer;
  /** SHA-256 of each file. */
  files: Buffer[];
  /** By place among the tensors. */
  tensors: TensorDigest[];
}

export interface HashOptions {
  /** Called after every few megabytes. */
  onBytes?(done: number): void;
  signal?: AbortSignal;
  /** Refuse weights that are no finite numbers. */
  finite?: boolean;
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

/** A thread that hashes what a descriptor of this process holds; text, so that it needs no file beside the bundled program. */
const FILE_HASHER = `
const { parentPort, workerData } = require('node:worker_threads');
const { readSync } = require('node:fs');
const hash = require('node:crypto').createHash('sha256');
const buffer = Buffer.allocUnsafe(${BUFFER_BYTES});
for (let at = 0; at < workerData.size;) {
  const bytes = readSync(workerData.fd, buffer, 0, Math.min(buffer.length, workerData.size - at), at);
  if (bytes === 0) break;
  hash.update(buffer.subarray(0, bytes));
  at += bytes;
}
parentPort.postMessage(hash.digest());
`;

/** SHA-256 of a file, made by another thread while this one hashes its tensors. */
class FileHasher {
  private readonly worker: Worker;
  private readonly digest: Promise<Buffer>;

  constructor(file: FileHandle, size: number) {
    this.worker = new Worker(FILE_HASHER, { eval: true, workerData: { fd: file.fd, size } });
    this.digest = new Promise((resolve, reject) => {
      this.worker.once('message', (bytes: Uint8Array) => resolve(Buffer.from(bytes)));
      this.worker.once('error', reject);
      this.worker.once('exit', () => reject(new Error('the thread that hashes a file ended early')));
    });
    this.digest.catch(() => undefined); // reported when it is awaited, unless reading fails first
  }

  finish(): Promise<Buffer> {
    return this.digest;
  }

  async stop(): Promise<void> {
    await this.worker.terminate();
  }
}

/** SHA-256 that stands for all files together. */
function digestOfFiles(source: ModelSource, files: readonly Buffer[]): Buffer {
  if (files.length === 1) return files[0] as Buffer;
  const hash = createHash('sha256');
  source.files.forEach((file, i) => hash.update(`${files[i]!.toString('hex')}  ${file.name}\n`));
  return hash.digest();
}

/** SHA-256 that stands for the model, without those of tensors and tiles. */
export async function hashFiles(source: ModelSource, options: HashOptions = {}): Promise<Buffer> {
  const digests: Buffer[] = [];
  let before = 0;
  for (const file of source.files) {
    const hash = createHash('sha256');
    const progress = { ...options, onBytes: (done: number) => options.onBytes?.(before + done) };
    await eachPiece(file.handle, file.size, progress, (piece) => hash.update(piece));
    digests.push(hash.digest());
    before += file.size;
  }
  return digestOfFiles(source, digests);
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

/** Hash the tensors of one file, in file order, into `found`. */
async function hashTensors(
  source: ModelSource,
  number: number,
  found: TensorDigest[],
  options: HashOptions,
): Promise<void> {
  const { handle, size } = source.files[number]!;
  const order = source.tensors
    .map((tensor, index) => ({
      tensor,
      index,
      hasher: null as TensorHasher | null,
      check: options.finite === true ? new FiniteCheck(tensor) : null,
    }))
    .filter(({ tensor }) => tensor.file === number)
    .sort((a, b) => a.tensor.offset - b.tensor.offset);
  let first = 0;
  await eachPiece(handle, size, options, (piece, at) => {
    const end = at + piece.length;
    for (let i = first; i < order.length && order[i]!.tensor.offset < end; i++) {
      const entry = order[i]!;
      const { tensor, index } = entry;
      const from = Math.max(tensor.offset, at) - at;
      const to = Math.min(tensor.offset + tensor.sizeBytes, end) - at;
      const hasher = (entry.hasher ??= new TensorHasher(tensor));
      if (to > from) {
        hasher.update(piece.subarray(from, to));
        entry.check?.update(piece.subarray(from, to));
      }
      if (tensor.offset + tensor.sizeBytes <= end) {
        entry.check?.finish();
        found[index] = hasher.finish();
        entry.hasher = null;
        first = i + 1;
      }
    }
  });
}

/** Hash every file, every tensor and every tile. */
export async function hashModel(source: ModelSource, options: HashOptions = {}): Promise<Digests> {
  const tensors = new Array<TensorDigest>(source.tensors.length);
  const files: Buffer[] = [];
  let before = 0;
  for (const [number, file] of source.files.entries()) {
    const whole = new FileHasher(file.handle, file.size);
    try {
      const progress = { ...options, onBytes: (done: number) => options.onBytes?.(before + done) };
      await hashTensors(source, number, tensors, progress);
      files.push(await whole.finish());
    } finally {
      await whole.stop();
    }
    before += file.size;
    const cut = source.tensors.find((tensor, i) => tensor.file === number && tensors[i] === undefined);
    if (cut !== undefined) throw new CommandError(`file ${file.path} ends inside tensor ${cut.name}`);
  }
  return { model: digestOfFiles(source, files), files, tensors };
}
