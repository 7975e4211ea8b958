import { describe, expect, test } from 'vitest';
import { innerProduct } from '../../../plv8/src/embed/inner-product.ts';
import { random } from '../../../bench/random.ts';

const next = random(26);
const vector = (dim: number): Float32Array => Float32Array.from({ length: dim }, () => next() - 0.5);

describe('the inner product', () => {
  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 384, 1023])('of %i floats is that of exact products', (dim) => {
    const [a, b] = [vector(3 * dim), vector(dim)];
    for (const at of [0, dim, 2 * dim]) {
      const products = Array.from(b, (x, i) => x * a[at + i]!);
      expect(innerProduct(a, at, b)).toBeCloseTo(
        products.reduce((sum, x) => sum + x, 0),
        12,
      );
    }
  });

  test('takes every element once', () => {
    for (let dim = 1; dim <= 40; dim++) {
      for (let i = 0; i < dim; i++) {
        const one = new Float32Array(dim);
        one[i] = 1;
        const b = Float32Array.from({ length: dim }, (_, at) => at + 1);
        expect(innerProduct(one, 0, b)).toBe(i + 1);
      }
    }
  });
});
