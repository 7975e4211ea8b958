/**
 * Fill hartonomous.token_embeddings: for every token where its embedding row lives, the row's norm, and a Hilbert index
 * over its first four principal components, so that near indices tend to be near meanings.
 */
import { execute, notice, poll, query } from '../db.ts';
import { RowAssembler } from '../format/tiles.ts';
import { hilbertEncode } from '../hilbert/hilbert.ts';
import { dequantizeRow } from './dequantize.ts';
import type { EmbeddingMatrix } from './embedding-rows.ts';
import { embeddingMatrix, tileStarts } from './embedding-rows.ts';
import { eachTile } from './source-db.ts';

/** Dimensions and bits of the index: 4 x 15 = 60 bits fit a bigint. */
const COMPONENTS = 4;
const BITS = 15;
/** The components are fitted on at most this many evenly spaced rows and this many bytes of them. */
const MAX_SAMPLE_ROWS = 8192;
const MAX_SAMPLE_BYTES = 32 * 1024 * 1024;
/** Rounds of subspace iteration; the leading components of embeddings settle long before. */
const ITERATIONS = 12;
const ROWS_PER_INSERT = 8192;
/** Notices that tell how far it is. */
const NOTICES = 50;

/** Call `visit` with every row of the matrix as floats (dim); the buffer is reused. */
function eachEmbedding(matrix: EmbeddingMatrix, visit: (index: number, row: Float32Array) => void): void {
  const row = new Float32Array(matrix.dim);
  let index = 0;
  const assembler = new RowAssembler(matrix.rowBytes);
  const { ids } = tileStarts(matrix);
  eachTile(ids, (content) => {
    assembler.add(content, (_firstRow, bytes) => {
      for (let offset = 0; offset < bytes.length; offset += matrix.rowBytes) {
        dequantizeRow(matrix.type, bytes, offset, row, matrix.dim);
        visit(index++, row);
        if ((index & 255) === 0) poll();
      }
    });
  });
}

/** Make the rows of `basis` (COMPONENTS, dim) orthonormal by Gram-Schmidt. */
function orthonormalise(basis: Float64Array[]): void {
  for (let i = 0; i < basis.length; i++) {
    const v = basis[i]!;
    for (let j = 0; j < i; j++) {
      const u = basis[j]!;
      let dot = 0;
      for (let d = 0; d < v.length; d++) dot += v[d]! * u[d]!;
      for (let d = 0; d < v.length; d++) v[d]! -= dot * u[d]!;
    }
    let norm = 0;
    for (const x of v) norm += x * x;
    norm = Math.sqrt(norm);
    for (let d = 0; d < v.length; d++) v[d] = norm > 0 ? v[d]! / norm : d === i % v.length ? 1 : 0;
  }
}

/** Leading principal components (COMPONENTS, dim) of sample (n, dim), already centred; deterministic, sign fixed. */
function principalComponents(sample: Float32Array, n: number, dim: number): Float64Array[] {
  let basis = Array.from({ length: COMPONENTS }, (_, c) =>
    Float64Array.from({ length: dim }, (__, d) => Math.cos((d + 1) * (c + 1))),
  );
  orthonormalise(basis);
  for (let round = 0; round < ITERATIONS; round++) {
    const next = basis.map(() => new Float64Array(dim));
    for (let r = 0; r < n; r++) {
      const offset = r * dim;
      for (let c = 0; c < COMPONENTS; c++) {
        const v = basis[c]!;
        const out = next[c]!;
        let dot = 0;
        for (let d = 0; d < dim; d++) dot += sample[offset + d]! * v[d]!;
        for (let d = 0; d < dim; d++) out[d]! += dot * sample[offset + d]!;
      }
      if ((r & 255) === 0) poll();
    }
    orthonormalise(next);
    basis = next;
  }
  for (const v of basis) {
    let largest = 0;
    for (let d = 0; d < dim; d++) if (Math.abs(v[d]!) > Math.abs(v[largest]!)) largest = d;
    if (v[largest]! < 0) for (let d = 0; d < dim; d++) v[d] = -v[d]!;
  }
  return basis;
}

