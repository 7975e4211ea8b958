import { describe, expect, test } from 'vitest';
import { FiniteCheck } from '../../cli/ingest/finite.ts';
import { blockReader, halfToFloat } from '../../plv8/src/format/block-formats.ts';
import { ggmlTypeByName } from '../../plv8/src/format/ggml-types.ts';

/** What a tensor of these bytes holds, by the plain reading of its type. */
function numbers(typeName: string, bytes: Buffer): number[] {
  const read = blockReader(typeName);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { blockBytes } = ggmlTypeByName(typeName)!;
  const out: number[] = [];
  for (let at = 0; at < bytes.length; at += blockBytes) {
    if (read !== undefined) read(view, at, (integer, scale, minimum) => out.push(scale, minimum, integer));
    else if (typeName === 'F32') out.push(view.getFloat32(at, true));
    else if (typeName === 'F64') out.push(view.getFloat64(at, true));
    else if (typeName === 'F16') out.push(halfToFloat(view.getUint16(at, true)));
    else if (typeName === 'BF16')
      out.push(new Float32Array(new Uint32Array([view.getUint16(at, true) << 16]).buffer)[0]!);
    else out.push(0);
  }
  return out;
}

function refuses(typeName: string, pieces: readonly Buffer[]): boolean {
  const check = new FiniteCheck({ name: 'blk.0.ffn_up.weight', type: ggmlTypeByName(typeName)! });
  try {
    for (const piece of pieces) check.update(piece);
    check.finish();
    return false;
  } catch (error) {
    expect((error as Error).message).toMatch(
      /^tensor blk\.0\.ffn_up\.weight has a (weight|scale) that is no finite number/,
    );
    return true;
  }
}

/** Bytes of which every one is the same for the same seed. */
function randomBytes(length: number, seed: number): Buffer {
  let state = seed * 2654435761 + 1;
  return Buffer.from(Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 24));
}

const TYPES = [
  'F32',
  'F16',
  'BF16',
  'F64',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
  'I8',
  'I32',
];

describe.each(TYPES)('weights of type %s', (typeName) => {
  const { blockBytes } = ggmlTypeByName(typeName)!;

  test('are refused exactly where a plain reading finds one that is not finite, however they are cut', () => {
    let refused = 0;
    for (let seed = 0; seed < 200; seed++) {
      const blocks = 1 + (seed % 9);
      // One byte more in front, so that words do not stand on their places in memory.
      const bytes = randomBytes(1 + blocks * blockBytes, seed).subarray(1);
      // Of random bytes hardly any block is finite: no full exponent, and then one at half of the seeds.
      for (let i = 0; i < bytes.length; i++) bytes[i]! &= 0x3b;
      const places = [0, 2, 80, 82, 108, 208, blockBytes - 2].filter((place) => place >= 0 && place < blockBytes);
      const place = (seed % blocks) * blockBytes + places[(seed >> 1) % places.length]!;
      if (seed % 2 === 1) bytes.fill(0xff, place, Math.min(place + 2, bytes.length));
      const wanted = numbers(typeName, bytes).some((each) => !Number.isFinite(each));
      const cut = seed % (bytes.length + 1);
      expect(refuses(typeName, [bytes]), `seed ${seed}`).toBe(wanted);
      expect(refuses(typeName, [bytes.subarray(0, cut), bytes.subarray(cut)]), `seed ${seed}, cut at ${cut}`).toBe(
        wanted,
      );
      expect(
        refuses(
          typeName,
          Array.from(bytes, (byte) => Buffer.from([byte])),
        ),
        `seed ${seed}, byte by byte`,
      ).toBe(wanted);
      if (wanted) refused++;
    }
    expect(refused > 5).toBe(typeName !== 'I8' && typeName !== 'I32');
    expect(refused).toBeLessThan(160);
  });
});
