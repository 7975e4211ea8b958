/**
 * Calls and evaluated tokens of each role within the hour past, and the limits on them. A call counts for the role on whose
 * behalf it runs and for the session's user. Our host keeps the counts for all backends where no rollback reaches them
 * (plv8.counters); elsewhere they are this context's, and those of recorded runs where these are more.
 */
import type { CounterStore } from '../db.ts';
import { counterStore, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { Account } from './limits.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What is counted, by the number under which our host keeps it. */
const KINDS = { calls: 0, tokens: 1 } as const;
type Kind = keyof typeof KINDS;

interface Minute {
  at: number; // ms since 1970, of its beginning
  calls: number;
  tokens: number;
}

/** By role, where the host keeps no counts. */
const minutesOf = new Map<number, Minute[]>();
/** For whom tokens are evaluated at present. */
let charged: readonly Account[] = [];

/** Count within this context; what there is of the hour past. */
function addHere({ oid }: Account, kind: Kind, amount: number): number {
  const now = Date.now();
  const minutes = (minutesOf.get(oid) ?? []).filter((minute) => minute.at > now - HOUR_MS);
  minutesOf.set(oid, minutes);
  let last = minutes[minutes.length - 1];
  if (last === undefined || last.at <= now - MINUTE_MS) {
    last = { at: now, calls: 0, tokens: 0 };
    minutes.push(last);
  }
  last[kind] += amount;
  return minutes.reduce((all, minute) => all + minute[kind], 0);
}

function recorded({ role }: Account, kind: Kind): number {
  const [row] = query(
    `select count(*)::float8 as calls, coalesce(sum(prompt_eval_count::bigint + eval_count), 0)::float8 as tokens
     from hartonomous.runs where (caller = $1::text or login = $1::text) and created_at > now() - interval '1 hour'`,
    [role],
  );
  return Number(row![kind]);
}

function add(store: CounterStore | null, account: Account, kind: Kind, amount: number): number {
  return store === null ? addHere(account, kind, amount) : store.add(account.oid, KINDS[kind], amount);
}

/** Throw where a role has used up its hour; this call is among those counted. */
function checkHour(store: CounterStore | null, account: Account): void {
  for (const kind of ['calls', 'tokens'] as const) {
    const name = kind === 'calls' ? 'max_calls_per_hour' : 'max_tokens_per_hour';
    const limit = kind === 'calls' ? account.maxCalls : account.maxTokens;
    if (limit === Infinity) continue;
    const counted = add(store, account, kind, 0) - (kind === 'calls' ? 1 : 0);
    const used = store === null ? Math.max(counted, recorded(account, kind)) : counted;
    if (used < limit) continue;
    const what = kind === 'calls' ? `made ${used} calls` : `used ${used} tokens`;
    raise(
      SQLSTATE.configurationLimitExceeded,
      `role ${account.role} ${what} within an hour, limit ${name} is ${limit}`,
      { hint: 'wait, or have the operator raise it with set_limit' },
    );
  }
}

/** A call on the account of these roles is about to compute here. Throws where one of them has used up its hour. */
export function admitCall(accounts: readonly Account[]): void {
  charged = accounts;
  countCall(accounts);
}

/** Tokens are about to be evaluated for the call that was admitted last. */
export function chargeTokens(tokens: number): void {
  charge(charged, tokens);
}

/** Count a call on the account of these roles. Throws, and counts nothing, where one of them has used up its hour. */
export function countCall(accounts: readonly Account[], store = counterStore()): void {
  // Counted before it is looked at: of calls at the same moment no more are admitted than there is room for.
  for (const account of accounts) add(store, account, 'calls', 1);
  try {
    for (const account of accounts) checkHour(store, account);
  } catch (error) {
    uncountCall(accounts, store);
    throw error;
  }
}

/** A call that was counted is counted elsewhere. */
export function uncountCall(accounts: readonly Account[], store = counterStore()): void {
  for (const account of accounts) add(store, account, 'calls', -1);
}

/** Count tokens on the account of these roles; a negative number takes back. */
export function charge(accounts: readonly Account[], tokens: number, store = counterStore()): void {
  for (const account of accounts) add(store, account, 'tokens', tokens);
}
