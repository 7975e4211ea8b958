/** How the integers of a matrix lie in memory, and the number that tells it to the kernels: assembly/form.ts. */

export interface Form {
  /** Bits of an integer. */
  bits: 4 | 5 | 6 | 8;
  /** What a held integer is above its weight. */
  offset: number;
  hasMinimums: boolean;
  /** Columns that share a scale. */
  scaleCols: 16 | 32;
  /**
   * How scales and minimums are held: as floats, as the half floats they were, or as bytes that multiply a half float which 256
   * columns share.
   */
  scales: 'floats' | 'halves' | 'super';
}

/** Columns that share a super scale. */
export const SUPER_COLS = 256;

const SCALE_BITS = { floats: 0, halves: 64, super: 128 } as const;
const FLOAT_BYTES = { floats: 32, halves: 16, super: 8 } as const;

export function formNumber({ bits, offset, hasMinimums, scaleCols, scales }: Form): number {
  return bits + (hasMinimums ? 16 : 0) + (scaleCols === 16 ? 32 : 0) + SCALE_BITS[scales] + offset * 256;
}

/** Bytes of the columns that share a scale, in an oct: integers, eight scales, eight minimums. */
export function groupBytes({ bits, hasMinimums, scaleCols, scales }: Form): number {
  return bits * scaleCols + FLOAT_BYTES[scales] * (hasMinimums ? 2 : 1);
}

/** Bytes of the super scales that stand before 256 columns of an oct. */
export function superBytes({ hasMinimums, scales }: Form): number {
  return scales !== 'super' ? 0 : hasMinimums ? 32 : 16;
}

/** Bytes of eight rows of `cols` columns with their scales and minimums. */
export function octBytes(form: Form, cols: number): number {
  return (cols / form.scaleCols) * groupBytes(form) + (cols / SUPER_COLS) * superBytes(form);
}
