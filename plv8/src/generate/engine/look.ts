/** Rows of the views engine_list and engine_requests. Where there is no engine, or a host that knows of none, there are none. */
import { nanoseconds } from '../../backend/durations.ts';
import { lookAtEngine, query } from '../../db.ts';
import type { EngineLook, LookedRequest } from '../../db.ts';
import { engineFacts, requestFacts } from './facts.ts';

/** Waits until it is taken up, or for a place; then its prompt is read, and its answer written. */
function stateOf({ facts }: LookedRequest): 'waiting' | 'reading' | 'writing' {
  const { place, generatedTokens } = requestFacts(facts);
  if (place === 0) return 'waiting';
  return generatedTokens === 0 ? 'reading' : 'writing';
}

/** Of milliseconds that may have a fraction. */
const wholeNanoseconds = (milliseconds: number): number => Math.round(nanoseconds(milliseconds));

const ratio = (sum: number, count: number): number | null => (count === 0 ? null : sum / count);

function engineRow({ pid, since, facts, requests }: EngineLook): Record<string, unknown> {
  const known = engineFacts(facts);
  const waiting = requests.filter((request) => stateOf(request) === 'waiting').length;
  const firstTokenMs = ratio(known.firstTokenMs, known.firstTokens);
  return {
    pid,
    started_at: new Date(since),
    requests_waiting: waiting,
    requests_running: requests.length - waiting,
    answers: known.answers,
    failures: known.failures,
    passes: known.passes,
    latest_batch: known.latest,
    mean_batch: ratio(known.sequences, known.passes),
    mean_rows: ratio(known.rows, known.passes),
    prompt_tokens: known.promptTokens,
    reused_tokens: known.reusedTokens,
    generated_tokens: known.generatedTokens,
    tokens_per_second: ratio(1000 * known.generatedTokens, known.busyMs),
    busy_ns: wholeNanoseconds(known.busyMs),
    first_token_ns: firstTokenMs === null ? null : wholeNanoseconds(firstTokenMs),
    memory_bytes: known.memoryBytes,
    cache_bytes: known.cacheBytes,
    cached_tokens: known.cachedTokens,
  };
}

function requestRow(request: LookedRequest): Record<string, unknown> {
  const { promptTokens, reusedTokens, generatedTokens, firstTokenAt } = requestFacts(request.facts);
  const isTaken = promptTokens > 0; // no prompt is empty
  return {
    pid: request.pid,
    caller_oid: request.role,
    model_id: request.about,
    state: stateOf(request),
    prompt_tokens: isTaken ? promptTokens : null,
    reused_tokens: isTaken ? reusedTokens : null,
    eval_count: generatedTokens,
    asked_at: new Date(request.since),
    first_token_ns: firstTokenAt === 0 ? null : wholeNanoseconds(Math.max(0, firstTokenAt - request.since)),
  };
}

/** The engine of this database. */
export function engineRows(): Record<string, unknown>[] {
  const look = lookAtEngine();
  return look === null ? [] : [engineRow(look)];
}

/** Its requests that the role of this name may see: its own, and all where it is an admin. None for a role that the caller may not become. */
export function requestRows(viewer: string): Record<string, unknown>[] {
  const look = lookAtEngine();
  if (look === null || look.requests.length === 0) return [];
  const role = query(
    `select r.oid::bigint::float8 as oid, pg_catalog.pg_has_role(r.oid, 'hartonomous_admin', 'usage') as sees_all
     from pg_catalog.pg_roles r where r.rolname = $1::text and pg_catalog.pg_has_role(hartonomous._caller(), r.oid, 'member')`,
    [viewer],
  )[0];
  if (role === undefined) return [];
  return look.requests.filter((request) => role.sees_all === true || request.role === role.oid).map(requestRow);
}
