/**
 * Sum of the products of `b` (dim) and as many floats of `a` from `at` on. Products of floats are exact in double precision; they are
 * added up in eight lanes, so that none waits for the one before, as host/src/kernels/generic/elements.h does: the same bits.
 */
export function innerProduct(a: Float32Array, at: number, b: Float32Array): number {
  const dim = b.length;
  const whole = dim - (dim % 8);
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let s4 = 0;
  let s5 = 0;
  let s6 = 0;
  let s7 = 0;
  for (let i = 0; i < whole; i += 8) {
    const j = at + i;
    s0 += a[j]! * b[i]!;
    s1 += a[j + 1]! * b[i + 1]!;
    s2 += a[j + 2]! * b[i + 2]!;
    s3 += a[j + 3]! * b[i + 3]!;
    s4 += a[j + 4]! * b[i + 4]!;
    s5 += a[j + 5]! * b[i + 5]!;
    s6 += a[j + 6]! * b[i + 6]!;
    s7 += a[j + 7]! * b[i + 7]!;
  }
  let sum = s0 + s4 + (s2 + s6) + (s1 + s5 + (s3 + s7));
  for (let i = whole; i < dim; i++) sum += a[at + i]! * b[i]!;
  return sum;
}
