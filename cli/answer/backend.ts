/** One connection that answers, token by token, and can be stopped while it does. */
import pg from 'pg';
import { parseJson, writeJson } from '../../plv8/src/format/ordered-json.ts';
import { cancelBackend, connect } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';

export interface ChatMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

export interface AnswerRequest {
  /** Text, answered as generate does, or messages, answered as chat does. */
  prompt: string | readonly ChatMessage[];
  /** null for the default model */
  model: string | null;
  /** options of hartonomous.open_session, as they are */
  options: Record<string, unknown>;
}

/** A row of hartonomous.next_tokens. */
export interface AnswerToken {
  token_id: number | null;
  /** Text that became certain with this token, never half a character. */
  token: string;
  logprob: number | null;
  done_reason: string | null;
  logprobs: TokenLogprob | null;
  /** What became certain of the thinking that goes before the answer. */
  thinking: string;
  /** Pieces of calls of tools that became certain, as OpenAI streams them. */
  tool_calls: CallPiece[] | null;
}

/** The first piece of a call has id and name, all have more of the arguments' JSON text. */
export interface CallPiece {
  index: number;
  id?: string;
  function: { name?: string; arguments: string };
}

/** A call of a tool, with its arguments as an object. */
export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: Record<string, unknown> };
}

export interface TokenLogprob {
  token_id: number;
  token: string;
  logprob: number;
  bytes?: number[];
  top_logprobs?: TokenLogprob[];
}

/** What hartonomous.close_session tells of an answer; durations in nanoseconds. */
export interface AnswerFacts {
  model: string;
  text: string;
  thinking?: string;
  tool_calls?: ToolCall[];
  done_reason: 'stop' | 'length' | 'cancelled';
  total_duration: number;
  load_duration: number;
  /** prompt tokens computed; the rest was in the cache */
  prompt_eval_count: number;
  prompt_eval_duration: number;
  eval_count: number;
  eval_duration: number;
  prompt_tokens: number;
  seed: number;
  run_id?: number;
}

/** An answer was stopped before it began. */
export class AnswerCancelled extends Error {
  constructor() {
    super('the answer was stopped');
    this.name = 'AnswerCancelled';
  }
}

const QUERY_CANCELED = '57014';

/** Milliseconds between two deliveries: short enough to look steady, long enough that asking costs next to nothing. */
const DELIVERY_MS = 30;
/** Tokens asked for at once, however fast they come. */
const MAX_TOKENS_PER_CALL = 64;

interface Stop {
  /** Ignore aborts from here on, and wait until one that came has reached the server. */
  settle(): Promise<void>;
  end(commit: boolean): Promise<void>;
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function asCancelled(error: unknown, signal: AbortSignal | undefined): unknown {
  return isAborted(signal) && (isCancel(error) || error === signal?.reason) ? new AnswerCancelled() : error;
}

function isCancel(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === QUERY_CANCELED;
}

export class Backend {
  /** Role that the next request acts as; null for the one that connected. */
  role: string | null = null;
  /** Role that the connection acts as at present. */
  private acting: string | null = null;
  /** What the server remarked on the request that is being answered. */
  notices: readonly string[] = [];

  private constructor(
    readonly client: pg.Client,
    private readonly options: ConnectionOptions,
    /** A pooler stands between, which may give every transaction another backend. */
    private readonly pooled: boolean,
  ) {}

  static async open(options: ConnectionOptions): Promise<Backend> {
    const client = await connect(options);
    try {
      return await Backend.over(client, options);
    } catch (error) {
      await client.end().catch(() => undefined);
      throw error;
    }
  }

  /** Use a connection that is there; whoever made it ends it. */
  static async over(client: pg.Client, options: ConnectionOptions): Promise<Backend> {
    const { processID } = client as pg.Client & { processID: number };
    return new Backend(client, options, (await backendPid(client)) !== processID);
  }

  async close(): Promise<void> {
    await this.client.end().catch(() => undefined);
  }

  /**
   * Run statements of one request. When `signal` aborts, the statement that runs is cancelled in the server and
   * AnswerCancelled thrown; nothing of that cancel is left over for the next request.
   */
  async request<T>(signal: AbortSignal | undefined, body: () => Promise<T>): Promise<T> {
    const stop = await this.begin(signal);
    let complete = false;
    try {
      const result = await body();
      complete = true;
      return result;
    } catch (error) {
      throw asCancelled(error, signal);
    } finally {
      await stop.end(complete);
    }
  }

