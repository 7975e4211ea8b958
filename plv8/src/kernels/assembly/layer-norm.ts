// Layer norm (Ba, Kiros and Hinton, 2016).
import { promoteHigh, squares, total } from './double-sums';

/** out = (x - mean(x)) / deviation(x) * weight + bias for each of `tokens` rows of n floats; out may be x. */
export function layerNorm(x: usize, weight: usize, bias: usize, out: usize, n: i32, tokens: i32, eps: f32): void {
  for (let t = 0; t < tokens; t++) {
    const mean = total(x, n) / <f64>n;
    const scale = 1.0 / sqrt<f64>(squares(x, n, mean) / <f64>n + <f64>eps);
    const means = f64x2.splat(mean);
    const scales = f64x2.splat(scale);
    let w = weight, b = bias;
    let left = n;
    for (; left >= 4; left -= 4) {
      const v = v128.load(x);
      const low = f32x4.demote_f64x2_zero(f64x2.mul(f64x2.sub(f64x2.promote_low_f32x4(v), means), scales));
      const high = f32x4.demote_f64x2_zero(f64x2.mul(f64x2.sub(promoteHigh(v), means), scales));
      const unit = v128.shuffle<i64>(low, high, 0, 2);
      v128.store(out, f32x4.add(f32x4.mul(unit, v128.load(w)), v128.load(b)));
      x += 16;
      out += 16;
      w += 16;
      b += 16;
    }
    for (; left > 0; left--) {
      const unit = <f32>((<f64>load<f32>(x) - mean) * scale);
      store<f32>(out, unit * load<f32>(w) + load<f32>(b));
      x += 4;
      out += 4;
      w += 4;
      b += 4;
    }
  }
}
