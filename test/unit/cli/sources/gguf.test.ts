import { closeSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { CommandError } from '../../../../cli/errors.ts';
import { readGgufHeader } from '../../../../cli/sources/gguf.ts';
import type { GgufHeader } from '../../../../cli/sources/gguf.ts';
import type { StringTable } from '../../../../cli/sources/string-table.ts';
import {
  FileFolder,
  arrayPair,
  ggufBytes,
  pair,
  string,
  stringPair,
  u32,
  u64,
  usualMetadata,
} from '../../gguf-writer.ts';
import type { WrittenFile, WrittenTensor } from '../../gguf-writer.ts';

const folder = new FileFolder();
afterAll(() => folder.remove());

function read(bytes: Buffer): GgufHeader {
  const fd = folder.open(bytes);
  try {
    return readGgufHeader(fd);
  } finally {
    closeSync(fd);
  }
}

const embedding: WrittenTensor = { name: 'token_embd.weight', shape: [8, 2], type: 0, offset: 0 };

describe('a well-formed file', () => {
  test('gives every value type back', () => {
    const { metadata } = read(ggufBytes({}));
    const expected = {
      u8: 200,
      i8: -56,
      u16: 513,
      i16: -1,
      'llama.block_count': 1,
      i32: -1,
      f32: 1,
      bool: true,
      u64: 1n << 60n,
      i64: -5,
      f64: 1,
      'general.architecture': 'llama',
      numbers: [7, 8],
    };
    for (const [key, value] of Object.entries(expected)) expect(metadata.get(key), key).toEqual(value);
    const tokens = metadata.get('tokenizer.ggml.tokens') as StringTable;
    expect([tokens.length, tokens.at(0).toString(), tokens.at(1).toString()]).toEqual([2, 'a', 'b']);
  });

  test('places its tensors behind the aligned header', () => {
    const { tensors, dataOffset } = read(ggufBytes({}));
    expect(dataOffset % 32).toBe(0);
    expect(tensors.map(({ name, sizeBytes, offset }) => [name, sizeBytes, offset - dataOffset])).toEqual([
      ['token_embd.weight', 64, 0],
      ['blk.0.attn_q.weight', 68, 64],
    ]);
  });

  test('of version 2 reads the same', () => {
    expect(read(ggufBytes({ version: 2 })).tensors).toHaveLength(2);
  });
});

const malformed: [title: string, file: WrittenFile | Buffer, message: RegExp][] = [
  ['an empty file', Buffer.alloc(0), /file has 0 bytes, a GGUF header has at least 24/],
  ['another magic', { magic: 'GGML' }, /file begins with "GGML"/],
  ['version 1', { version: 1 }, /GGUF version is 1/],
  ['a big-endian file', { version: 0x03000000 }, /big-endian/],
  ['too many tensors', { tensorCount: 1n << 40n }, /header counts 1099511627776 tensors/],
  ['a tensor count beyond exact numbers', { tensorCount: (1n << 64n) - 1n }, /tensor count is 18446744073709551615/],
  ['too many keys', { metadataCount: 1n << 30n }, /header counts 1073741824 metadata keys/],
  ['a key longer than the file', { metadata: [u64(60_000)] }, /metadata key 0 needs bytes 32 to 60032, file has/],
  ['a key longer than keys may be', { metadata: [u64(1 << 20)] }, /metadata key 0 has 1048576 bytes, at most 65535/],
  [
    'a key that occurs twice',
    { metadata: [stringPair('a', 'x'), stringPair('a', 'y')] },
    /metadata key a occurs twice/,
  ],
  ['an unknown value type', { metadata: [pair('a', 13, Buffer.alloc(8))] }, /metadata a has value type 13/],
  ['a bool of value 2', { metadata: [pair('a', 7, Buffer.from([2]))] }, /metadata a is a bool of value 2/],
  ['a string longer than the file', { metadata: [pair('a', 8, u64(1 << 20))] }, /metadata a needs bytes .* file has/],
  [
    'an array longer than the file',
    { metadata: [arrayPair('a', 4, [], 4_000_000)] },
    /metadata a needs bytes .* file has/,
  ],
  [
    'an array longer than arrays may be',
    { metadata: [arrayPair('a', 0, [], 1n << 33n)] },
    /metadata a has 8589934592 elements/,
  ],
  ['an unknown element type', { metadata: [arrayPair('a', 99, [])] }, /metadata a has element type 99/],
  [
    'arrays nested too deep',
    {
      metadata: [
        arrayPair('a', 9, [
          Buffer.concat([...Array.from({ length: 4 }, () => Buffer.concat([u32(9), u64(1)])), u32(0), u64(0)]),
        ]),
      ],
    },
    /nests arrays deeper than 4/,
  ],
  [
    'an alignment of 24',
    { metadata: [pair('general.alignment', 4, u32(24))] },
    /general.alignment is 24, a power of two/,
  ],
  ['an alignment of 0', { metadata: [pair('general.alignment', 4, u32(0))] }, /general.alignment is 0/],
  ['an alignment that is text', { metadata: [stringPair('general.alignment', '32')] }, /general.alignment is 32/],
  ['a tensor without a name', { tensors: [{ ...embedding, name: '' }] }, /tensor 0 has the name ""/],
  [
    'a tensor name of 300 bytes',
    { tensors: [{ ...embedding, name: 'x'.repeat(300) }] },
    /name of tensor 0 has 300 bytes/,
  ],
  [
    'a tensor that occurs twice',
    { tensors: [embedding, { ...embedding, offset: 64 }] },
    /tensor token_embd.weight occurs twice/,
  ],
  ['five dimensions', { tensors: [{ ...embedding, shape: [1, 1, 1, 1, 1] }] }, /token_embd.weight has 5 dimensions/],
  ['no dimension', { tensors: [{ ...embedding, shape: [] }] }, /token_embd.weight has 0 dimensions/],
  ['an extent of 0', { tensors: [{ ...embedding, shape: [8, 0] }] }, /token_embd.weight has extent 0 in dimension 2/],
  [
    'a shape whose product overflows',
    { tensors: [{ ...embedding, shape: [8, 1n << 31n, 1n << 31n, 4] }] },
    /has shape 8 x 2147483648/,
  ],
  [
    'an unknown tensor type',
    { tensors: [{ ...embedding, type: 77 }] },
    /tensor token_embd.weight has type 77, which is not supported/,
  ],
  [
    'a tensor type that is not read',
    { tensors: [{ ...embedding, type: 16 }] },
    /tensor token_embd.weight has type IQ2_XXS/,
  ],
  [
    'rows that are no whole blocks',
    { tensors: [{ ...embedding, type: 8 }] },
    /rows of 8 elements, Q8_0 has blocks of 32/,
  ],
  [
    'an unaligned tensor',
    { tensors: [{ ...embedding, offset: 4 }] },
    /begins at offset 4, not a multiple of the alignment 32/,
  ],
  [
    'a tensor behind the end',
    { tensors: [{ ...embedding, offset: 1 << 20 }] },
    /token_embd.weight needs bytes \d+ to \d+, file has \d+/,
  ],
  [
    'a tensor cut off by the end',
    { dataBytes: 100 },
    /tensor blk.0.attn_q.weight needs bytes \d+ to \d+, file has \d+/,
  ],
  [
    'tensors that overlap',
    { tensors: [embedding, { ...embedding, name: 'output.weight', offset: 32 }] },
    /tensor output.weight begins at byte \d+, inside tensor token_embd.weight/,
  ],
  [
    'a header that ends in a tensor name',
    ggufBytes({ metadata: [] }).subarray(0, 40),
    /name of tensor 0 needs bytes 32 to 49, file has 40/,
  ],
];

describe('a malformed file', () => {
  test.each(malformed)('%s is refused with one line', (_title, file, message) => {
    const bytes = Buffer.isBuffer(file) ? file : ggufBytes(file);
    const refused = (): GgufHeader => read(bytes);
    expect(refused).toThrow(CommandError);
    expect(refused).toThrow(message);
    try {
      refused();
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
    }
  });
});

/** A small generator with a seed, so that a failure can be repeated. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('random damage', () => {
  const whole = ggufBytes({ metadata: [...usualMetadata(), pair('x', 8, string('y'.repeat(40)))] });

  test('of 1,000 files ends in a header or in a one-line error, never in anything else', () => {
    const random = randomNumbers(20260801);
    let refused = 0;
    for (let round = 0; round < 1000; round++) {
      const bytes = Buffer.from(whole.subarray(0, random() < 0.2 ? Math.floor(random() * whole.length) : whole.length));
      for (let hits = 1 + Math.floor(random() * 4); hits > 0 && bytes.length > 0; hits--) {
        const at = Math.floor(random() * bytes.length);
        bytes[at] =
          random() < 0.5 ? Math.floor(random() * 256) : ([0, 1, 0x7f, 0x80, 0xff][Math.floor(random() * 5)] as number);
      }
      try {
        const header = read(bytes);
        for (const tensor of header.tensors) expect(tensor.offset + tensor.sizeBytes).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        expect(error, `round ${round}`).toBeInstanceOf(CommandError);
        expect((error as Error).message).not.toContain('\n');
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(200);
  });
});
