/** The bytes of a GGUF file as the weight source and hyper-parameters that the engine reads from the database elsewhere. */
import { ggmlTypeById, rowBytes } from '../../plv8/src/format/ggml-types.ts';
import { RowAssembler, tileBytes } from '../../plv8/src/format/tiles.ts';
import type { TensorInfo, WeightSource } from '../../plv8/src/model/source.ts';

const VALUE_READERS: Record<number, (view: DataView, at: number) => readonly [value: unknown, size: number]> = {
  0: (view, at) => [view.getUint8(at), 1],
  1: (view, at) => [view.getInt8(at), 1],
  2: (view, at) => [view.getUint16(at, true), 2],
  3: (view, at) => [view.getInt16(at, true), 2],
  4: (view, at) => [view.getUint32(at, true), 4],
  5: (view, at) => [view.getInt32(at, true), 4],
  6: (view, at) => [view.getFloat32(at, true), 4],
  7: (view, at) => [view.getUint8(at) !== 0, 1],
  10: (view, at) => [Number(view.getBigUint64(at, true)), 8],
  11: (view, at) => [Number(view.getBigInt64(at, true)), 8],
  12: (view, at) => [view.getFloat64(at, true), 8],
};
const STRING = 8;
const ARRAY = 9;
const DEFAULT_ALIGNMENT = 32;

class Cursor {
  at = 8;
  constructor(
    readonly view: DataView,
    readonly bytes: Uint8Array,
  ) {}

  scalar(type: number): unknown {
    const read = VALUE_READERS[type];
    if (read === undefined) throw new Error(`unknown GGUF value type ${type} at byte ${this.at}`);
    const [value, size] = read(this.view, this.at);
    this.at += size;
    return value;
  }

  count(): number {
    return this.scalar(10) as number;
  }

  string(): string {
    const length = this.count();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }

  value(type: number): unknown {
    if (type === STRING) return this.string();
    if (type !== ARRAY) return this.scalar(type);
    const element = this.scalar(4) as number;
    return Array.from({ length: this.count() }, () => this.value(element));
  }
}

/** A tensor with where its bytes lie in the file. */
export interface FileTensor extends TensorInfo {
  rows: number;
  rowBytes: number;
  offset: number;
}

export interface GgufModel {
  architecture: string;
  hyperparameters: Record<string, unknown>;
  tensors: FileTensor[];
  bytes: Uint8Array;
  source: WeightSource;
}

/** Tensors of `bytes` as a source, in tiles cut as ingest cuts them. */
export function sourceOf(tensors: FileTensor[], bytes: Uint8Array): WeightSource {
  return {
    tensors: () => tensors.map(({ name, type, shape }) => ({ name, type, shape })),
    eachTile: (visit) => {
      for (const tensor of tensors) {
        const assembler = new RowAssembler(tensor.rowBytes);
        const end = tensor.offset + tensor.rows * tensor.rowBytes;
        for (let at = tensor.offset; at < end; at += tileBytes(tensor.rowBytes)) {
          // A copy, as PL/V8 hands out: unaligned views of the file must not be relied on.
          const tile = bytes.slice(at, Math.min(end, at + tileBytes(tensor.rowBytes)));
          assembler.add(tile, (firstRow, rows) =>
            visit({ name: tensor.name, type: tensor.type, shape: tensor.shape }, firstRow, rows),
          );
        }
      }
    },
  };
}

/** A whole GGUF v3 file. Throws on unknown value and tensor types. */
export function ggufModel(bytes: Uint8Array): GgufModel {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const cursor = new Cursor(view, bytes);
  const tensorCount = cursor.count();
  const metadata: Record<string, unknown> = {};
  for (let n = cursor.count(); n > 0; n--) {
    const key = cursor.string();
    metadata[key] = cursor.value(cursor.scalar(4) as number);
  }
  const tensors: FileTensor[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.string();
    const shape = Array.from({ length: cursor.scalar(4) as number }, () => cursor.count());
    const type = ggmlTypeById(cursor.scalar(4) as number);
    const offset = cursor.count();
    if (type === undefined) throw new Error(`tensor ${name} has an unknown type`);
    const perRow = rowBytes(type, shape[0]!);
    if (perRow === undefined) throw new Error(`tensor ${name}: ${shape[0]} values are no whole ${type.name} blocks`);
    tensors.push({
      name,
      type: type.name,
      shape,
      rows: shape.slice(1).reduce((a, b) => a * b, 1),
      rowBytes: perRow,
      offset,
    });
  }
  const alignment = Number(metadata['general.alignment'] ?? DEFAULT_ALIGNMENT);
  const base = Math.ceil(cursor.at / alignment) * alignment;
  for (const tensor of tensors) tensor.offset += base;
  const hyperparameters = Object.fromEntries(
    Object.entries(metadata).filter(([key]) => !key.startsWith('tokenizer.ggml.')),
  );
  return {
    architecture: String(metadata['general.architecture']),
    hyperparameters,
    tensors,
    bytes,
    source: sourceOf(tensors, bytes),
  };
}
