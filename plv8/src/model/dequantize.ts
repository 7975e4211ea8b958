/** Stored rows to floats, one at a time. */
import { raise, SQLSTATE } from '../errors.ts';
import { blockReader, halfToFloat } from '../format/block-formats.ts';
import { ggmlTypeByName } from '../format/ggml-types.ts';

const scratch = new DataView(new ArrayBuffer(4));

function bfloatToFloat(b: number): number {
  scratch.setUint32(0, b << 16);
  return scratch.getFloat32(0);
}

/**
 * Write n elements of storage type `type`, found in `bytes` from `offset` on, to out[0..n). Throws featureNotSupported
 * naming the type when it is not known.
 */
export function dequantizeRow(type: string, bytes: Uint8Array, offset: number, out: Float32Array, n: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  if (type === 'F32') {
    for (let i = 0; i < n; i++) out[i] = view.getFloat32(i * 4, true);
    return;
  }
  if (type === 'F16') {
    for (let i = 0; i < n; i++) out[i] = halfToFloat(view.getUint16(i * 2, true));
    return;
  }
  if (type === 'BF16') {
    for (let i = 0; i < n; i++) out[i] = bfloatToFloat(view.getUint16(i * 2, true));
    return;
  }
  const read = blockReader(type);
  const known = ggmlTypeByName(type);
  if (read === undefined || known === undefined) {
    raise(SQLSTATE.featureNotSupported, `tensor type ${type} is not supported`);
  }
  let i = 0;
  const emit = (integer: number, scale: number, minimum: number): void => {
    out[i++] = Math.fround(scale * integer) + minimum;
  };
  for (let block = 0; block < n / known.blockSize; block++) read(view, block * known.blockBytes, emit);
}
