/**
 * Sessions: an answer taken token by token. They live in this backend's memory, belong to the role that opened them,
 * and are dropped when nobody asked for a while. A session holds ids and the state of sampling, no key/value cache of
 * its own: each call continues the cache that its model keeps, or computes again what that has lost.
 *
 * A call that is cancelled, or whose transaction is rolled back, leaves a session as it was before the call, so its
 * tokens can be asked for again.
 */
import { limitThreads, poll, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { writeJson } from '../format/ordered-json.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Catalog } from '../backend/catalog.ts';
import type { ContinuationInput, Step } from '../sampling/continuation.ts';
import { Continuation } from '../sampling/continuation.ts';
import { checkPrompt, contextLength, logAnswer, tellIgnored } from './generate.ts';
import { releaseCache, takeCache } from '../backend/caches.ts';
import type { OpenedSession } from './engine/ask.ts';
import { askForSteps } from './engine/ask.ts';
import { storedOf } from './engine/messages.ts';
import type { Answer, Request } from './request.ts';
import { callingTools, shownLogprobs } from './request.ts';
import { mustRecord, refuseUnrecorded } from '../backend/limits.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import type { Prompt } from './prompt-parts.ts';
import type { RunRecord } from './record.ts';
import { buildIdOf, recordingWanted, recordRun } from './record.ts';
import type { Usage } from '../backend/eviction.ts';
import type { UsedModel } from '../backend/registry.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import { commitSteps, committedSteps } from './session-progress.ts';
import { nanoseconds } from '../backend/durations.ts';
import { thinkingOf } from './templated-prompt.ts';
import { rememberAnswer } from './written-answers.ts';

/** Sessions that a backend holds for a role when the setting max_sessions does not say otherwise. */
const DEFAULT_MAX_SESSIONS = 16;

/** Seconds after its last use at which a session is dropped when the setting session_idle_seconds does not say otherwise. */
const DEFAULT_IDLE_SECONDS = 600;

/** Ids are a random number above the process id of their backend, so that another backend can tell whose they are. */
const PID_RANGE = 2 ** 22;
const RANDOM_RANGE = 2 ** 31;

interface Session extends OpenedSession {
  readonly id: number;
  readonly kind: RunRecord['kind'];
  readonly input: ContinuationInput;
  readonly prompt: Prompt;
  continuation: Continuation;
  /** Steps handed out; behind `continuation` while a call runs, and after one that was cancelled. */
  steps: number;
  /** A call began and did not end. */
  running: boolean;
  lastUsedAt: number; // milliseconds since 1970
  promptEvalCount: number;
  promptEvalNs: number;
  evalNs: number;
  readonly loadNs: number;
  readonly openedAt: number; // milliseconds since 1970
  endedAt: number | null;
  runId: number | null;
  /** The row of a session that has not come to its end; null where none is needed. */
  openRunId: number | null;
  /** The most that was written before the caller went back to fewer steps. */
  written: number[];
}

const sessions = new Map<number, Session>();

function backendPid(): number {
  return Number(query('select pg_backend_pid() as pid')[0]!.pid);
}

function positiveSetting(catalog: Catalog, name: string, fallback: number): number {
  const value = Number(catalog.settings.get(name) ?? fallback);
  return value > 0 ? value : fallback;
}

function dropExpired(catalog: Catalog): void {
  const oldest = Date.now() - 1000 * positiveSetting(catalog, 'session_idle_seconds', DEFAULT_IDLE_SECONDS);
  for (const [id, session] of sessions) if (session.lastUsedAt < oldest) sessions.delete(id);
}

function sessionsOf(caller: string): Session[] {
  return [...sessions.values()].filter((session) => session.caller === caller);
}

/** Open a session that will answer a prompt; its id. */
export function openSession(request: Request, kind: RunRecord['kind'], prompt: Prompt): number {
  const { catalog, used, caller, given } = request;
  const { ids: promptIds } = prompt;
  const options = callingTools(request, kind, promptIds);
  dropExpired(catalog);
  const most = positiveSetting(catalog, 'max_sessions', DEFAULT_MAX_SESSIONS);
  const held = sessionsOf(caller).length;
  if (held >= most) {
    raise(
      SQLSTATE.configurationLimitExceeded,
      `this backend holds ${held} sessions of role ${caller}, at most ${most} are kept`,
      {
        hint: 'close one with hartonomous.close_session, or raise the setting max_sessions',
      },
    );
  }
  const { model, description } = used.entry;
  const context = contextLength(options, model.config.contextLength);
  checkPrompt(promptIds, context);
  const input: ContinuationInput = {
    tokenizer: used.tokenizer,
    options,
    vocabSize: model.config.vocabSize,
    promptIds,
    context,
    logprobs: true,
    thinking: thinkingOf({ description, tokenizer: used.tokenizer }, options),
    poll,
  };
  const pid = backendPid();
  let id: number;
  do id = Math.floor(Math.random() * RANDOM_RANGE) * PID_RANGE + pid;
  while (sessions.has(id));
  const now = Date.now();
  const continuation = new Continuation(input);
  tellIgnored(continuation);
  if (options.numPredict === 0) continuation.doneReason = 'length';
  sessions.set(id, {
    id,
    caller,
    kind,
    model: description,
    stored: storedOf(description),
    limits: [...catalog.limits],
    given,
    options,
    input,
    prompt,
    continuation,
    steps: 0,
    running: false,
    lastUsedAt: now,
    promptEvalCount: 0,
    promptEvalNs: 0,
    evalNs: 0,
    loadNs: used.loadNs,
    openedAt: now,
    endedAt: null,
    runId: null,
    openRunId: null,
    written: [],
  });
  recordOpen(sessions.get(id)!, used, catalog);
  commitSteps(id, 0, sessions.keys());
  return id;
}

/** The caller's session. Throws undefinedObject saying where else it would be. */
function findSession(id: number, caller: string): Session {
  const session = sessions.get(id);
  if (session !== undefined && session.caller === caller) return session;
  const pid = backendPid();
  const home = id % PID_RANGE;
  if (home !== pid) {
    raise(SQLSTATE.undefinedObject, `session ${id} is not in this backend ${pid}, it was opened in backend ${home}`, {
      hint: 'a session lives in the connection that opened it; a pooler has to keep that connection (session pooling)',
    });
  }
  raise(SQLSTATE.undefinedObject, `session ${id} does not exist`, {
    hint: 'it was closed, it belongs to another role, or nobody used it for as long as the setting session_idle_seconds says',
  });
}

function modelOf(session: Session, catalog: Catalog): UsedModel {
  const { name, digest } = session.model;
  const row = catalog.models.find((model) => model.name === name);
  if (row?.digest !== digest) {
    sessions.delete(session.id);
    raise(
      SQLSTATE.objectNotInPrerequisiteState,
      `model ${name} of session ${session.id} was ${row === undefined ? 'removed' : 'replaced'}`,
      { hint: 'open a new session' },
    );
  }
  limitThreads(session.options.numThread || null);
  return useModel(catalog, name, session.options.precision);
}

export interface NextSteps {
  steps: Step[];
  /** number of the first of them in the answer, from 0 */
  from: number;
  options: GenerateOptions;
  tokenizer: Tokenizer;
}

/** The next `n` steps, fewer when the answer ends, none after its end. Records the run at the end where it is wanted. */
export function nextSteps(id: number, caller: string, n: number): NextSteps {
  const catalog = currentCatalog();
  dropExpired(catalog);
  const session = findSession(id, caller);
  session.lastUsedAt = Date.now();
  settle(session);
  const result = { from: session.steps, options: session.options, tokenizer: session.input.tokenizer };
  if (session.continuation.doneReason !== null) return { ...result, steps: [] };
  refuseUnrecorded(catalog.limits);
  const used = modelOf(session, catalog);
  session.running = true;
  const steps = askEngine(session, used, n, catalog) ?? compute(session, used, n);
  session.steps += steps.length;
  session.lastUsedAt = Date.now();
  if (session.continuation.doneReason !== null) {
    session.endedAt = session.lastUsedAt;
    record(session, used, catalog);
    const { text, tokens } = session.continuation;
    logAnswer(session.model.name, caller, answerOf(session).generation);
    const ids = tokens.map((token) => token.id);
    rememberAnswer({ caller, digest: session.model.digest, text, ids }, session.input.tokenizer);
  } else {
    recordOpen(session, used, catalog);
  }
  session.running = false;
  commitSteps(id, session.steps, sessions.keys());
  return { ...result, steps };
}

/** Go back to what was handed out, when a call since then was cancelled or rolled back. */
function settle(session: Session): void {
  const steps = Math.min(committedSteps(session.id) ?? session.steps, session.steps);
  if (!session.running && steps === session.steps) return;
  session.written = writtenIds(session);
  const tokens = session.continuation.tokens.slice(0, steps);
  session.continuation = new Continuation(session.input);
  session.continuation.replay(tokens);
  session.steps = steps;
  session.endedAt = null;
  session.runId = null;
  session.running = false;
}

/** The next steps out of the engine of this database; null where they are to be computed here. */
function askEngine(session: Session, { entry }: UsedModel, n: number, catalog: Catalog): Step[] | null {
  const { continuation, input } = session;
  const written = continuation.tokens.map((token) => token.id);
  const { constraint } = session.options;
  const told = askForSteps(
    { ...session, model: entry.description },
    {
      promptIds: input.promptIds,
      written,
      most: n,
      constraint: constraint === null ? null : writeJson(constraint),
    },
    catalog,
  );
  if (told === null) return null;
  if (written.length === 0) countPrompt(session, entry.usage, told.reused, told.promptNs);
  session.evalNs += told.evalNs;
  entry.usage.generatedTokens += told.tokens.length;
  const steps = continuation.replay(told.tokens);
  return told.ended === null ? steps : [...steps, continuation.endAt(told.ended)];
}

/** The prompt of a session was read, but for what a cache had of it. */
function countPrompt(session: Session, usage: Usage, reused: number, promptNs: number): void {
  const { length } = session.input.promptIds;
  session.promptEvalCount = length - reused;
  session.promptEvalNs = promptNs;
  usage.calls++;
  usage.promptTokens += length;
  usage.reusedTokens += reused;
  if (reused > 0) usage.cacheHits++;
}

function compute(session: Session, used: UsedModel, n: number): Step[] {
  const { entry } = used;
  const { continuation, options, caller, input } = session;
  const first = continuation.tokens.length === 0;
  const { model } = entry;
  const ids = continuation.history;
  const expected = Math.min(input.context, ids.length + n);
  // What this session computed may always be continued; `cache` is about what others left.
  const reuse = options.cache || !first;
  const cache = takeCache({ model, caller, ids, most: ids.length - 1, expected }, reuse);
  const reused = cache.length;
  const started = Date.now();
  try {
    let logits = model.forward(ids.slice(reused), cache, { poll });
    const decodeStarted = Date.now();
    if (first) countPrompt(session, entry.usage, reused, nanoseconds(decodeStarted - started));
    const steps: Step[] = [];
    for (;;) {
      poll();
      const step = continuation.next(logits);
      steps.push(step);
      if (step.doneReason !== null || steps.length >= n) break;
      logits = model.forward([step.token!.id], cache, { poll });
    }
    session.evalNs += nanoseconds(Date.now() - (first ? decodeStarted : started));
    entry.usage.generatedTokens += steps.filter((step) => step.token !== null).length;
    return steps;
  } finally {
    releaseCache(cache);
  }
}

/** The answer so far as generate would report it. */
function answerOf(session: Session): Answer {
  const { continuation, options, input } = session;
  return {
    generation: {
      text: continuation.text,
      thinking: continuation.thinking,
      calls: continuation.calls,
      doneReason: continuation.doneReason ?? 'cancelled',
      promptIds: input.promptIds.slice(),
      tokens: continuation.tokens,
      ended: continuation.ended,
      budget: continuation.budget,
      promptEvalCount: session.promptEvalCount,
      promptEvalNs: session.promptEvalNs,
      evalNs: session.evalNs,
    },
    modelName: session.model.name,
    loadNs: session.loadNs,
    totalNs: nanoseconds((session.endedAt ?? Date.now()) - session.openedAt) + session.loadNs,
    runId: session.runId,
    options,
    logprobs: () => shownLogprobs(input.tokenizer, continuation.tokens),
  };
}

/** Whether a row that a session wrote is there. Where it has to be, it is looked for: a rollback takes the row, not the session. */
function isThere(runId: number | null, catalog: Catalog): boolean {
  if (runId === null || !mustRecord(catalog.limits)) return runId !== null;
  return query('select 1 as one from hartonomous.runs where id = $1::bigint', [runId]).length > 0;
}

function record(session: Session, used: UsedModel, catalog: Catalog): void {
  if (isThere(session.runId, catalog) || !recordingWanted(session.options.record, session.kind, catalog)) return;
  if (session.openRunId !== null) query('delete from hartonomous.runs where id = $1::bigint', [session.openRunId]);
  session.runId = recordSession(session, used, catalog);
  if (mustRecord(catalog.limits)) keepWritten(session, session.runId);
}

/** All that the model wrote in a session, the longest that was, though a caller went back: he has seen it. */
function writtenIds(session: Session): number[] {
  const ids = session.continuation.tokens.map((token) => token.id);
  return ids.length >= session.written.length ? ids : session.written;
}

/** A run's row has all that was written. */
function keepWritten(session: Session, runId: number): void {
  const ids = writtenIds(session);
  if (ids.length === session.continuation.tokens.length) return;
  query('update hartonomous.runs set output_ids = $2::integer[], eval_count = $3::integer where id = $1::bigint', [
    runId,
    ids,
    ids.length,
  ]);
}

/**
 * Where every call has to be recorded, a session has a row from its beginning, with what was handed out so far: one that its
 * caller gives up is recorded, too. The row goes when the answer gets its own.
 */
function recordOpen(session: Session, used: UsedModel, catalog: Catalog): void {
  if (!mustRecord(catalog.limits)) return;
  if (!isThere(session.openRunId, catalog)) session.openRunId = recordSession(session, used, catalog);
  const ids = writtenIds(session);
  query(
    `update hartonomous.runs set done_reason = 'open', output_ids = $2::integer[], eval_count = $3::integer,
       prompt_eval_count = $4::integer where id = $1::bigint`,
    [session.openRunId, ids, ids.length, session.promptEvalCount],
  );
}

function recordSession(session: Session, used: UsedModel, catalog: Catalog): number {
  const { generation, loadNs, totalNs } = answerOf(session);
  return recordRun(
    {
      caller: session.caller,
      kind: session.kind,
      model: used.entry.description,
      options: session.given,
      settings: session.options,
      heldAs: used.entry.model.precision,
      buildId: buildIdOf(catalog),
      parts: session.prompt.parts(),
      generation,
      startedAt: session.openedAt,
      loadNs,
      totalNs,
    },
    used.tokenizer,
  );
}

/** Close a session; its answer, `cancelled` when it had not come to its end. Records the run where it is wanted. */
export function closeSession(id: number, caller: string): Answer {
  const catalog = currentCatalog();
  dropExpired(catalog);
  const session = findSession(id, caller);
  settle(session);
  if (!isThere(session.runId, catalog) && recordingWanted(session.options.record, session.kind, catalog)) {
    record(session, modelOf(session, catalog), catalog);
  }
  sessions.delete(id);
  const answer = answerOf(session);
  if (session.continuation.doneReason === null) logAnswer(session.model.name, caller, answer.generation);
  return answer;
}

export interface SessionRow {
  session_id: number;
  model: string;
  prompt_tokens: number;
  eval_count: number;
  done_reason: string | null;
  opened_at: Date;
  last_used_at: Date;
}

/** The caller's sessions in this backend. */
export function sessionRows(caller: string): SessionRow[] {
  dropExpired(currentCatalog());
  return sessionsOf(caller).map((session) => ({
    session_id: session.id,
    model: session.model.name,
    prompt_tokens: session.input.promptIds.length,
    eval_count: session.continuation.tokens.length,
    done_reason: session.continuation.doneReason,
    opened_at: new Date(session.openedAt),
    last_used_at: new Date(session.lastUsedAt),
  }));
}
