/** Limits that an operator sets in hartonomous.limits; hourly-counts.ts counts what the hourly ones bound. */
import type { Row } from '../db.ts';
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { mayWrite } from './caller.ts';
import type { GenerateOptions } from '../sampling/options.ts';

const ENGINE_PRIORITY = 'engine_priority';

/** By name; a limit that is not set is not there. */
export type Limits = ReadonlyMap<string, number>;

/** A role that a call counts for, and what it may do in an hour. */
export interface Account {
  role: string;
  oid: number;
  maxCalls: number;
  maxTokens: number;
}

export interface CallerLimits {
  limits: Limits;
  /** The caller's, and the session user's where that is another role: SET ROLE is no way around a limit. */
  accounts: Account[];
}

const LIMITS = `select r.rolname as role, r.oid::bigint::float8 as oid, l.name, l.value::float8 as value
  from pg_catalog.pg_roles r
  left join lateral (
    select distinct on (name) name, value from hartonomous.limits
    where role_name in ('*', r.rolname) order by name, role_name = '*') l on true`;

/**
 * Limits of the caller and of the session's user, the stricter of both: a role's own go before those of everybody. A
 * superuser who speaks for another role is not bound.
 */
export function readLimits(): CallerLimits {
  return limitsOf(
    query(`${LIMITS} where r.rolname = hartonomous._caller() or r.rolname = session_user and not r.rolsuper`),
  );
}

/** The same for the caller of another session, and that session's user, by their oids. */
export function readLimitsOf(caller: number, login: number): CallerLimits {
  const isOneOf = 'r.oid = $1::bigint::oid or r.oid = $2::bigint::oid and not r.rolsuper';
  return limitsOf(query(`${LIMITS} where ${isOneOf}`, [caller, login]));
}

function limitsOf(rows: readonly Row[]): CallerLimits {
  const limits = new Map<string, number>();
  const accounts = new Map<number, Account>();
  for (const row of rows) {
    const [role, oid, name, value] = [String(row.role), Number(row.oid), row.name, Number(row.value)];
    const account = accounts.get(oid) ?? { role, oid, maxCalls: Infinity, maxTokens: Infinity };
    accounts.set(oid, account);
    if (typeof name !== 'string') continue;
    if (name === 'max_calls_per_hour') account.maxCalls = value;
    else if (name === 'max_tokens_per_hour') account.maxTokens = value;
    else {
      const stricter = name === 'recording' ? Math.max : Math.min;
      limits.set(name, stricter(value, limits.get(name) ?? value));
    }
  }
  // Of two roles one without a priority has 0, which is the stricter.
  if (rows.filter(({ name }) => name === ENGINE_PRIORITY).length < accounts.size) limits.delete(ENGINE_PRIORITY);
  return { limits, accounts: [...accounts.values()] };
}

/** Whose requests an engine takes first: higher comes before lower. */
export function enginePriority(limits: Limits): number {
  return limits.get(ENGINE_PRIORITY) ?? 0;
}

function exceeded(message: string, hint: string): never {
  raise(SQLSTATE.configurationLimitExceeded, message, { hint });
}

/** Whether every call has to be recorded, whatever its caller says. */
export function mustRecord(limits: Limits): boolean {
  return (limits.get('recording') ?? 0) > 0;
}

/** Throws where a call has to be recorded and its transaction may write nothing. */
export function refuseUnrecorded(limits: Limits): void {
  if (!mustRecord(limits) || mayWrite()) return;
  raise(SQLSTATE.readOnlySqlTransaction, 'limit recording is 1 and this transaction may not write', {
    hint: 'call in a transaction that may write, on the primary server',
  });
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
