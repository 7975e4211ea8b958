/** How the goldens' floats are stored and how two results are compared. */

/** Little-endian float32 values of a golden's base64 field. */
export function decodeFloats(base64: string): Float32Array {
  const bytes = Buffer.from(base64, 'base64');
  const floats = new Float32Array(bytes.length / 4);
  for (let i = 0; i < floats.length; i++) floats[i] = bytes.readFloatLE(4 * i);
  return floats;
}

/** Largest absolute difference; Infinity for other lengths or a value that is not finite. */
export function maxDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let most = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    if (!Number.isFinite(difference)) return Infinity;
    if (difference > most) most = difference;
  }
  return most;
}

/** Cosine of the angle between two vectors; NaN for other lengths. */
export function cosine(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return NaN;
  let dot = 0;
  let actualSquares = 0;
  let expectedSquares = 0;
  for (let i = 0; i < actual.length; i++) {
    dot += actual[i] * expected[i];
    actualSquares += actual[i] * actual[i];
    expectedSquares += expected[i] * expected[i];
  }
  return dot / Math.sqrt(actualSquares * expectedSquares);
}

export interface FirstDifference {
  /** 0-based step of the first token that differs; null when every token is equal. */
  step: number | null;
  /** Golden's top1 - top2 at that step; 0 when equal. */
  margin: number;
}

/** Where two greedy continuations part. A missing or extra token is a difference too. */
export function firstDifference(
  actual: readonly number[],
  expected: readonly number[],
  margins: readonly number[],
): FirstDifference {
  const length = Math.max(actual.length, expected.length);
  for (let step = 0; step < length; step++) {
    if (actual[step] !== expected[step]) return { step, margin: margins[step] ?? Infinity };
  }
  return { step: null, margin: 0 };
}
