/** Explanations in their tables. */
import { execute, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type {
  CandidateRow,
  ComponentRow,
  Edge,
  ExplainedToken,
  Explanation,
  InputRow,
  LensTableRow,
} from './explanation.ts';

/** Smaller numbers are 0 in a column of type real, and an error to PostgreSQL. */
const LEAST_REAL = 1e-37;

function asJson(value: object): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'number' && Math.abs(item) < LEAST_REAL ? 0 : item,
  );
}

/** The stored explanation of a step; null where there is none. */
export function readExplained(runId: number, step: number): ExplainedToken | null {
  const row = query(
    `select to_jsonb(t) as token from hartonomous.explained_tokens t where run_id = $1::bigint and step = $2::integer`,
    [runId, step],
  )[0];
  return row === undefined ? null : (row.token as ExplainedToken);
}

function rowsOf<T>(sql: string, runId: number, step: number): T[] {
  return query(sql, [runId, step]) as T[];
}

export function readCandidates(runId: number, step: number): CandidateRow[] {
  return rowsOf(
    `select rank, token_id, token || '' as token, logit, penalised_logit, scaled_logit, cut_by, model_probability, probability, chosen
     from hartonomous.explained_candidates where run_id = $1::bigint and step = $2::integer order by rank`,
    runId,
    step,
  );
}

export function readComponents(runId: number, step: number): ComponentRow[] {
  return rowsOf(
    `select component::text as component, layer, head, contribution, versus_contribution
     from hartonomous.explained_components where run_id = $1::bigint and step = $2::integer order by layer, component, head`,
    runId,
    step,
  );
}

export function readLens(runId: number, step: number): LensTableRow[] {
  return rowsOf(
    `select layer, rank, probability, array_to_json(top_token_ids) as top_token_ids, array_to_json(top_tokens) as top_tokens,
       top_probabilities, stays_first
     from hartonomous.explained_lens where run_id = $1::bigint and step = $2::integer order by layer`,
    runId,
    step,
  );
}

export function readInputs(runId: number, step: number): InputRow[] {
  return rowsOf(
    `select unit, first_position, last_position, input || '' as input, leave_one_out, versus_leave_one_out, rollout, value_weighted,
       cosine, role, message, is_template
     from hartonomous.explained_inputs where run_id = $1::bigint and step = $2::integer order by unit = 'token', first_position`,
    runId,
    step,
  );
}

/** Have a run stay as it is until this transaction ends. Throws where it was erased since it was read. */
function holdRun(id: number): void {
  const held = query(
    'select 1 as one from hartonomous.runs where id = $1::bigint and erased_at is null for key share',
    [id],
  );
  if (held.length === 0) raise(SQLSTATE.objectNotInPrerequisiteState, `run ${id} was erased or pruned meanwhile`);
}

/**
 * Write an explanation in the place of an older one. Where another session writes the same at this moment, its rows
 * stay: they say the same.
 */
