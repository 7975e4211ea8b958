/**
 * ggml's quantised block formats as integers with a scale and a minimum: weight = scale * integer + minimum. The plain
 * reading of the formats (ggml's quantisation source), and the oracle for kernels/assembly/unpack*.ts.
 */

/** Half float to number. */
export function halfToFloat(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Receives the elements of a block in order: their integer, scale and minimum. */
type Emit = (integer: number, scale: number, minimum: number) => void;
/** Reads the block at byte `p`. */
type ReadBlock = (view: DataView, p: number, emit: Emit) => void;

/** Values of IQ4_NL's and IQ4_XS's nibbles. */
export const IQ4_VALUES: readonly number[] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

const half = (view: DataView, p: number): number => halfToFloat(view.getUint16(p, true));

/** 16 bytes at `p`: 16 low nibbles, then 16 high ones. */
function eachNibble(view: DataView, p: number, visit: (nibble: number, i: number) => void): void {
  for (let i = 0; i < 32; i++) visit(i < 16 ? view.getUint8(p + i) & 15 : view.getUint8(p + i - 16) >> 4, i);
}

/** The eight 6-bit scales and minimums of Q4_K and Q5_K, packed in 12 bytes. */
export function packedScale(view: DataView, p: number, j: number): { scale: number; minimum: number } {
  const byte = (i: number): number => view.getUint8(p + i);
  if (j < 4) return { scale: byte(j) & 63, minimum: byte(j + 4) & 63 };
  return {
    scale: (byte(j + 4) & 15) | ((byte(j - 4) >> 6) << 4),
    minimum: (byte(j + 4) >> 4) | ((byte(j) >> 6) << 4),
  };
}

/** Scale j (of 16, signed) of Q3_K, packed in 12 bytes. */
function signedScale(view: DataView, p: number, j: number): number {
  const low = j < 8 ? view.getUint8(p + j) & 15 : view.getUint8(p + j - 8) >> 4;
  const high = (view.getUint8(p + 8 + (j & 3)) >> ((j >> 2) * 2)) & 3;
  return (low | (high << 4)) - 32;
}

const READERS: Record<string, ReadBlock> = {
  Q8_0(view, p, emit) {
    const scale = half(view, p);
    for (let i = 0; i < 32; i++) emit(view.getInt8(p + 2 + i), scale, 0);
  },
  Q4_0(view, p, emit) {
    const scale = half(view, p);
    eachNibble(view, p + 2, (nibble) => emit(nibble - 8, scale, 0));
  },
  Q4_1(view, p, emit) {
    const scale = half(view, p);
    const minimum = half(view, p + 2);
    eachNibble(view, p + 4, (nibble) => emit(nibble, scale, minimum));
  },
  Q5_0(view, p, emit) {
    const scale = half(view, p);
    const high = view.getUint32(p + 2, true);
    eachNibble(view, p + 6, (nibble, i) => emit((nibble | (((high >>> i) & 1) << 4)) - 16, scale, 0));
  },
  Q5_1(view, p, emit) {
    const scale = half(view, p);
    const minimum = half(view, p + 2);
    const high = view.getUint32(p + 4, true);
    eachNibble(view, p + 8, (nibble, i) => emit(nibble | (((high >>> i) & 1) << 4), scale, minimum));
  },
  IQ4_NL(view, p, emit) {
    const scale = half(view, p);
    eachNibble(view, p + 2, (nibble) => emit(IQ4_VALUES[nibble]!, scale, 0));
  },
  Q2_K(view, p, emit) {
    const scale = half(view, p + 80);
    const minimum = half(view, p + 82);
    for (let i = 0; i < 256; i++) {
      const both = view.getUint8(p + (i >> 4));
      const byte = view.getUint8(p + 16 + (i >> 7) * 32 + (i & 31));
      emit((byte >> (((i >> 5) & 3) * 2)) & 3, Math.fround(scale * (both & 15)), -Math.fround(minimum * (both >> 4)));
    }
  },
  Q3_K(view, p, emit) {
    const scale = half(view, p + 108);
    for (let i = 0; i < 256; i++) {
      const low = (view.getUint8(p + 32 + (i >> 7) * 32 + (i & 31)) >> (((i >> 5) & 3) * 2)) & 3;
      const high = (view.getUint8(p + (i & 31)) >> (i >> 5)) & 1;
      emit(low + 4 * high - 4, Math.fround(scale * signedScale(view, p + 96, i >> 4)), 0);
    }
  },
  Q4_K(view, p, emit) {
    const scale = half(view, p);
    const minimum = half(view, p + 2);
    for (let i = 0; i < 256; i++) {
      const packed = packedScale(view, p + 4, i >> 5);
      const byte = view.getUint8(p + 16 + (i >> 6) * 32 + (i & 31));
      const nibble = i & 32 ? byte >> 4 : byte & 15;
      emit(nibble, Math.fround(scale * packed.scale), -Math.fround(minimum * packed.minimum));
    }
  },
  Q5_K(view, p, emit) {
    const scale = half(view, p);
    const minimum = half(view, p + 2);
    for (let i = 0; i < 256; i++) {
      const packed = packedScale(view, p + 4, i >> 5);
      const byte = view.getUint8(p + 48 + (i >> 6) * 32 + (i & 31));
      const nibble = i & 32 ? byte >> 4 : byte & 15;
      const high = (view.getUint8(p + 16 + (i & 31)) >> (i >> 5)) & 1;
      emit(nibble | (high << 4), Math.fround(scale * packed.scale), -Math.fround(minimum * packed.minimum));
    }
  },
  Q6_K(view, p, emit) {
    const scale = half(view, p + 208);
    for (let i = 0; i < 256; i++) {
      const byte = view.getUint8(p + (i >> 7) * 64 + (i & 63));
      const low = i & 64 ? byte >> 4 : byte & 15;
      const high = (view.getUint8(p + 128 + (i >> 7) * 32 + (i & 31)) >> (((i >> 5) & 3) * 2)) & 3;
      emit((low | (high << 4)) - 32, Math.fround(scale * view.getInt8(p + 192 + (i >> 4))), 0);
    }
  },
  IQ4_XS(view, p, emit) {
    const scale = half(view, p);
    const highs = view.getUint16(p + 2, true);
    for (let b = 0; b < 8; b++) {
      const low = (view.getUint8(p + 4 + (b >> 1)) >> (4 * (b & 1))) & 15;
      const own = Math.fround(scale * ((low | (((highs >> (2 * b)) & 3) << 4)) - 32));
      eachNibble(view, p + 8 + 16 * b, (nibble) => emit(IQ4_VALUES[nibble]!, own, 0));
    }
  },
};

/** Reader of one block of a quantised type; undefined for other types. */
export function blockReader(type: string): ReadBlock | undefined {
  return READERS[type];
}
