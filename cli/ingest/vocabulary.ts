/** Tokens, their bytes and their merges. */
import type pg from 'pg';
import { quoted } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import type { GgufValue } from '../sources/gguf.ts';
import type { ModelSource } from '../sources/model-source.ts';
import { StringTable } from '../sources/string-table.ts';
import { copyRows, float4, int2, int4 } from './copy-binary.ts';

type Header = Pick<ModelSource, 'metadata'>;

const NORMAL_TOKEN = 1;
/** ggml's token types end with 6, bytes. */
const MAX_TOKEN_TYPE = 6;

function strings(header: Header, key: string): StringTable | null {
  const value = header.metadata.get(key);
  if (value === undefined) return null;
  if (!(value instanceof StringTable)) throw new CommandError(`${key} is not an array of strings`);
  return value;
}

function numbers(header: Header, key: string, length: number): readonly number[] | null {
  const value: GgufValue | undefined = header.metadata.get(key);
  if (value === undefined) return null;
  if (!Array.isArray(value)) throw new CommandError(`${key} is not an array of numbers`);
  const list = value as readonly GgufValue[];
  if (list.length !== length)
    throw new CommandError(`${key} has ${list.length} values, the vocabulary ${length} tokens`);
  return list.map(Number);
}

/** Read everything a vocabulary is made of once, so that a damaged one is refused before anything is stored. */
export function checkVocabulary(header: Header): void {
  const tokens = vocabularySize(header);
  for (const [i, type] of (numbers(header, 'tokenizer.ggml.token_type', tokens) ?? []).entries()) {
    if (!Number.isInteger(type) || type < 0 || type > MAX_TOKEN_TYPE)
      throw new CommandError(`tokenizer.ggml.token_type[${i}] is ${type}, types 0 to ${MAX_TOKEN_TYPE} exist`);
  }
  for (const [i, score] of (numbers(header, 'tokenizer.ggml.scores', tokens) ?? []).entries()) {
    if (!Number.isFinite(score)) throw new CommandError(`tokenizer.ggml.scores[${i}] is ${score}`);
  }
  const merges = strings(header, 'tokenizer.ggml.merges');
  for (let rank = 0; rank < (merges?.length ?? 0); rank++) splitMerge(merges!.at(rank), rank);
}

export function vocabularySize(header: Header): number {
  const tokens = strings(header, 'tokenizer.ggml.tokens');
  if (tokens === null || tokens.length === 0) throw new CommandError('file has no tokenizer.ggml.tokens');
  return tokens.length;
}

/** The two sides of a merge: split at the first space that is not the first character. */
function splitMerge(merge: Buffer, rank: number): [Buffer, Buffer] {
  const at = merge.indexOf(0x20, 1);
  if (at < 0 || at === merge.length - 1)
    throw new CommandError(`merge ${rank} has no two parts: ${quoted(merge.toString())}`);
  return [merge.subarray(0, at), merge.subarray(at + 1)];
}

function* tokenRows(
  tokens: StringTable,
  types: readonly number[] | null,
  scores: readonly number[] | null,
): Generator<(Buffer | null)[]> {
  for (let id = 0; id < tokens.length; id++) {
    yield [
      int4(id),
      tokens.at(id),
      int2(types?.[id] ?? NORMAL_TOKEN),
      scores === null ? null : float4(scores[id] ?? 0),
    ];
  }
}

function* mergeRows(merges: StringTable): Generator<Buffer[]> {
  for (let rank = 0; rank < merges.length; rank++) {
    const [left, right] = splitMerge(merges.at(rank), rank);
    yield [int4(rank), left, right];
  }
}

/** Bytes of the tokens and merges. */
export function vocabularyBytes(header: Header): number {
  return (
    (strings(header, 'tokenizer.ggml.tokens')?.bytes ?? 0) + (strings(header, 'tokenizer.ggml.merges')?.bytes ?? 0)
  );
}

/** Rows that one statement writes, so that one can see how far it is. */
const ROWS_PER_STATEMENT = 32_768;

/** The rows that go past while they are sent, counted in thousands. */
function* counted<T>(rows: Iterable<T>, count: (rows: number) => void): Generator<T> {
  let rest = 0;
  for (const row of rows) {
    yield row;
    if (++rest === 1000) {
      count(rest);
      rest = 0;
    }
  }
  count(rest);
}