export function storeExplanation(explanation: Explanation): void {
  const { token } = explanation;
  const key = [token.run_id, token.step];
  holdRun(token.run_id);
  const replaced = execute(
    'delete from hartonomous.explained_tokens where run_id = $1::bigint and step = $2::integer',
    key,
  );
  const written = execute(
    `insert into hartonomous.explained_tokens
     select (jsonb_populate_record(null::hartonomous.explained_tokens,
       $1::text::jsonb || jsonb_build_object('created_at', now()))).*
     on conflict do nothing`,
    [asJson(token)],
  );
  if (written === 0) return;
  execute(
    `insert into hartonomous.explained_candidates (run_id, step, rank, token_id, token, logit, penalised_logit, scaled_logit,
       cut_by, model_probability, probability, chosen)
     select $2::bigint, $3::integer, r.* from jsonb_to_recordset($1::text::jsonb) as r (rank integer, token_id integer,
       token text, logit real, penalised_logit real, scaled_logit real, cut_by text, model_probability real,
       probability real, chosen boolean)`,
    [asJson(explanation.candidates), ...key],
  );
  execute(
    `insert into hartonomous.explained_components (run_id, step, component, layer, head, contribution, versus_contribution)
     select $2::bigint, $3::integer, r.* from jsonb_to_recordset($1::text::jsonb) as r (
       component hartonomous.component_kind, layer smallint, head smallint, contribution real, versus_contribution real)`,
    [asJson(explanation.components), ...key],
  );
  execute(
    `insert into hartonomous.explained_lens (run_id, step, layer, rank, probability, top_token_ids, top_tokens,
       top_probabilities, stays_first)
     select $2::bigint, $3::integer, r.* from jsonb_to_recordset($1::text::jsonb) as r (layer integer, rank integer,
       probability real, top_token_ids integer[], top_tokens text[], top_probabilities real[], stays_first boolean)`,
    [asJson(explanation.lens), ...key],
  );
  execute(
    `insert into hartonomous.explained_inputs (run_id, step, unit, first_position, last_position, input, leave_one_out,
       versus_leave_one_out, rollout, value_weighted, cosine, role, message, is_template)
     select $2::bigint, $3::integer, r.* from jsonb_to_recordset($1::text::jsonb) as r (unit text, first_position integer,
       last_position integer, input text, leave_one_out real, versus_leave_one_out real, rollout real, value_weighted real,
       cosine real, role text, message integer, is_template boolean)`,
    [asJson(explanation.inputs), ...key],
  );
  if (replaced === 0) addToRollups(token.run_id, token.step);
}

/** The influence views read these sums instead of every component of every token. */
function addToRollups(runId: number, step: number): void {
  execute(
    `insert into hartonomous.component_rollups as r (run_id, component, layer, head, tokens, total, total_absolute,
       total_contrast, strongest)
     select run_id, component, layer, head, 1, contribution, abs(contribution), contribution - versus_contribution, contribution
     from hartonomous.explained_components where run_id = $1::bigint and step = $2::integer
     order by component, layer, head
     on conflict (run_id, component, layer, head) do update set tokens = r.tokens + 1, total = r.total + excluded.total,
       total_absolute = r.total_absolute + excluded.total_absolute,
       total_contrast = r.total_contrast + excluded.total_contrast,
       strongest = case when abs(excluded.strongest) > abs(r.strongest) then excluded.strongest else r.strongest end`,
    [runId, step],
  );
}

/** Write attention from one position into connections; `ids` are the sequence's. */
export function storeAttention(
  run: { id: number; digest: string },
  step: number,
  from: number,
  ids: readonly number[],
  edges: readonly Edge[],
): void {
  holdRun(run.id);
  execute(
    `insert into hartonomous.connections (run_id, step, layer, head, from_position, to_position, from_id, to_id, weight)
     select $2::bigint, $3::integer, e.layer, e.head, $4::integer, e.position, f.atom_id, t.atom_id, e.weight
     from jsonb_to_recordset($1::text::jsonb) as e (layer integer, head integer, position integer, weight real)
     join (select id from hartonomous.models where source_digest = decode($6::text, 'hex') and state = 'ready' order by id limit 1) m on true
     join hartonomous.tokens f on f.model_id = m.id and f.token_id = ($5::integer[])[$4::integer + 1]
     join hartonomous.tokens t on t.model_id = m.id and t.token_id = ($5::integer[])[e.position + 1]
     on conflict do nothing`,
    [asJson(edges), run.id, step, from, ids as number[], run.digest],
  );
}

/** Stored attention of a step. */
export function readAttention(runId: number, step: number): Edge[] {
  return rowsOf(
    `select layer, head, to_position as position, weight from hartonomous.connections
     where run_id = $1::bigint and step = $2::integer order by layer, head, to_position`,
    runId,
    step,
  );
}
