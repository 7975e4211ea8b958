// Layer norm (Ba, Kiros and Hinton, 2016).

/** out = (x - mean(x)) / deviation(x) * weight + bias for each of `tokens` rows of n floats; out may be x. */
export function layerNorm(x: usize, weight: usize, bias: usize, out: usize, n: i32, tokens: i32, eps: f32): void {
  for (let t = 0; t < tokens; t++) {
    let sum: f64 = 0;
    for (let i = 0; i < n; i++) sum += <f64>load<f32>(x + (<usize>i << 2));
    const mean = sum / <f64>n;
    let squares: f64 = 0;
    for (let i = 0; i < n; i++) {
      const d = <f64>load<f32>(x + (<usize>i << 2)) - mean;
      squares += d * d;
    }
    const scale = 1.0 / sqrt<f64>(squares / <f64>n + <f64>eps);
    for (let i = 0; i < n; i++) {
      const at = <usize>i << 2;
      const unit = <f32>((<f64>load<f32>(x + at) - mean) * scale);
      store<f32>(out + at, unit * load<f32>(weight + at) + load<f32>(bias + at));
    }
    x += <usize>n << 2;
    out += <usize>n << 2;
  }
}