/** Store the vocabulary of a model that has none yet, in one transaction; `onBytes` is told how much of it is done. */
export async function ingestVocabulary(
  client: pg.Client,
  modelId: string,
  header: Header,
  onBytes: (done: number) => void,
): Promise<void> {
  const tokens = strings(header, 'tokenizer.ggml.tokens');
  if (tokens === null) throw new CommandError('file has no tokenizer.ggml.tokens');
  const types = numbers(header, 'tokenizer.ggml.token_type', tokens.length);
  const scores = numbers(header, 'tokenizer.ggml.scores', tokens.length);
  const merges = strings(header, 'tokenizer.ggml.merges');
  // As many rows as the steps below read or write; all take about as long.
  const bytes = vocabularyBytes(header);
  const mergeCount = merges?.length ?? 0;
  const allRows = 4 * tokens.length + 5 * mergeCount + bytes;
  let doneRows = 0;
  const count = (rows: number): void => onBytes((bytes * Math.min(allRows, (doneRows += rows))) / allRows);
  /** A statement for each stretch of places from $1 up to $2, `to` at the most, which stand for so many rows. */
  const inStretches = async (statement: string, to: number, rows: number): Promise<void> => {
    for (let at = 0; at < to; at += ROWS_PER_STATEMENT) {
      const end = Math.min(to, at + ROWS_PER_STATEMENT);
      await client.query(statement, [at, end]);
      count((rows * (end - at)) / to);
    }
  };
  await client.query('begin');
  try {
    await client.query(
      `create temp table new_tokens (token_id integer, content bytea, type smallint, score real) on commit drop`,
    );
    await client.query(`create temp table new_merges (rank integer, left_part bytea, right_part bytea) on commit drop`);
    await copyRows(client, 'pg_temp.new_tokens', counted(tokenRows(tokens, types, scores), count));
    if (merges !== null) await copyRows(client, 'pg_temp.new_merges', counted(mergeRows(merges), count));
    // Ids of new atoms are drawn before their rows are made: they are inserted last, with their references counted, so that
    // counting does not write each of them anew. Triggers count the references to atoms that are there.
    await client.query(
      `create temp table new_atoms on commit drop as
       select c.content, c.hash, a.id is null as is_new, coalesce(a.id, nextval('hartonomous.atom_id_seq')) as id
       from (
         select content, sha256(content) as hash, min(place) as place from (
           select content, token_id as place from new_tokens
           union all select left_part, null from new_merges union all select right_part, null from new_merges) c
         group by content order by place) c
       left join hartonomous.atoms a on a.kind = 'token' and a.hash = c.hash`,
    );
    await client.query('analyze new_tokens; analyze new_merges; analyze new_atoms');
    count(tokens.length + 2 * mergeCount);
    await client.query(
      `create temp table new_relations on commit drop as
       select r.*, row_number() over () - 1 as place
       from (
         select distinct on (l.id, r.id) l.id as from_id, r.id as to_id, m.rank
         from new_merges m join new_atoms l on l.content = m.left_part join new_atoms r on r.content = m.right_part
         order by l.id, r.id, m.rank) r`,
    );
    await client.query('analyze new_relations');
    count(mergeCount);
    const model = client.escapeLiteral(modelId);
    await inStretches(
      `insert into hartonomous.tokens (model_id, token_id, atom_id, type, score)
       select ${model}, t.token_id, n.id, t.type, t.score
       from new_tokens t join new_atoms n on n.content = t.content
       where t.token_id >= $1 and t.token_id < $2 order by t.token_id`,
      tokens.length,
      tokens.length,
    );
    await inStretches(
      `insert into hartonomous.relations (model_id, kind, from_id, to_id, weight)
       select ${model}, 'merge', from_id, to_id, rank from new_relations
       where place >= $1 and place < $2 order by place`,
      mergeCount,
      mergeCount,
    );
    // Counted in the temporary tables, which the planner knows, where the model's own rows are news to it.
    await client.query(
      `create temp table new_rows on commit drop as
       select n.id, n.hash, n.content, r.n as ref_count, row_number() over (order by n.id) - 1 as place
       from new_atoms n join (
         select id, count(*) as n from (
           select a.id from new_tokens t join new_atoms a on a.content = t.content
           union all select from_id from new_relations union all select to_id from new_relations) e
         group by id) r on r.id = n.id
       where n.is_new`,
    );
    await client.query('analyze new_rows');
    const { rows } = await client.query<{ n: string }>('select count(*) as n from new_rows');
    const newRows = Number(rows[0]!.n);
    await inStretches(
      `insert into hartonomous.atoms (kind, id, hash, size_bytes, content, ref_count)
       select 'token', id, hash, octet_length(content), content, ref_count
       from new_rows where place >= $1 and place < $2 order by place`,
      newRows,
      tokens.length,
    );
    await inStretches(
      `insert into hartonomous.compositions (parent_kind, parent_id, ordinal, child_kind, child_id)
       select 'token', n.id, i, 'byte', get_byte(n.content, i)
       from (select id, content from new_rows where place >= $1 and place < $2 order by place) n
       cross join lateral generate_series(0, octet_length(n.content) - 1) as i`,
      newRows,
      bytes,
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}
