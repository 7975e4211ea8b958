/** Single rows of a stored embedding matrix, out of the tiles that hold them: nothing has to be loaded for them. */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { dequantizeRow } from './dequantize.ts';

/** Name GGUF gives the input embedding of every architecture. */
const EMBEDDING_TENSOR = 'token_embd.weight';

export interface EmbeddingMatrix {
  id: number;
  type: string;
  dim: number;
  rows: number;
  rowBytes: number;
  atomId: number;
}

/** The embedding matrix of a model as the tables know it. Throws dataCorrupted where there is none. */
export function embeddingMatrix(modelId: number): EmbeddingMatrix {
  const row = query(
    `select id::float8 as id, storage_type, shape[1]::float8 as dim, row_count::float8 as rows, row_bytes, atom_id::float8 as atom_id
     from hartonomous.weight_matrices where model_id = $1::bigint and name = $2::text`,
    [modelId, EMBEDDING_TENSOR],
  )[0];
  if (row === undefined) raise(SQLSTATE.dataCorrupted, `model ${modelId} has no tensor ${EMBEDDING_TENSOR}`);
  return {
    id: Number(row.id),
    type: String(row.storage_type),
    dim: Number(row.dim),
    rows: Number(row.rows),
    rowBytes: Number(row.row_bytes),
    atomId: Number(row.atom_id),
  };
}

/** A run of bytes inside of one tile. */
interface Piece {
  tile: number;
  offset: number;
  bytes: number;
}

/** Where the tiles of a matrix begin among its bytes, with the end of the last one at the end. */
export function tileStarts(matrix: EmbeddingMatrix): { ids: number[]; starts: number[] } {
  const ids: number[] = [];
  const starts = [0];
  for (const row of query(
    `select a.id::float8 as id, a.size_bytes::float8 as bytes from hartonomous.compositions c
     join hartonomous.atoms a on a.kind = 'tile' and a.id = c.child_id
     where c.parent_kind = 'composite' and c.parent_id = $1::bigint order by c.ordinal`,
    [matrix.atomId],
  )) {
    ids.push(Number(row.id));
    starts.push(starts.at(-1)! + Number(row.bytes));
  }
  return { ids, starts };
}

/** The rows `indices` of the matrix as floats (dim) each. Throws dataCorrupted for a row that is not there. */
export function readEmbeddings(matrix: EmbeddingMatrix, indices: readonly number[]): Float32Array[] {
  const { ids, starts } = tileStarts(matrix);
  const pieces: Piece[] = [];
  for (const index of indices) {
    let at = index * matrix.rowBytes;
    const end = at + matrix.rowBytes;
    if (index < 0 || end > starts.at(-1)!)
      raise(SQLSTATE.dataCorrupted, `tensor ${EMBEDDING_TENSOR} has ${matrix.rows} rows, row ${index} was asked for`);
    let tile = 0;
    while (at < end) {
      while (starts[tile + 1]! <= at) tile++;
      const bytes = Math.min(end, starts[tile + 1]!) - at;
      pieces.push({ tile: ids[tile]!, offset: at - starts[tile]!, bytes });
      at += bytes;
    }
  }
  const read = query(
    `select substr(a.content, p.start, p.bytes) as bytes
     from unnest($1::bigint[], $2::integer[], $3::integer[]) with ordinality as p (id, start, bytes, place)
     join hartonomous.atoms a on a.kind = 'tile' and a.id = p.id order by p.place`,
    [pieces.map((piece) => piece.tile), pieces.map((piece) => piece.offset + 1), pieces.map((piece) => piece.bytes)],
  );
  const row = new Uint8Array(matrix.rowBytes);
  let next = 0;
  return indices.map(() => {
    for (let filled = 0; filled < matrix.rowBytes;) {
      const bytes = read[next++]!.bytes as Uint8Array;
      row.set(bytes, filled);
      filled += bytes.length;
    }
    const out = new Float32Array(matrix.dim);
    dequantizeRow(matrix.type, row, 0, out, matrix.dim);
    return out;
  });
}
