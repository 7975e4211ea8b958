// One token against an oct whose integers are int8, or are written out as such (fewer bits without a function of their own).
//   A row's product with a token is a sum over groups, in their order, of (exact integer sum) * (weight scale *
//   activation scale), and of minimum * (sum of the block's activations) where there are minimums. The loops here, in
//   matmul-nibbles.ts and in four-tokens.ts do just that, so a token's results do not depend on the others that go along.
//   Loop bodies are small on purpose. V8 emits all loads of a basic block first, so that an unrolled one spills them; it
//   unrolls such a loop itself; and every constant offset of a load takes a register, so pointers move by small steps.
import { bitsOf, floatBytes, integerBytes, MINIMUMS, minimumsAt, passSupers, scaleColsOf, scalesAt } from './form';
import { addScaled, widenGroup } from './four-tokens';
import { storeOct } from './simd';

/** Stores the first `rows` of the oct's rows. */
// @ts-ignore: decorator
@inline
export function bytesWithOneToken(
  w: usize, form: i32, x: usize, xs: usize, xm: usize, out: usize, cols: i32, rows: i32,
): void {
  let low = f32x4.splat(0), high = f32x4.splat(0);
  const scaleCols = scaleColsOf(form);
  const steps = scaleCols >> 2;
  const halves = scaleCols === 16;
  const integers = integerBytes(form);
  const floats = floatBytes(form);
  let n = cols / scaleCols;
  do {
    w = passSupers(w, form, n);
    let p = bitsOf(form) === 8 ? w : widenGroup(w, form);
    let s0 = i32x4.splat(0), u0 = i32x4.splat(0), s1 = i32x4.splat(0), u1 = i32x4.splat(0);
    let k = steps;
    do {
      const x0 = v128.load_splat<u32>(x);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p), x0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 8), x0));
      const x1 = v128.load_splat<u32>(x, 4);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 16), x1));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.load_ext<i8>(p, 24), x1));
      p += 32;
      x += 8;
    } while (--k);
    w += integers;
    const scale = v128.load_splat<f32>(xs);
    low = addScaled(low, i32x4.add(s0, u0), scalesAt(w, form, 0), scale);
    high = addScaled(high, i32x4.add(s1, u1), scalesAt(w, form, 1), scale);
    w += floats;
    if (!halves || n & 1) xs += 4;
    if (form & MINIMUMS) {
      const sum = v128.load_splat<f32>(xm);
      low = f32x4.add(low, f32x4.mul(minimumsAt(w, form, 0), sum));
      high = f32x4.add(high, f32x4.mul(minimumsAt(w, form, 1), sum));
      w += floats;
      xm += 4;
    }
  } while (--n);
  storeOct(out, low, high, rows);
}