  /**
   * An answer, token after token, then its facts. When `signal` aborts, the answer ends with done_reason `cancelled`;
   * AnswerCancelled is thrown when it had not begun.
   */
  async *answer(request: AnswerRequest, signal?: AbortSignal): AsyncGenerator<AnswerToken, AnswerFacts> {
    const stop = await this.begin(signal);
    let session: string | null = null;
    let complete = false;
    try {
      session = await this.openSession(request);
      yield* this.tokens(session, signal);
      await stop.settle();
      const facts = await this.closeSession(session);
      session = null;
      complete = true;
      return facts;
    } catch (error) {
      throw asCancelled(error, signal);
    } finally {
      await stop.settle();
      // The reader left, or a statement failed: the session goes as well, unless the backend went first.
      if (session !== null) await this.closeSession(session).catch(() => undefined);
      await stop.end(complete);
    }
  }

  private async openSession(request: AnswerRequest): Promise<string> {
    const notices: string[] = [];
    const listen = ({ message }: { message?: string | undefined }): number => notices.push(message ?? '');
    this.client.on('notice', listen);
    try {
      const { rows } = await this.client.query<{ id: string }>('select hartonomous.open_session($1, $2, $3) as id', [
        writeJson(request.prompt),
        request.model,
        writeJson(request.options),
      ]);
      return rows[0]!.id;
    } finally {
      this.client.off('notice', listen);
      this.notices = notices;
    }
  }

  private async *tokens(session: string, signal?: AbortSignal): AsyncGenerator<AnswerToken, void> {
    let n = 1;
    while (!isAborted(signal)) {
      const started = performance.now();
      let rows: AnswerToken[];
      try {
        if (this.pooled) await this.client.query('savepoint answer');
        ({ rows } = await this.client.query<AnswerToken>('select * from hartonomous.next_tokens($1, $2)', [
          session,
          n,
        ]));
      } catch (error) {
        if (!isAborted(signal) || !isCancel(error)) throw error;
        if (this.pooled) await this.client.query('rollback to savepoint answer');
        return;
      }
      yield* rows;
      if (rows.length === 0 || rows.at(-1)!.done_reason !== null) return;
      const perToken = (performance.now() - started) / rows.length;
      n = Math.max(1, Math.min(MAX_TOKENS_PER_CALL, Math.floor(DELIVERY_MS / perToken)));
    }
  }

  private async closeSession(session: string): Promise<AnswerFacts> {
    // As text: a parser of JSON that knows doubles only would round what is called with.
    const { rows } = await this.client.query<{ facts: string }>('select hartonomous.close_session($1)::text as facts', [
      session,
    ]);
    return parseJson(rows[0]!.facts) as AnswerFacts;
  }

  /** Behind a pooler one transaction keeps one backend, so a request is one transaction there. */
  private async begin(signal: AbortSignal | undefined): Promise<Stop> {
    if (isAborted(signal)) throw new AnswerCancelled();
    if (this.pooled) await this.client.query('begin');
    await this.takeRole();
    const pid = signal === undefined ? 0 : await this.pid();
    let cancelling: Promise<void> | null = null;
    const onAbort = (): void => {
      cancelling = cancelBackend(this.options, pid).catch(() => undefined);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    return {
      settle: async () => {
        signal?.removeEventListener('abort', onAbort);
        await cancelling;
      },
      end: async (commit) => {
        signal?.removeEventListener('abort', onAbort);
        await cancelling;
        // On a connection that broke there is nothing to end.
        if (this.pooled) await this.client.query(commit ? 'commit' : 'rollback').catch(() => undefined);
      },
    };
  }

  private async takeRole(): Promise<void> {
    if (this.pooled ? this.role === null : this.role === this.acting) return;
    // Behind a pooler the next transaction may be another client's, so the role ends with this one.
    const set = this.pooled ? 'set local role' : 'set role';
    await this.client.query(`${set} ${this.role === null ? 'none' : this.client.escapeIdentifier(this.role)}`);
    this.acting = this.role;
  }

  private async pid(): Promise<number> {
    return this.pooled ? backendPid(this.client) : (this.client as pg.Client & { processID: number }).processID;
  }
}

async function backendPid(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]!.pid;
}
