/** Tokens whose embeddings lie near that of a token, by all embeddings or by a stretch of the Hilbert curve. */
import { poll, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { embeddingMatrix, readEmbeddings } from '../model/embedding-rows.ts';
import type { Model } from '../model/model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { currentCatalog, useModel, useTokenizer } from '../backend/registry.ts';
import { brief } from '../format/visible-text.ts';

/** Embeddings on either side along the curve that the approximate method looks at. */
const WINDOW = 512;
/** More neighbours than anybody reads; ranking them costs k steps for each that enters. */
export const MAX_NEIGHBOURS = 1000;

export interface Neighbour {
  id: number;
  cosine: number;
}

/** The id of the token that a text is, or of the vocabulary entry of that spelling. Throws where it is neither. */
export function tokenNamed(tokenizer: Tokenizer, modelId: number, text: string): number {
  const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial: true, poll });
  if (ids.length === 1) return ids[0]!;
  const entry = query(
    `select min(t.token_id) as id from hartonomous.atoms a
     join hartonomous.tokens t on t.atom_id = a.id and t.model_id = $1::bigint
     where a.kind = 'token' and a.hash = sha256(convert_to($2::text, 'UTF8'))`,
    [modelId, text],
  )[0];
  if (typeof entry?.id === 'number') return entry.id;
  raise(SQLSTATE.invalidParameterValue, `text is ${ids.length} tokens of the model and no entry of its vocabulary`, {
    hint: 'name one token: hartonomous.tokenize shows how a text is divided',
  });
}

/** The embedding of a token as it is stored. */
export function embeddingOf(modelId: number, id: number): Float32Array {
  return readEmbeddings(embeddingMatrix(modelId), [id])[0]!;
}

function normOf(vector: Float32Array): number {
  let sum = 0;
  for (const x of vector) sum += x * x;
  return Math.sqrt(sum);
}

/** The `limit` best of what is offered, best first; of equals the one offered first. */
export class Ranking {
  readonly best: Neighbour[] = [];

  constructor(private readonly limit: number) {}

  offer(id: number, cosine: number): void {
    const { best, limit } = this;
    if (!(cosine > (best.length < limit ? -Infinity : best.at(-1)!.cosine))) return;
    let at = best.length;
    while (at > 0 && best[at - 1]!.cosine < cosine) at--;
    best.splice(at, 0, { id, cosine });
    if (best.length > limit) best.pop();
  }
}

/** Norms (vocabSize) of the embeddings of a loaded model; 0 for a token that has none. */
const normsOf = new WeakMap<Model, Float32Array>();

function embeddingNorms(model: Model, modelId: number): Float32Array {
  const known = normsOf.get(model);
  if (known !== undefined) return known;
  // One bytea, big-endian, instead of a row a token.
  const row = query(
    `select string_agg(float4send(norm), ''::bytea) as norms, string_agg(int4send(row_index), ''::bytea) as rows from
       (select norm, row_index from hartonomous.token_embeddings where model_id = $1::bigint order by token_id) e`,
    [modelId],
  )[0];
  const norms = new Float32Array(model.config.vocabSize);
  if (row?.norms instanceof Uint8Array && row.rows instanceof Uint8Array) {
    const values = new DataView(row.norms.buffer, row.norms.byteOffset, row.norms.byteLength);
    const rows = new DataView(row.rows.buffer, row.rows.byteOffset, row.rows.byteLength);
    for (let at = 0; at < values.byteLength; at += 4) norms[rows.getInt32(at)] = values.getFloat32(at);
  }
  normsOf.set(model, norms);
  return norms;
}

/** Cosine with every embedding, through the loaded matrix; loads the model where this backend does not hold it. */
function exactNeighbours(modelName: string, id: number, k: number): Neighbour[] {
  const { entry } = useModel(currentCatalog(), modelName, 'auto', { inParallel: true });
  const target = embeddingOf(entry.description.id, id);
  const norms = embeddingNorms(entry.model, entry.description.id);
  const products = entry.model.embeddingProducts(target, poll);
  const norm = normOf(target);
  const ranking = new Ranking(k);
  for (let other = 0; other < norms.length; other++) {
    const scale = norm * norms[other]!;
    if (other !== id && scale > 0) ranking.offer(other, products[other]! / scale);
  }
  return ranking.best;
}

/** Cosine with the embeddings whose indices on the Hilbert curve are next to the token's; reads just their rows. */
function hilbertNeighbours(modelId: number, id: number, k: number): Neighbour[] {
  const rows = query(
    `with place as (select hilbert from hartonomous.token_embeddings where model_id = $1::bigint and token_id = $2::integer)
     (select e.token_id, e.row_index from hartonomous.token_embeddings e
      where e.model_id = $1::bigint and e.hilbert >= (select hilbert from place) and e.token_id <> $2::integer
      order by e.hilbert, e.token_id limit $3::integer)
     union all
     (select e.token_id, e.row_index from hartonomous.token_embeddings e
      where e.model_id = $1::bigint and e.hilbert < (select hilbert from place)
      order by e.hilbert desc, e.token_id limit $3::integer)`,
    [modelId, id, WINDOW],
  );
  const [target, ...others] = readEmbeddings(embeddingMatrix(modelId), [
    id,
    ...rows.map((row) => Number(row.row_index)),
  ]);
  const norm = normOf(target!);
  const ranking = new Ranking(k);
  others.forEach((vector, i) => {
    let product = 0;
    for (let d = 0; d < vector.length; d++) product += vector[d]! * target![d]!;
    const scale = norm * normOf(vector);
    if (scale > 0) ranking.offer(Number(rows[i]!.token_id), product / scale);
  });
  return ranking.best;
}

/** The k tokens nearest to one; the token itself is not among them. */
export function nearest(
  token: string,
  k: number,
  model: string | null,
  method: string,
): { modelId: number; id: number; tokenizer: Tokenizer; neighbours: Neighbour[] } {
  if (!Number.isInteger(k) || k < 1 || k > MAX_NEIGHBOURS)
    raise(SQLSTATE.invalidParameterValue, `k must be 1 to ${MAX_NEIGHBOURS}, got ${k}`);
  if (method !== 'exact' && method !== 'hilbert')
    raise(SQLSTATE.invalidParameterValue, `method ${brief(method)} is not known, methods are exact and hilbert`);
  const { tokenizer, description } = useTokenizer(currentCatalog(), model);
  const id = tokenNamed(tokenizer, description.id, token);
  const neighbours =
    method === 'exact' ? exactNeighbours(description.name, id, k) : hilbertNeighbours(description.id, id, k);
  return { modelId: description.id, id, tokenizer, neighbours };
}
