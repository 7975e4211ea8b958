/**
 * Tensors as the forward pass wants them, where the source's own form is another: GPT-2 of Hugging Face holds its matrices
 * by columns, Gemma the weights of its norms less one, and Ollama's converter named some differently. What is stored stays
 * as it was in the source.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { TILE_TARGET_BYTES } from '../format/tiles.ts';
import { tensorPlace } from '../format/tensor-names.ts';
import { dequantizeRow } from './dequantize.ts';
import { rowByteLength } from './matrix.ts';
import type { TensorInfo, WeightSource } from './source.ts';

type Change = 'transpose' | 'add';

function bytesOf(floats: Float32Array): Uint8Array {
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

/** Rows of a stored tile as floats (rows, cols). */
function floatsOf(info: TensorInfo, bytes: Uint8Array): Float32Array {
  const cols = info.shape[0]!;
  const rowBytes = rowByteLength(info.type, cols);
  const rows = bytes.length / rowBytes;
  const floats = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++)
    dequantizeRow(info.type, bytes, r * rowBytes, floats.subarray(r * cols, (r + 1) * cols), cols);
  return floats;
}

/** Ollama's names in EmbeddingGemma -> GGUF's. */
const RENAMED: ReadonlyMap<string, string> = new Map([
  ['dense.0.weight', 'dense_2.weight'],
  ['dense.1.weight', 'dense_3.weight'],
  ['norm.weight', 'output_norm.weight'],
]);

function named(info: TensorInfo): TensorInfo {
  return { ...info, name: RENAMED.get(info.name) ?? info.name };
}

/**
 * The source with the changes that the metadata `hartonomous.transposed_roles` and `hartonomous.norm_offset` ask for;
 * changed tensors come as F32. Holds one transposed matrix at a time.
 */
export function inModelForm(source: WeightSource, meta: Record<string, unknown>): WeightSource {
  const listed = meta['hartonomous.transposed_roles'] ?? [];
  const offset = meta['hartonomous.norm_offset'] ?? 0;
  if (!Array.isArray(listed) || typeof offset !== 'number') {
    raise(SQLSTATE.dataCorrupted, 'model metadata hartonomous.transposed_roles or norm_offset is of another kind');
  }
  const transposed = new Set<unknown>(listed);
  const changeOf = ({ name, shape }: TensorInfo): Change | null => {
    const { role } = tensorPlace(name);
    if (transposed.has(role) && shape.length === 2) return 'transpose';
    return offset !== 0 && role.endsWith('norm') ? 'add' : null;
  };
  const changed = (info: TensorInfo): TensorInfo => {
    const change = changeOf(info);
    if (change === null) return named(info);
    return {
      name: named(info).name,
      type: 'F32',
      shape: change === 'transpose' ? [...info.shape].reverse() : info.shape,
    };
  };
  return {
    tensors: () => source.tensors().map(changed),
    eachTile(visit) {
      let columns: Float32Array | null = null; // (cols, rows) of the matrix being transposed
      source.eachTile((info, firstRow, bytes) => {
        const change = changeOf(info);
        if (change === null) {
          visit(named(info), firstRow, bytes);
          return;
        }
        const floats = floatsOf(info, bytes);
        if (change === 'add') {
          visit(changed(info), firstRow, bytesOf(floats.map((value) => value + offset)));
          return;
        }
        const [cols, rows] = info.shape as [number, number];
        if (firstRow === 0) columns = new Float32Array(rows * cols);
        const count = floats.length / cols;
        if (columns?.length !== rows * cols || firstRow + count > rows)
          raise(SQLSTATE.dataCorrupted, `tensor ${info.name} has rows out of order at row ${firstRow}`);
        for (let r = 0; r < count; r++)
          for (let c = 0; c < cols; c++) columns[c * rows + firstRow + r] = floats[r * cols + c]!;
        if (firstRow + count < rows) return;
        const perTile = Math.max(1, Math.floor(TILE_TARGET_BYTES / (4 * rows)));
        for (let row = 0; row < cols; row += perTile) {
          const end = Math.min(cols, row + perTile);
          visit(changed(info), row, bytesOf(columns.subarray(row * rows, end * rows)));
        }
        columns = null;
      });
    },
  };
}
