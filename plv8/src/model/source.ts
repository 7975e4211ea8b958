/** Where a model's tensors come from: the database in production, a GGUF file in tests. */
export interface TensorInfo {
  /** GGUF name, as `blk.3.attn_q.weight`. */
  name: string;
  /** GGUF storage type, as `Q8_0`. */
  type: string;
  /** GGUF order: shape[0] is the row length. */
  shape: number[];
}

export interface WeightSource {
  tensors(): TensorInfo[];
  /** Visit every tile in reading order; `bytes` holds whole rows from `firstRow` on and is valid during the call only. */
  eachTile(visit: (tensor: TensorInfo, firstRow: number, bytes: Uint8Array) => void): void;
}