/** What is told of rows that are read or written, each of them three times in all: ingest shows it. */
function progressOf({ rows, rowBytes }: EmbeddingMatrix): (rows: number) => void {
  let done = 0;
  let told = -1;
  return (more) => {
    done += more;
    const share = done / (3 * rows);
    if (Math.floor(share * NOTICES) === told) return;
    told = Math.floor(share * NOTICES);
    notice(`embeddings: ${Math.round(share * rows * rowBytes)} of ${rows * rowBytes} bytes`);
  };
}

/** Index every token of a model; the number of rows written. Existing rows of the model are replaced. */
export function indexModelEmbeddings(modelId: number): number {
  const matrix = embeddingMatrix(modelId);
  const { dim, rows } = matrix;
  const norms = new Float32Array(rows);
  const sampleRows = Math.max(1, Math.min(rows, MAX_SAMPLE_ROWS, Math.floor(MAX_SAMPLE_BYTES / (dim * 4))));
  const stride = rows / sampleRows;
  const sample = new Float32Array(sampleRows * dim); // (sampleRows, dim)
  const mean = new Float64Array(dim);
  let taken = 0;
  const tell = progressOf(matrix);
  eachEmbedding(matrix, (index, row) => {
    tell(1);
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += row[d]! * row[d]!;
    norms[index] = Math.sqrt(sum);
    if (taken < sampleRows && index >= Math.floor(taken * stride)) {
      sample.set(row, taken * dim);
      for (let d = 0; d < dim; d++) mean[d]! += row[d]!;
      taken++;
    }
  });
  for (let d = 0; d < dim; d++) mean[d]! /= Math.max(1, taken);
  for (let r = 0; r < taken; r++) for (let d = 0; d < dim; d++) sample[r * dim + d]! -= mean[d]!;
  const basis = principalComponents(sample, taken, dim);

  const projections = Array.from({ length: COMPONENTS }, () => new Float32Array(rows));
  eachEmbedding(matrix, (index, row) => {
    tell(1);
    for (let c = 0; c < COMPONENTS; c++) {
      const v = basis[c]!;
      let dot = 0;
      for (let d = 0; d < dim; d++) dot += (row[d]! - mean[d]!) * v[d]!;
      projections[c]![index] = dot;
    }
  });
  const scale = projections.map((values) => {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return { low, step: high > low ? ((1 << BITS) - 1) / (high - low) : 0 };
  });

  execute('delete from hartonomous.token_embeddings where model_id = $1::bigint', [modelId]);
  const point = new Array<number>(COMPONENTS);
  for (let from = 0; from < rows; from += ROWS_PER_INSERT) {
    const to = Math.min(rows, from + ROWS_PER_INSERT);
    const hilbert: string[] = [];
    for (let index = from; index < to; index++) {
      for (let c = 0; c < COMPONENTS; c++) {
        const { low, step } = scale[c]!;
        const value = Math.round((projections[c]![index]! - low) * step);
        point[c] = Number.isFinite(value) ? value : 0;
      }
      hilbert.push(hilbertEncode(point, BITS).toString());
    }
    execute(
      `insert into hartonomous.token_embeddings (model_id, token_id, matrix_id, row_index, norm, hilbert)
       select t.model_id, t.token_id, $2::bigint, t.token_id, n.norm, n.hilbert
       from unnest($4::real[], $5::bigint[]) with ordinality as n (norm, hilbert, ordinality)
       join hartonomous.tokens t on t.model_id = $1::bigint and t.token_id = $3::integer + n.ordinality - 1`,
      [modelId, matrix.id, from, Array.from(norms.subarray(from, to)), hilbert],
    );
    tell(to - from);
    poll();
  }
  return Number(
    query('select count(*)::float8 as n from hartonomous.token_embeddings where model_id = $1::bigint', [modelId])[0]
      ?.n,
  );
}
