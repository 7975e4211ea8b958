/**
 * The vocabulary as a map: tokens in the order of the Hilbert curve over the first four principal components of their
 * embeddings (token_embeddings.hilbert), laid along the Hilbert curve of a square. What is near on the map is near on the
 * curve; what is near on the curve may still be far on the map, and four components are a small part of an embedding.
 */
import { query } from '../db.ts';
import { encodeBase64 } from '../format/base64.ts';
import { hilbertDecode } from '../hilbert/hilbert.ts';

/** The background has at most (2^6)^2 cells: a column of it takes 5.5 kB of the page. */
const MAX_CELL_BITS = 6;
/** A cell averages over at least so many tokens. */
const TOKENS_PER_CELL = 4;

/** Every token of a model that has an embedding, in the order of the curve. */
export interface CurveOrder {
  ids: Int32Array; // (tokens)
  hilbert: Float64Array; // (tokens) ascending, of 60 bits the first 53
  norms: Float32Array; // (tokens)
}

/** A number for each cell: byte b, at row * cells + column of the base64, is low + (high - low) * b / 255. */
export interface CellColumn {
  low: number;
  high: number;
  cells: string;
}

export interface VocabularyMap {
  tokens: number;
  /** Places on a side, at least one for each token; the place of column x in row y is y * side + x. */
  side: number;
  /** Cells of the background on a side. */
  cells: number;
  /** log2 of the tokens that there are in a length of the curve. */
  crowding: CellColumn;
  /** Mean norm of the embeddings. */
  norm: CellColumn;
  /** Mean token id. */
  id: CellColumn;
}

/** The order of a model's tokens; null where it has no rows in token_embeddings. */
export function curveOrder(modelId: number): CurveOrder | null {
  // One bytea a column, big-endian, instead of a row a token.
  const row = query(
    `select string_agg(int4send(token_id), ''::bytea) as ids, string_agg(float8send(hilbert::float8), ''::bytea) as hilbert,
       string_agg(float4send(norm), ''::bytea) as norms from
       (select token_id, hilbert, norm from hartonomous.token_embeddings where model_id = $1::bigint order by hilbert, token_id) e`,
    [modelId],
  )[0];
  const { ids, hilbert, norms } = row ?? {};
  if (!(ids instanceof Uint8Array && hilbert instanceof Uint8Array && norms instanceof Uint8Array)) return null;
  const view = ({ buffer, byteOffset, byteLength }: Uint8Array): DataView =>
    new DataView(buffer, byteOffset, byteLength);
  const [ofIds, ofHilbert, ofNorms] = [view(ids), view(hilbert), view(norms)];
  const tokens = ids.length / 4;
  const order = {
    ids: new Int32Array(tokens),
    hilbert: new Float64Array(tokens),
    norms: new Float32Array(tokens),
  };
  for (let rank = 0; rank < tokens; rank++) {
    order.ids[rank] = ofIds.getInt32(4 * rank);
    order.hilbert[rank] = ofHilbert.getFloat64(8 * rank);
    order.norms[rank] = ofNorms.getFloat32(4 * rank);
  }
  return order;
}

/** Values (cells * cells), row by row, as bytes between the lowest and the highest. */
function cellColumn(values: Float64Array): CellColumn {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const step = high > low ? 255 / (high - low) : 0;
  return { low, high, cells: encodeBase64(Uint8Array.from(values, (value) => Math.round((value - low) * step))) };
}

/** The map of at least one token, and the place of a token on it; null for one that has no embedding. */
export function vocabularyMap(order: CurveOrder): { map: VocabularyMap; placeOf(id: number): number | null } {
  const { ids, hilbert, norms } = order;
  const tokens = ids.length;
  let bits = 1;
  while (4 ** bits < tokens) bits++;
  let cellBits = 0;
  while (cellBits < Math.min(MAX_CELL_BITS, bits) && 4 ** (cellBits + 1) * TOKENS_PER_CELL <= tokens) cellBits++;
  const side = 2 ** bits;
  const cells = 2 ** cellBits;
  /** Places of a cell, which the curve visits one after another. */
  const places = 4 ** (bits - cellBits);
  // Ranks are spread evenly, so the square is full and no two tokens have one place.
  const along = (rank: number): number => Math.floor((rank * side * side) / tokens);

  const crowding = new Float64Array(cells * cells); // (cells, cells)
  const meanNorm = new Float64Array(cells * cells); // (cells, cells)
  const meanId = new Float64Array(cells * cells); // (cells, cells)
  let rank = 0;
  for (let cell = 0; cell < cells * cells; cell++) {
    const first = rank;
    let norm = 0;
    let id = 0;
    for (; rank < tokens && along(rank) < (cell + 1) * places; rank++) {
      norm += norms[rank]!;
      id += ids[rank]!;
    }
    const count = rank - first;
    const [x, y] = hilbertDecode(BigInt(cell * places), 2, bits).map((at) => at >> (bits - cellBits));
    const at = y! * cells + x!;
    crowding[at] = Math.log2(count / Math.max(1, hilbert[Math.min(rank, tokens - 1)]! - hilbert[first]!));
    meanNorm[at] = norm / count;
    meanId[at] = id / count;
  }

  const ranks = new Map<number, number>();
  ids.forEach((id, r) => ranks.set(id, r));
  return {
    map: {
      tokens,
      side,
      cells,
      crowding: cellColumn(crowding),
      norm: cellColumn(meanNorm),
      id: cellColumn(meanId),
    },
    placeOf(id) {
      const r = ranks.get(id);
      if (r === undefined) return null;
      const [x, y] = hilbertDecode(BigInt(along(r)), 2, bits);
      return y! * side + x!;
    },
  };
}
