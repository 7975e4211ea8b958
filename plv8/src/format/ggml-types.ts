/**
 * Storage types of GGUF tensors: id, name, elements and bytes per block (GGUF specification, ggml's type table).
 * All that the engine computes with; the client refuses a file with any other. Shared by the client (cli/) and the code
 * inside PostgreSQL.
 */
export interface GgmlType {
  readonly id: number;
  readonly name: string;
  /** Elements per block; a row's length is a multiple of it. */
  readonly blockSize: number;
  /** Bytes per block. */
  readonly blockBytes: number;
}

const TABLE: readonly (readonly [id: number, name: string, blockSize: number, blockBytes: number])[] = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [20, 'IQ4_NL', 32, 18],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [30, 'BF16', 1, 2],
];

const ALL: readonly GgmlType[] = TABLE.map(([id, name, blockSize, blockBytes]) => ({
  id,
  name,
  blockSize,
  blockBytes,
}));
const BY_ID = new Map(ALL.map((type) => [type.id, type]));
const BY_NAME = new Map(ALL.map((type) => [type.name, type]));

export function ggmlTypeById(id: number): GgmlType | undefined {
  return BY_ID.get(id);
}

export function ggmlTypeByName(name: string): GgmlType | undefined {
  return BY_NAME.get(name);
}

/** Bytes of one row of `rowLength` elements, or undefined when the length is not a whole number of blocks. */
export function rowBytes(type: GgmlType, rowLength: number): number | undefined {
  return rowLength % type.blockSize === 0 ? (rowLength / type.blockSize) * type.blockBytes : undefined;
}
