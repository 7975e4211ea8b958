/** Products of vectors as SQL sees them, in double precision. */
import { raise, SQLSTATE } from '../errors.ts';

/** An array of SQL: elements may be null. */
type SqlVector = ArrayLike<number | null>;

function checkPair(a: SqlVector, b: SqlVector): void {
  if (a.length !== b.length)
    raise(SQLSTATE.invalidParameterValue, `different vector dimensions ${a.length} and ${b.length}`);
  for (const vector of [a, b]) {
    for (let i = 0; i < vector.length; i++) {
      if (typeof vector[i] !== 'number')
        raise(
          SQLSTATE.invalidParameterValue,
          `vector element ${i + 1} is ${vector[i] === null ? 'null' : 'no number'}`,
        );
    }
  }
}

function sumOfProducts(a: SqlVector, b: SqlVector): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Throws for vectors of different lengths and for nulls. */
export function dotProduct(a: SqlVector, b: SqlVector): number {
  checkPair(a, b);
  return sumOfProducts(a, b);
}

/** Cosine of the angle, in [-1, 1]; NaN where a vector is zero. Throws as dotProduct does. */
export function cosineSimilarity(a: SqlVector, b: SqlVector): number {
  checkPair(a, b);
  const cosine = sumOfProducts(a, b) / Math.sqrt(sumOfProducts(a, a) * sumOfProducts(b, b));
  return Math.max(-1, Math.min(1, cosine));
}
