/**
 * The only file that touches `plv8.*`. Everything else in the bundle is plain TypeScript over the functions below, so
 * it also runs outside PostgreSQL. Needs nothing but the API that upstream PL/V8 3.1 documents; our own
 * host's extras are used where they are there.
 *
 * What PL/V8 3.2 does not survive, and the bundle therefore does without (docs/managed.md): cursors; stored values that are
 * fetched from their TOAST table while a row is converted, so a query returns `content || ''::bytea` and not `content`, and an
 * expression for every other column that may be long; parameters of a plan that PostgreSQL cannot convert; typed arrays for array
 * types; `elog`, which raises a cancel over V8's frames.
 */

export type SqlValue = string | number | bigint | boolean | null | Uint8Array | object;
export type Row = Record<string, unknown>;

interface Plv8Plan {
  execute(args?: SqlValue[]): Row[] | number;
  free(): void;
}

/** Memory that backends share, an extension of our own host; see docs/host.md. Offsets and lengths are whole pages. */
export interface SegmentStore {
  /** Whether the running function may use segments at all. */
  usable(): boolean;
  /** Whether this backend publishes under that name until its transaction ends; of others nobody does. */
  elect(key: string, layout: number): boolean;
  /** No longer publish anything; without it that ends with the transaction. */
  resign(): void;
  publish(key: string, layout: number, manifest: string, memory: object, offset: number, bytes: number): boolean;
  /** The first offset from there on at which a segment can be mapped in huge pages; not there in older hosts. */
  place?(memory: object, offset: number): number;
  open(key: string, layout: number): OpenSegment | null;
  list(): SegmentFacts[];
  drop(key: string): number;
  /** Whether every block is as it was published; null where there is no such segment. */
  check(key: string, layout: number): boolean | null;
  sweep(): number;
}

export interface OpenSegment {
  /** A line of the manifest, from 0. */
  line(index: number): string;
  readonly bytes: number;
  map(memory: object, offset: number): void;
  close(): void;
}

export interface SegmentFacts {
  key: string;
  layout: number;
  bytes: number;
  /** oid of the database that published it */
  database: number;
  /** milliseconds since 1970 */
  published: number;
  mapped: number;
}

/** Kernels of the forward pass in the host's own code, an extension of our own host; see docs/host.md. */
export interface KernelHost {
  /** Whether the running function may use them. */
  usable(): boolean;
  /** What the processor gives, as `avx2`. */
  family(): string;
  /**
   * Threads that the running call may have from here on, bounded by hartonomous_v8.threads; null for as many as that allows.
   * Returns how many that are; without an argument nothing changes.
   */
  threads(most?: number | null): number;
  /** Functions over a WebAssembly memory, with the names and arguments of the WebAssembly kernels. */
  over(memory: object): object;
}

/** Counts that no rollback takes back, an extension of our own host; see docs/host.md. */
export interface CounterStore {
  /** Whether the running function may count. */
  usable(): boolean;
  /** Count for a role (by its oid) and a kind; what there is of it within the hour past, in this database. */
  add(role: number, kind: number, amount: number): number;
}

/** What a caller and the engine of its database do with requests, an extension of our own host; see docs/host.md. */
export interface EngineHost {
  /** Whether the running function may ask an engine. */
  usable(): boolean;
  /** Whether this process is an engine. */
  serving(): boolean;
  /**
   * Have the engine compute on behalf of a role (its oid), which starts it where it is not there; `visit` sees each text of the
   * answer until it returns true. `none` where no engine can be had, `gone` where it ended before. Others see `about` beside
   * the request.
   */
  ask(role: number, text: string, visit: (text: string) => boolean, about: number): 'done' | 'none' | 'gone';
  /** Requests that were left with this engine since, and when: milliseconds since 1970, unknown to a host of an older build. */
  take(): [id: number, role: number, text: string, since?: number][];
  /** Whether nobody waits for an answer any more. */
  gone(id: number): boolean;
  send(id: number, text: string): void;
  /** Nothing follows. */
  finish(id: number): void;
  /** Let others see these numbers of this engine, at most 16. This and what follows a host of an older build does not have. */
  show?(numbers: number[]): void;
  /** Let others see these numbers of a request, at most 8, and what it is about. */
  note?(id: number, numbers: number[], about: number): void;
  /** As CounterStore's add, but taken back where the engine ends before the request does. */
  count?(id: number, role: number, kind: number, amount: number): number;
  /** What the engine had this backend keep before there was JavaScript in it; once. */
  kept?(): string[];
  /** The engine of this database and its requests; null where there is none, and where the running function has none. */
  look?(): EngineLook | null;
}

/** What an engine and its requests let others see. */
export interface EngineLook {
  pid: number;
  /** milliseconds since 1970 */
  since: number;
  facts: number[];
  requests: LookedRequest[];
}

export interface LookedRequest {
  /** of the backend that asked */
  pid: number;
  /** oid of the role on whose behalf */
  role: number;
  about: number;
  /** milliseconds since 1970 */
  since: number;
  /** zeros until the engine has taken it */
  facts: number[];
}

interface Plv8 {
  execute(sql: string, args?: SqlValue[]): Row[] | number;
  prepare(sql: string, types?: string[]): Plv8Plan;
  return_next(row: unknown): void;
}

/** What our own host has beyond PL/V8's API, and only where its extras are on. */
interface Extras {
  huge_pages?(view: Uint8Array): boolean;
  segments?: SegmentStore;
  kernels?: KernelHost;
  counters?: CounterStore;
  engine?: EngineHost;
  rollback_note?(text: string, id: number | null): number | undefined;
}

declare const plv8: Plv8;

/** Milliseconds between two polls for cancel and timeout; a poll costs about 4 microseconds. */
const POLL_INTERVAL_MS = 4;

