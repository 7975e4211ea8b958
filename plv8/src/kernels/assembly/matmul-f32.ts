// Products with float matrices.
import { lanes } from './simd';

/** out[t][row] = (matrix row) . (token t); cols a multiple of 4, x: float (tokens, cols). outStride: bytes between tokens. */
export function matmulF32(
  w: usize, x: usize, out: usize, rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const stride = <usize>cols << 2;
  for (let r = 0; r < rows; r++) {
    const end = w + stride;
    let t = 0;
    for (; t + 4 <= tokens; t += 4) {
      let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
      let xp = x + <usize>t * stride;
      let wp = w;
      do {
        const v = v128.load(wp);
        a0 = f32x4.add(a0, f32x4.mul(v, v128.load(xp)));
        a1 = f32x4.add(a1, f32x4.mul(v, v128.load(xp + stride)));
        a2 = f32x4.add(a2, f32x4.mul(v, v128.load(xp + 2 * stride)));
        a3 = f32x4.add(a3, f32x4.mul(v, v128.load(xp + 3 * stride)));
        wp += 16;
        xp += 16;
      } while (wp < end);
      const o = out + (<usize>r << 2) + <usize>t * outStride;
      store<f32>(o, lanes(a0));
      store<f32>(o + outStride, lanes(a1));
      store<f32>(o + 2 * outStride, lanes(a2));
      store<f32>(o + 3 * outStride, lanes(a3));
    }
    for (; t < tokens; t++) {
      let a = f32x4.splat(0);
      let xp = x + <usize>t * stride;
      let wp = w;
      do {
        a = f32x4.add(a, f32x4.mul(v128.load(wp), v128.load(xp)));
        wp += 16;
        xp += 16;
      } while (wp < end);
      store<f32>(out + (<usize>r << 2) + <usize>t * outStride, lanes(a));
    }
    w = end;
  }
}
