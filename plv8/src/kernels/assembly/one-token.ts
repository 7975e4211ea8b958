// One token against an oct, a function for each form that a model's large matrices have: with its parts known, no branch stands in
// the loops, whose values stay in registers (a third of the speed without). They are exported so that the optimizer leaves each of
// them alone. The last one is for the others. Of 5 and 6 bits only the host's own kernels make much: here such matrices are held in 8
// (model/matrix.ts).
import { bytesWithOneToken } from './matmul-bytes';
import { nibblesWithOneToken } from './matmul-nibbles';

// Forms as numbers: form.ts.
const Q8_0: i32 = 72;
const Q4_0: i32 = 2116;
const Q4_1: i32 = 84;
const Q4_K: i32 = 148;
const WIDE_Q5_K: i32 = 152;
const WIDE_Q6_K: i32 = 168;

export function oneTokenQ8_0(w: usize, x: usize, xs: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  bytesWithOneToken(w, Q8_0, x, xs, xm, out, cols, rows);
}

export function oneTokenWideQ5_K(w: usize, x: usize, xs: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  bytesWithOneToken(w, WIDE_Q5_K, x, xs, xm, out, cols, rows);
}

export function oneTokenWideQ6_K(w: usize, x: usize, xs: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  bytesWithOneToken(w, WIDE_Q6_K, x, xs, xm, out, cols, rows);
}

export function oneTokenQ4_0(w: usize, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  nibblesWithOneToken(w, Q4_0, x, xs, xi, xm, out, cols, rows);
}

export function oneTokenQ4_1(w: usize, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  nibblesWithOneToken(w, Q4_1, x, xs, xi, xm, out, cols, rows);
}

export function oneTokenQ4_K(w: usize, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  nibblesWithOneToken(w, Q4_K, x, xs, xi, xm, out, cols, rows);
}

export function oneTokenOther(w: usize, form: i32, x: usize, xs: usize, xm: usize, out: usize, cols: i32, rows: i32): void {
  bytesWithOneToken(w, form, x, xs, xm, out, cols, rows);
}

/** Stores the first `rows` of the oct's rows. */
// @ts-ignore: decorator
@inline
export function octWithOneToken(
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32,
): void {
  if (form === Q8_0) oneTokenQ8_0(w, x, xs, xm, out, cols, rows);
  else if (form === Q4_0) oneTokenQ4_0(w, x, xs, xi, xm, out, cols, rows);
  else if (form === Q4_K) oneTokenQ4_K(w, x, xs, xi, xm, out, cols, rows);
  else if (form === WIDE_Q6_K) oneTokenWideQ6_K(w, x, xs, xm, out, cols, rows);
  else if (form === WIDE_Q5_K) oneTokenWideQ5_K(w, x, xs, xm, out, cols, rows);
  else if (form === Q4_1) oneTokenQ4_1(w, x, xs, xi, xm, out, cols, rows);
  else oneTokenOther(w, form, x, xs, xm, out, cols, rows);
}
