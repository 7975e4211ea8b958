/** Block formats to floats, one row at a time: the plain reading of ggml's formats, and the oracle for the kernels. */
import { raise, SQLSTATE } from '../errors.ts';

const scratch = new DataView(new ArrayBuffer(4));

/** Half float to number. */
export function halfToFloat(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

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
  switch (type) {
    case 'F32':
      for (let i = 0; i < n; i++) out[i] = view.getFloat32(i * 4, true);
      return;
    case 'F16':
      for (let i = 0; i < n; i++) out[i] = halfToFloat(view.getUint16(i * 2, true));
      return;
    case 'BF16':
      for (let i = 0; i < n; i++) out[i] = bfloatToFloat(view.getUint16(i * 2, true));
      return;
    case 'Q8_0':
      for (let i = 0, p = 0; i < n; i += 32, p += 34) {
        const scale = halfToFloat(view.getUint16(p, true));
        for (let j = 0; j < 32; j++) out[i + j] = scale * view.getInt8(p + 2 + j);
      }
      return;
    case 'Q4_0':
      for (let i = 0, p = 0; i < n; i += 32, p += 18) {
        const scale = halfToFloat(view.getUint16(p, true));
        for (let j = 0; j < 16; j++) {
          const pair = view.getUint8(p + 2 + j);
          out[i + j] = scale * ((pair & 15) - 8);
          out[i + j + 16] = scale * ((pair >> 4) - 8);
        }
      }
      return;
    case 'Q4_1':
      for (let i = 0, p = 0; i < n; i += 32, p += 20) {
        const scale = halfToFloat(view.getUint16(p, true));
        const minimum = halfToFloat(view.getUint16(p + 2, true));
        for (let j = 0; j < 16; j++) {
          const pair = view.getUint8(p + 4 + j);
          out[i + j] = scale * (pair & 15) + minimum;
          out[i + j + 16] = scale * (pair >> 4) + minimum;
        }
      }
      return;
    default:
      raise(SQLSTATE.featureNotSupported, `tensor type ${type} is not supported`);
  }
}
