/** Every block type against the floats that llama.cpp makes of it; models/make-dequant-goldens.mjs made the golden. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ggmlTypeById } from '../../plv8/src/format/ggml-types.ts';
import { dequantizeRow } from '../../plv8/src/model/dequantize.ts';
import { decodeFloats } from './agreement.ts';
import { modelPath } from './model-files.ts';

interface Case {
  file: string;
  tensor: string;
  type: string;
  cols: number;
  rows: number;
  raw_base64: string;
  values_f32_base64: string;
}

const CASES = JSON.parse(readFileSync(join(modelPath('goldens'), 'dequant-blocks.json'), 'utf8')) as Case[];

test.each(CASES)('$type of $file gives the very floats of llama.cpp', ({ type, cols, rows, ...golden }) => {
  const raw = new Uint8Array(Buffer.from(golden.raw_base64, 'base64'));
  const expected = decodeFloats(golden.values_f32_base64);
  const actual = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    dequantizeRow(type, raw, (r * raw.length) / rows, actual.subarray(r * cols, (r + 1) * cols), cols);
  }
  // Zero and minus zero are one number.
  expect(Array.from(actual, (x) => x + 0)).toEqual(Array.from(expected, (x) => x + 0));
});

test('every type of blocks that is taken has a golden', () => {
  const taken = Array.from({ length: 64 }, (_, id) => ggmlTypeById(id)).filter((type) => (type?.blockSize ?? 1) > 1);
  const compared = new Set(CASES.map(({ type }) => type));
  expect(taken.map((type) => type!.name).filter((name) => !compared.has(name))).toEqual([]);
  expect(taken.length).toBe(12);
});
