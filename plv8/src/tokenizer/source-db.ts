import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { decodeUtf8 } from '../format/utf8.ts';
import type { Merges, Vocabulary } from './vocabulary.ts';

/**
 * Vocabulary of a model from tokens, atoms and relations. Columns travel as one bytea each, big-endian as PostgreSQL's
 * send functions write them, so 150,000 tokens cost two rows and not 150,000. Aggregates
 * read an ordered subquery: one sort for all of them, where `order by` inside each would sort once an aggregate.
 */
export function readVocabulary(modelId: number): Vocabulary {
  const model = query(
    `select tokenizer || jsonb_strip_nulls(jsonb_build_object('general.name', hyperparameters->'general.name')) as tokenizer
     from hartonomous.models where id = $1::bigint`,
    [modelId],
  )[0];
  if (model === undefined) raise(SQLSTATE.undefinedObject, `model with id ${modelId} does not exist`);
  const settings = (model.tokenizer ?? {}) as Record<string, unknown>;
  const row = query(
    `select count(*)::integer as n, max(token_id) as last,
       string_agg(content, ''::bytea) as texts,
       string_agg(int4send(length(content)), ''::bytea) as lengths,
       string_agg(int8send(atom_id), ''::bytea) as atoms,
       string_agg(int2send(type), ''::bytea) as types,
       string_agg(float4send(coalesce(score, 0)), ''::bytea) as scores,
       bool_or(score is not null) as scored
     from (
       select t.token_id, t.atom_id, t.type, t.score, a.content
       from hartonomous.tokens t
       join hartonomous.atoms a on a.kind = 'token' and a.id = t.atom_id
       where t.model_id = $1::bigint
       order by t.token_id
     ) ordered`,
    [modelId],
  )[0]!;
  const n = Number(row.n);
  if (n === 0) raise(SQLSTATE.dataCorrupted, `model with id ${modelId} has no tokens`);
  if (Number(row.last) !== n - 1) {
    raise(SQLSTATE.dataCorrupted, `model with id ${modelId} has ${n} tokens, the last one has id ${String(row.last)}`);
  }
  const lengths = viewOf(row.lengths);
  const atoms = viewOf(row.atoms);
  const typeView = viewOf(row.types);
  const scoreView = viewOf(row.scores);
  const texts = row.texts as Uint8Array;
  const tokens: string[] = [];
  const types = new Int8Array(n);
  const scores = row.scored === true ? new Float32Array(n) : null;
  const ids = new Map<number, number>(); // atom id -> token id
  let at = 0;
  for (let id = 0; id < n; id++) {
    const end = at + lengths.getInt32(4 * id);
    tokens.push(decodeUtf8(texts, at, end));
    at = end;
    types[id] = typeView.getInt16(2 * id);
    if (scores !== null) scores[id] = scoreView.getFloat32(4 * id);
    ids.set(atomAt(atoms, id), id);
  }
  const pre = settings['tokenizer.ggml.pre'];
  return {
    model: String(settings['tokenizer.ggml.model'] ?? ''),
    pre: typeof pre === 'string' ? pre : null,
    tokens,
    types,
    scores,
    merges: readMerges(modelId, n, ids),
    settings,
  };
}

/** Merges in rank order, or null when the model has none. `ids` (atom id -> symbol) gains the parts that are no token. */
function readMerges(modelId: number, vocabSize: number, ids: Map<number, number>): Merges | null {
  const row = query(
    `select count(*)::integer as n,
       string_agg(int8send(from_id), ''::bytea) as lefts,
       string_agg(int8send(to_id), ''::bytea) as rights
     from (
       select from_id, to_id from hartonomous.relations
       where model_id = $1::bigint and kind = 'merge'
       order by weight
     ) ordered`,
    [modelId],
  )[0]!;
  const n = Number(row.n);
  if (n === 0) return null;
  const lefts = viewOf(row.lefts);
  const rights = viewOf(row.rights);
  const missing: number[] = [];
  const pairs = new Int32Array(2 * n);
  const symbolOf = (atom: number): number => {
    let symbol = ids.get(atom);
    if (symbol === undefined) {
      symbol = vocabSize + missing.length;
      ids.set(atom, symbol);
      missing.push(atom);
    }
    return symbol;
  };
  for (let rank = 0; rank < n; rank++) {
    pairs[2 * rank] = symbolOf(atomAt(lefts, rank));
    pairs[2 * rank + 1] = symbolOf(atomAt(rights, rank));
  }
  return { pairs, parts: readTexts(missing) };
}

/** Texts of token atoms, in the order asked for. */
function readTexts(atoms: number[]): string[] {
  if (atoms.length === 0) return [];
  const found = new Map(
    query(
      `select a.id::float8 as id, a.content || ''::bytea as content from hartonomous.atoms a
       where a.kind = 'token' and a.id in (select value::bigint from jsonb_array_elements_text($1::text::jsonb))`,
      [JSON.stringify(atoms)],
    ).map((row) => [Number(row.id), decodeUtf8(row.content as Uint8Array)]),
  );
  return atoms.map(
    (id) => found.get(id) ?? raise(SQLSTATE.dataCorrupted, `token atom ${id} of a merge does not exist`),
  );
}

function viewOf(column: unknown): DataView {
  const bytes = column as Uint8Array;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A bigint id as a number; ids come from a sequence and stay far below 2^53. */
function atomAt(view: DataView, index: number): number {
  return view.getInt32(8 * index) * 4294967296 + view.getUint32(8 * index + 4);
}
