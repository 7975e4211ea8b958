/** Seeded random weights in the block formats of GGUF; the values have about the deviation of a freshly initialised transformer. */

const DEVIATION = 0.02;

export type BlockType = 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'Q4_0' | 'Q5_0' | 'Q4_K' | 'Q6_K';

interface BlockFormat {
  /** Id in GGUF. */
  id: number;
  /** Values in a block. */
  values: number;
  bytes: number;
  /** Make random bytes a block whose values are finite and spread as wanted. */
  settle(bytes: Buffer, at: number): void;
}

/** Bits of the f16 nearest to a positive normal number. */
function halfBits(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  const mantissa = Math.round((value / 2 ** exponent - 1) * 1024);
  return ((exponent + 15) << 10) + mantissa;
}

/** Scale with which integers drawn evenly from `levels` have DEVIATION. */
function scaleOf(levels: number): number {
  return (DEVIATION * Math.sqrt(12)) / levels;
}

const Q8_SCALE = halfBits(scaleOf(255));
const Q4_SCALE = halfBits(scaleOf(16));
const Q5_SCALE = halfBits(scaleOf(32));
/** Sub-block scale and minimum of Q4_K, and the twelve bytes that pack eight of each. */
const Q4_K_SUB = 32;
const Q4_K_SUBS = Buffer.from([0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0, 0, 0, 0]);
const Q4_K_SCALE = halfBits(scaleOf(16) / Q4_K_SUB);
const Q4_K_MINIMUM = halfBits((7.5 * scaleOf(16)) / Q4_K_SUB);
const Q6_K_SUB = 8;
const Q6_K_SCALE = halfBits(scaleOf(64) / Q6_K_SUB);

const FORMATS: Record<BlockType, BlockFormat> = {
  // Floats of either sign with an exponent of -7 or -6: between 0.0078 and 0.031.
  F32: {
    id: 0,
    values: 1,
    bytes: 4,
    settle: (bytes, at) => void bytes.writeUInt32LE(((bytes.readUInt32LE(at) & 0x80ffffff) | 0x3c000000) >>> 0, at),
  },
  F16: {
    id: 1,
    values: 1,
    bytes: 2,
    settle: (bytes, at) => void (bytes[at + 1] = (bytes[at + 1]! & 0x87) | 0x20),
  },
  BF16: {
    id: 30,
    values: 1,
    bytes: 2,
    settle: (bytes, at) => void (bytes[at + 1] = (bytes[at + 1]! & 0x80) | 0x3c),
  },
  Q8_0: {
    id: 8,
    values: 32,
    bytes: 34,
    settle(bytes, at) {
      bytes.writeUInt16LE(Q8_SCALE, at);
      // -128 does not occur in Q8_0.
      for (let i = at + 2; i < at + 34; i++) if (bytes[i] === 0x80) bytes[i] = 0x81;
    },
  },
  Q4_0: { id: 2, values: 32, bytes: 18, settle: (bytes, at) => void bytes.writeUInt16LE(Q4_SCALE, at) },
  Q5_0: { id: 6, values: 32, bytes: 22, settle: (bytes, at) => void bytes.writeUInt16LE(Q5_SCALE, at) },
  Q4_K: {
    id: 12,
    values: 256,
    bytes: 144,
    settle(bytes, at) {
      bytes.writeUInt16LE(Q4_K_SCALE, at);
      bytes.writeUInt16LE(Q4_K_MINIMUM, at + 2);
      Q4_K_SUBS.copy(bytes, at + 4);
    },
  },
  Q6_K: {
    id: 14,
    values: 256,
    bytes: 210,
    settle(bytes, at) {
      bytes.fill(Q6_K_SUB, at + 192, at + 208);
      bytes.writeUInt16LE(Q6_K_SCALE, at + 208);
    },
  },
};

export function typeId(type: BlockType): number {
  return FORMATS[type].id;
}

export function blockValues(type: BlockType): number {
  return FORMATS[type].values;
}

/** Bytes that so many values take. */
export function byteCount(type: BlockType, values: number): number {
  const { values: perBlock, bytes } = FORMATS[type];
  if (values % perBlock !== 0) throw new Error(`${values} values are no whole number of ${type} blocks`);
  return (values / perBlock) * bytes;
}

/** Bytes of `values` random weights: the same for the same seed. */
export function randomBlocks(type: BlockType, values: number, seed: number): Buffer {
  const format = FORMATS[type];
  const length = byteCount(type, values);
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed | 0 || 1; // 32-bit xorshift
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  const bytes = Buffer.from(words.buffer, 0, length);
  for (let at = 0; at < length; at += format.bytes) format.settle(bytes, at);
  return bytes;
}

/** Ones as F32, as norms begin. */
export function ones(values: number): Buffer {
  return Buffer.from(new Float32Array(values).fill(1).buffer);
}
