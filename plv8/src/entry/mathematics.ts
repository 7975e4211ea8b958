/** Mathematics in SQL. */
import { raise, SQLSTATE } from '../errors.ts';
import { hilbertDecode as decodeHilbert, hilbertEncode as encodeHilbert } from '../hilbert/hilbert.ts';

export { cosineSimilarity, dotProduct } from '../model/vector-maths.ts';

/** What the curve says of a wrong argument, with the SQLSTATE of a wrong argument. */
function onCurve<T>(compute: () => T): T {
  try {
    return compute();
  } catch (error) {
    if (error instanceof RangeError) raise(SQLSTATE.invalidParameterValue, error.message);
    throw error;
  }
}

export function hilbertEncode(point: ArrayLike<number>, bits: number): bigint {
  return onCurve(() => encodeHilbert(point, bits));
}

export function hilbertDecode(index: bigint | number, dims: number, bits: number): number[] {
  return onCurve(() => decodeHilbert(BigInt(index), dims, bits));
}
