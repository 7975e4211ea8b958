/**
 * Weights that are NaN or infinite: a damaged file, since nothing can be computed with them. Looks at numbers and at the scales
 * of quantised blocks as they are read, a fraction of what hashing them takes.
 */
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import type { SourceTensor } from '../sources/model-source.ts';

/**
 * A number whose exponent is all ones is NaN or infinite: with `mask` the exponents of a word of 32 bits are left, and `add` carries
 * into `sign` from those that are full. Half floats stand in a word in twos; of a double only the upper word counts.
 */
interface WordTest {
  mask: number;
  add: number;
  sign: number;
  /** Words from one that is tested to the next; the last of them is tested. */
  step: number;
}

const WORDS: Readonly<Record<string, WordTest>> = {
  F32: { mask: 0x7f800000, add: 0x00800000, sign: 0x80000000, step: 1 },
  F16: { mask: 0x7c007c00, add: 0x04000400, sign: 0x80008000, step: 1 },
  BF16: { mask: 0x7f807f80, add: 0x00800080, sign: 0x80008000, step: 1 },
  F64: { mask: 0x7ff00000, add: 0x00100000, sign: 0x80000000, step: 2 },
};

/** Bytes at which half floats stand in a block (plv8/src/format/block-formats.ts). */
const SCALES: Readonly<Record<string, readonly number[]>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
  IQ4_NL: [0],
  IQ4_XS: [0],
};

const WORD_BYTES = 4;

/** Whether a run of whole words has such a number. */
function hasFullExponent(bytes: Buffer, { mask, add, sign, step }: WordTest): boolean {
  const aligned = bytes.byteOffset % WORD_BYTES === 0 ? bytes : Uint8Array.prototype.slice.call(bytes);
  const words = new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length / WORD_BYTES);
  let carried = 0;
  let i = step - 1;
  // Four at a time: twice as fast.
  for (const end = words.length - 3 * step; i < end; i += 4 * step) {
    carried |= ((words[i]! & mask) + add) | 0;
    carried |= ((words[i + step]! & mask) + add) | 0;
    carried |= ((words[i + 2 * step]! & mask) + add) | 0;
    carried |= ((words[i + 3 * step]! & mask) + add) | 0;
  }
  for (; i < words.length; i += step) carried |= ((words[i]! & mask) + add) | 0;
  return (carried & sign) !== 0;
}

function hasFullScale(bytes: Buffer, at: number, blockBytes: number): boolean {
  for (let p = at + 1; p < bytes.length; p += blockBytes) if ((bytes[p]! & 0x7c) === 0x7c) return true;
  return false;
}

/** Looks through one tensor, whose bytes come in order and in pieces of any length. */
export class FiniteCheck {
  private readonly words: WordTest | undefined;
  private readonly scales: readonly number[] | undefined;
  /** Bytes that are looked at together. */
  private readonly unit: number;
  /** The beginning of a unit that the next piece completes. */
  private rest: Buffer = Buffer.alloc(0);

  constructor(private readonly tensor: Pick<SourceTensor, 'name' | 'type'>) {
    this.words = WORDS[tensor.type.name];
    this.scales = SCALES[tensor.type.name];
    this.unit = this.words === undefined ? tensor.type.blockBytes : WORD_BYTES * this.words.step;
  }

  /** @throws a CommandError where one of these bytes belongs to a number that is not finite */
  update(bytes: Buffer): void {
    if (this.words === undefined && this.scales === undefined) return;
    if (this.rest.length > 0) {
      const joined = Buffer.concat([this.rest, bytes.subarray(0, this.unit - this.rest.length)]);
      bytes = bytes.subarray(joined.length - this.rest.length);
      this.rest = joined;
      if (joined.length < this.unit) return;
      this.look(joined);
    }
    const whole = bytes.length - (bytes.length % this.unit);
    this.look(bytes.subarray(0, whole));
    this.rest = Buffer.from(bytes.subarray(whole));
  }

  /** What is left is half a word: one half float. */
  finish(): void {
    if (this.rest.length > 0 && this.words !== undefined)
      this.look(Buffer.concat([this.rest, Buffer.alloc(this.unit - this.rest.length)]));
  }

  private look(bytes: Buffer): void {
    const { words, scales, tensor } = this;
    if (
      words !== undefined ? !hasFullExponent(bytes, words) : !scales!.some((at) => hasFullScale(bytes, at, this.unit))
    )
      return;
    const what = words === undefined ? 'a scale' : 'a weight';
    throw new CommandError(`tensor ${brief(tensor.name)} has ${what} that is no finite number: the file is damaged`);
  }
}
