// Products of integer matrices in the layout of layout.ts with activations in that of activations.ts.
import { splitQuants } from './activations';
import { bitsOf, octBytes } from './form';
import { multiplyFours } from './four-tokens';
import { octRelaxed } from './matmul-nibbles-relaxed';
import { octWithOneToken } from './one-token';

/**
 * out[t][row] = (matrix row) . (token t) for rows [0, rows) and tokens [0, tokens). w begins at an oct; x, xs, xi, xm are the
 * activations' integers, scales, sums and scaled sums. outStride: bytes between tokens in out.
 */
export function matmulIntegers(
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize, rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const inFours = <usize>(tokens & ~3);
  const xStride = <usize>cols << 1;
  const sStride = <usize>(cols >> 5) << 2;
  const nibbles = bitsOf(form) === 4;
  const oct = octBytes(form, cols);
  for (let left = rows; left > 0; left -= 8) {
    if (ASC_FEATURE_RELAXED_SIMD && nibbles) {
      octRelaxed(w, form, splitQuants(x, cols, tokens), xs, xi, xm, out, left, cols, tokens, outStride);
    } else {
      multiplyFours(w, form, x, xs, xm, out, left, cols, tokens, outStride);
      let xp = x + inFours * xStride, sp = xs + inFours * sStride;
      let ip = xi + inFours * sStride, mp = xm + inFours * sStride;
      let o = out + inFours * outStride;
      for (let t = tokens & 3; t > 0; t--) {
        octWithOneToken(w, form, xp, sp, ip, mp, o, cols, left);
        xp += xStride;
        sp += sStride;
        ip += sStride;
        mp += sStride;
        o += outStride;
      }
    }
    w += oct;
    out += 32;
  }
}
