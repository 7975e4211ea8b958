/** Limits that an operator sets in hartonomous.limits, and the account of each role that the hourly ones need. */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { evaluatedTokens } from '../model/model.ts';
import type { GenerateOptions } from '../sampling/options.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** By name; a limit that is not set is not there. */
export type Limits = ReadonlyMap<string, number>;

/** Limits of the caller: a role's own go before those of everybody. */
export function readLimits(): Limits {
  return new Map(
    query(
      `select distinct on (name) name, value::float8 as value from hartonomous.limits
       where role_name in ('*', hartonomous._caller()) order by name, role_name = '*'`,
    ).map((row) => [String(row.name), Number(row.value)]),
  );
}

function exceeded(message: string, hint: string): never {
  raise(SQLSTATE.configurationLimitExceeded, message, { hint });
}

/** The lower of a number and a limit, which may not be set. */
export function atMost(value: number, limits: Limits, name: string): number {
  return Math.min(value, limits.get(name) ?? Infinity);
}

/**
 * Options within the limits: what the caller left open is lowered, what it asked for is refused. `given` are the options
 * as the caller wrote them, `context` what the call would have without limits.
 */
export function limitOptions(
  options: GenerateOptions,
  given: Record<string, unknown>,
  limits: Limits,
  context: number,
): void {
  const maxContext = limits.get('max_context');
  if (maxContext !== undefined) {
    if (options.numCtx !== null && options.numCtx > maxContext) {
      exceeded(
        `option num_ctx is ${options.numCtx}, limit max_context is ${maxContext}`,
        'ask for less, or have the operator raise it with set_limit',
      );
    }
    options.numCtx = Math.min(context, maxContext);
  }
  const maxTokens = limits.get('max_tokens_per_answer');
  if (maxTokens === undefined || (options.numPredict >= 0 && options.numPredict <= maxTokens)) return;
  const name = typeof given.max_tokens === 'number' ? 'max_tokens' : 'num_predict';
  if (typeof given[name] === 'number' && options.numPredict >= 0) {
    exceeded(
      `option ${name} is ${options.numPredict}, limit max_tokens_per_answer is ${maxTokens}`,
      'ask for less, or have the operator raise it with set_limit',
    );
  }
  options.numPredict = maxTokens;
}

interface Minute {
  at: number; // ms since 1970, of its beginning
  calls: number;
  tokens: number;
}

/** Calls and evaluated tokens of each role in this backend, by minute. */
const accounts = new Map<string, Minute[]>();
/** For whom tokens are evaluated since the count stood at `counted`. */
let current = { caller: '', counted: 0 };

function account(caller: string, calls: number, tokens: number): Minute[] {
  const now = Date.now();
  const minutes = (accounts.get(caller) ?? []).filter((minute) => minute.at > now - HOUR_MS);
  accounts.set(caller, minutes);
  let last = minutes[minutes.length - 1];
  if (last === undefined || last.at <= now - MINUTE_MS) {
    last = { at: now, calls: 0, tokens: 0 };
    minutes.push(last);
  }
  last.calls += calls;
  last.tokens += tokens;
  return minutes;
}

/**
 * A call of this role is about to compute. Throws where the role has used up its hour: in this backend, or in all of them
 * as far as runs were recorded. Tokens are on the account of the call before until the next one begins, so that one that
 * was cut off is counted, too.
 */
export function admitCall(caller: string, limits: Limits): void {
  const total = evaluatedTokens();
  if (current.caller !== '') account(current.caller, 0, total - current.counted);
  current = { caller, counted: total };
  const minutes = account(caller, 0, 0);
  const maxCalls = limits.get('max_calls_per_hour') ?? Infinity;
  const maxTokens = limits.get('max_tokens_per_hour') ?? Infinity;
  if (maxCalls < Infinity || maxTokens < Infinity) {
    const recorded = query(
      `select count(*)::float8 as calls, coalesce(sum(prompt_eval_count::bigint + eval_count), 0)::float8 as tokens
       from hartonomous.runs where caller = $1::text and created_at > now() - interval '1 hour'`,
      [caller],
    )[0]!;
    const sum = (of: 'calls' | 'tokens'): number =>
      Math.max(
        Number(recorded[of]),
        minutes.reduce((all, minute) => all + minute[of], 0),
      );
    const hint = 'wait, or have the operator raise it with set_limit';
    if (sum('calls') >= maxCalls)
      exceeded(
        `role ${caller} made ${sum('calls')} calls within an hour, limit max_calls_per_hour is ${maxCalls}`,
        hint,
      );
    if (sum('tokens') >= maxTokens)
      exceeded(
        `role ${caller} used ${sum('tokens')} tokens within an hour, limit max_tokens_per_hour is ${maxTokens}`,
        hint,
      );
  }
  account(caller, 1, 0);
}