let pollPlan: Plv8Plan | null = null;
let lastPoll = 0;
/** After which `poll` throws. */
let pollUntil = Infinity;

/** Run a query with positional parameters ($1 ...) and return its rows. */
export function query(sql: string, args: SqlValue[] = []): Row[] {
  const result = plv8.execute(sql, args);
  return typeof result === 'number' ? [] : result;
}

/** Run a statement that returns no rows; the number of rows it changed. */
export function execute(sql: string, args: SqlValue[] = []): number {
  const result = plv8.execute(sql, args);
  return typeof result === 'number' ? result : result.length;
}

/**
 * Call `visit` with every row of a query that takes keys as $1 (bigint[]) and is executed with `batch` of them at a time.
 * Rows are dropped as soon as `visit` returns, so a model's tiles never stand in memory together.
 */
export function eachRow(sql: string, keys: readonly number[], batch: number, visit: (row: Row) => void): void {
  const plan = plv8.prepare(sql, ['bigint[]']);
  try {
    for (let from = 0; from < keys.length; from += batch) {
      for (const row of plan.execute([keys.slice(from, from + batch)]) as Row[]) visit(row);
    }
  } finally {
    plan.free();
  }
}

/**
 * Let PostgreSQL act on a pending cancel, timeout or termination: raises it as an exception. Works on every PL/V8,
 * because any statement run through SPI checks for interrupts. Call it often; it does nothing within POLL_INTERVAL_MS
 * of the last poll.
 */
export function poll(): void {
  const now = Date.now();
  if (now - lastPoll < POLL_INTERVAL_MS && now >= lastPoll) return;
  lastPoll = now;
  if (now > pollUntil) throw new TookTooLong('more time was taken than was given');
  pollPlan ??= plv8.prepare('select 1', []);
  pollPlan.execute([]);
}

/** What `poll` throws where the time is up that `within` gave. */
export class TookTooLong extends Error {}

/** Run `work`, which polls, for so many milliseconds at most. Throws TookTooLong. */
export function within<Result>(milliseconds: number, work: () => Result): Result {
  pollUntil = Date.now() + milliseconds;
  try {
    return work();
  } finally {
    pollUntil = Infinity;
  }
}

/** Segments of this server, or null where the running function has none: another host, or switched off. */
export function segmentStore(): SegmentStore | null {
  const store = (plv8 as Extras).segments;
  return store !== undefined && store.usable() ? store : null;
}

/** The host's kernels, or null where the running function has none: another host, or switched off. */
export function kernelHost(): KernelHost | null {
  const { kernels } = plv8 as Extras;
  return kernels !== undefined && kernels.usable() ? kernels : null;
}

/** Let the running call have at most so many threads where the host has any; null for as many as the setting allows. */
export function limitThreads(most: number | null): void {
  kernelHost()?.threads(most);
}

/** Counts of this database, or null where the running function has none: another host, or switched off. */
export function counterStore(): CounterStore | null {
  const store = (plv8 as Extras).counters;
  return store !== undefined && store.usable() ? store : null;
}

/** Counts for who asked an engine, which computes a request: not counted where the engine ends before it. Null as counterStore. */
export function counterStoreOf(host: EngineHost, request: number): CounterStore | null {
  const store = counterStore();
  if (store === null || host.count === undefined) return store;
  return { usable: () => true, add: (role, kind, amount) => host.count!(request, role, kind, amount) };
}

/** By which an engine is asked, or null where the running function has none: another host, or switched off. */
export function engineHost(): EngineHost | null {
  const { engine } = plv8 as Extras;
  return engine !== undefined && engine.usable() ? engine : null;
}

/** The engine of this database, be it asked by this session or not; null where there is none. */
export function lookAtEngine(): EngineLook | null {
  return (plv8 as Extras).engine?.look?.() ?? null;
}

/** What the engine had this backend keep before there was JavaScript in it: texts, once. */
export function keptTexts(): string[] {
  return (plv8 as Extras).engine?.kept?.() ?? [];
}

/** The engine that this process is, or null. */
export function servedEngine(): EngineHost | null {
  const { engine } = plv8 as Extras;
  return engine !== undefined && engine.serving() ? engine : null;
}

/**
 * A line for the server's log should what runs now be rolled back; its id, by which it gets another text. Null where the
 * host has no such thing.
 */
export function rollbackNote(text: string, id: number | null): number | null {
  if (counterStore() === null) return null;
  return (plv8 as Extras).rollback_note?.(text, id) ?? null;
}

/** Emit one row of the set-returning function that is running. */
export function returnNext(row: unknown): void {
  plv8.return_next(row);
}

const TELL = 'select hartonomous._tell($1::boolean, $2::text)';

/** One line of JSON to the server log at debug level 1; durations are nanoseconds. Never pass prompt text. */
export function logEvent(event: string, facts: Record<string, SqlValue>): void {
  query(TELL, [false, logLine(event, facts)]);
}

export function logLine(event: string, facts: Record<string, SqlValue>): string {
  return `hartonomous ${JSON.stringify({ event, ...facts })}`;
}

/** Send a notice to the client. Never pass prompt text. */
export function notice(message: string): void {
  query(TELL, [true, message]);
}

let noticedAt = '';

/** As notice, for the first one of a statement only: what is true of one row is mostly true of many. */
export function noticeOnce(message: string): void {
  const at = String(query('select statement_timestamp()::text as at')[0]!.at);
  if (at === noticedAt) return;
  noticedAt = at;
  notice(message);
}

/** Ask for huge pages under memory that nobody has touched yet, where the host can. */
export function useHugePages(view: Uint8Array): void {
  (plv8 as Extras).huge_pages?.(view);
}
