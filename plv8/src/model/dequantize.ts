/** Stored rows to floats, one at a time. */
import { raise, SQLSTATE } from '../errors.ts';
import { blockReader, halfToFloat } from '../format/block-formats.ts';
import { ggmlTypeByName } from '../format/ggml-types.ts';

const scratch = new DataView(new ArrayBuffer(4));

function bfloatToFloat(b: number): number {
  scratch.setUint32(0, b << 16);
  return scratch.getFloat32(0);
}

type ElementReader = (view: DataView, at: number) => number;

/** Types whose blocks are single elements; what a float cannot hold exactly is rounded, and too large a value is infinite. */
const ELEMENT_READERS: ReadonlyMap<string, ElementReader> = new Map<string, ElementReader>([
  ['F32', (view, at) => view.getFloat32(at, true)],
  ['F16', (view, at) => halfToFloat(view.getUint16(at, true))],
  ['BF16', (view, at) => bfloatToFloat(view.getUint16(at, true))],
  ['F64', (view, at) => view.getFloat64(at, true)],
  ['I8', (view, at) => view.getInt8(at)],
  ['I16', (view, at) => view.getInt16(at, true)],
  ['I32', (view, at) => view.getInt32(at, true)],
  ['I64', (view, at) => Number(view.getBigInt64(at, true))],
]);

/**
 * Write n elements of storage type `type`, found in `bytes` from `offset` on, to out[0..n). Throws featureNotSupported
 * naming the type when it is not known.
 */
export function dequantizeRow(type: string, bytes: Uint8Array, offset: number, out: Float32Array, n: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  const readElement = ELEMENT_READERS.get(type);
  const read = blockReader(type);
  const known = ggmlTypeByName(type);
  if (readElement !== undefined && known !== undefined) {
    for (let k = 0; k < n; k++) out[k] = readElement(view, k * known.blockBytes);
    return;
  }
  if (read === undefined || known === undefined) {
    raise(SQLSTATE.featureNotSupported, `tensor type ${type} is not supported`);
  }
  let i = 0;
  const emit = (integer: number, scale: number, minimum: number): void => {
    out[i++] = Math.fround(scale * integer) + minimum;
  };
  for (let block = 0; block < n / known.blockSize; block++) read(view, block * known.blockBytes, emit);
}
