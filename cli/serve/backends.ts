/** The pool of backends that answer, each with its models in memory, and the queue before it. */
import { AnswerCancelled, Backend } from '../answer/backend.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { HttpError, isBroken } from './errors.ts';
import type { PoolState } from './metrics.ts';
import { Metrics } from './metrics.ts';

/** Seconds after which a client that found the queue full may come again. */
const RETRY_AFTER = 1;

export interface PoolOptions {
  /** backends at most */
  size: number;
  /** requests that wait at most */
  queue: number;
}

interface Member {
  backend: Backend;
  /** What it answered last: its cache holds the keys and values of this. */
  last: string;
  broken: boolean;
  /** Models to free when it is released. */
  leaving: Leaving[];
}

interface Leaving {
  model: string;
  /** Who asked for it; null for the one that connected. */
  role: string | null;
}

interface Waiter {
  resolve(member: Member | null): void;
  reject(error: unknown): void;
}

/** Backends as a request uses them. */
export interface Backends {
  readonly metrics: Metrics;
  use<T>(text: string, signal: AbortSignal | undefined, body: (backend: Backend) => Promise<T>): Promise<T>;
  lease(text: string, signal: AbortSignal | undefined): Promise<Lease>;
  unload(model: string): Promise<void>;
}

export class BackendPool implements Backends {
  readonly metrics = new Metrics(() => this.state());
  private readonly members = new Set<Member>();
  /** Most recently used last. */
  private readonly idle: Member[] = [];
  private readonly waiting: Waiter[] = [];
  /** Places taken: connections open or being opened. */
  private slots = 0;
  private closed = false;

  constructor(
    private readonly connection: ConnectionOptions,
    private readonly options: PoolOptions,
  ) {}

  /** Open every backend and let each load the default model, so that no request waits for that. */
  async warm(): Promise<void> {
    const count = this.options.size - this.slots;
    await Promise.all(
      Array.from({ length: count }, () =>
        this.use('', undefined, async (backend) => {
          const { rows } = await backend.client.query<{ name: string | null }>(
            'select hartonomous.default_model() as name',
          );
          if (rows[0]!.name !== null) await loadModel(backend, rows[0]!.name);
        }),
      ),
    );
  }

  /**
   * Run `body` with a backend; of the idle ones with that which answered the likest text last, since its cache may
   * hold the beginning. Throws 503 when as many requests as may wait are waiting.
   */
  async use<T>(
    text: string,
    signal: AbortSignal | undefined,
    body: (backend: Backend) => Promise<T>,
    role: string | null = null,
  ): Promise<T> {
    const lease = await this.lease(text, signal, role);
    try {
      return await body(lease.backend);
    } catch (error) {
      if (isBroken(error)) lease.broken();
      throw error;
    } finally {
      lease.release();
    }
  }

  /** A backend until it is released, for answers that outlive a call. */
  async lease(text: string, signal: AbortSignal | undefined, role: string | null = null): Promise<Lease> {
    // Nobody finds what was computed for another role.
    const wanted = text === '' ? '' : `${role ?? ''} ${text}`;
    const member = await this.take(wanted, signal);
    if (wanted !== '') member.last = wanted;
    member.backend.role = role;
    let released = false;
    return {
      backend: member.backend,
      broken: () => (member.broken = true),
      release: () => {
        if (released) return;
        released = true;
        this.release(member);
      },
    };
  }

  /** Free a model in every backend and the engine: in the idle ones now, in the others once they have answered. */
  async unload(model: string, role: string | null = null): Promise<void> {
    const leaving = { model, role };
    for (const member of this.members) member.leaving.push(leaving);
    const isBusy = this.idle.length === 0 && this.slots === this.options.size;
    await Promise.all(this.idle.map(free));
    // The engine hears it from whichever is free first, and from each that held the model, too.
    const told = this.use('', undefined, (backend) => freeIn(backend, leaving, true)).catch(() => undefined);
    if (!isBusy) await told;
  }

  private state(): PoolState {
    const { members, idle, waiting } = this;
    return { running: members.size - idle.length, waiting: waiting.length, backends: members.size };
  }

  /** The same backends, acting as a role; null for the one that connected. */
  as(role: string | null): Backends {
    return {
      metrics: this.metrics,
      use: (text, signal, body) => this.use(text, signal, body, role),
      lease: (text, signal) => this.lease(text, signal, role),
      unload: (model) => this.unload(model, role),
    };
  }

  /** End every connection once it is idle; those that wait are refused. */
  async close(): Promise<void> {
    this.closed = true;
    for (const waiter of this.waiting.splice(0)) waiter.reject(new HttpError(503, 'the server is stopping'));
    await Promise.all(this.idle.splice(0).map((member) => member.backend.close()));
  }

  /** An idle backend, a fresh one, or the next that is released. Decides without a pause, so none is missed. */
  private async take(text: string, signal: AbortSignal | undefined): Promise<Member> {
    if (this.closed) throw new HttpError(503, 'the server is stopping');
    const idle = this.takeIdle(text);
    if (idle !== null) return idle;
    if (this.slots < this.options.size) {
      this.slots++;
      return this.connect();
    }
    return (await this.wait(signal)) ?? this.connect();
  }

  private takeIdle(text: string): Member | null {
    if (this.idle.length === 0) return null;
    let best = this.idle.length - 1;
    let longest = commonLength(this.idle[best]!.last, text);
    for (let i = best - 1; i >= 0; i--) {
      const length = commonLength(this.idle[i]!.last, text);
      if (length > longest) [best, longest] = [i, length];
    }
    return this.idle.splice(best, 1)[0]!;
  }

  /** Wait for a backend that is released; null is the place of one that is gone, for a fresh one. */
  private wait(signal: AbortSignal | undefined): Promise<Member | null> {
    if (this.waiting.length >= this.options.queue) {
      throw new HttpError(
        503,
        `all ${this.options.size} backends are busy and ${this.waiting.length} requests are waiting, at most ${this.options.queue} may`,
        { code: 'queue_full', retryAfter: RETRY_AFTER },
      );
    }
    if (signal?.aborted === true) throw new AnswerCancelled();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        const at = this.waiting.indexOf(waiter);
        if (at < 0) return;
        this.waiting.splice(at, 1);
        reject(new AnswerCancelled());
      };
      const waiter: Waiter = {
        resolve: (member) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(member);
        },
        reject,
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.waiting.push(waiter);
    });
  }

  /** Open a connection in a place that is taken already; gives the place on when that fails. */
  private async connect(): Promise<Member> {
    try {
      const member: Member = { backend: await Backend.open(this.connection), last: '', broken: false, leaving: [] };
      this.members.add(member);
      member.backend.client.once('end', () => {
        member.broken = true;
        this.members.delete(member);
        const at = this.idle.indexOf(member);
        if (at < 0) return;
        this.idle.splice(at, 1);
        this.leavePlace();
      });
      return member;
    } catch (error) {
      this.leavePlace();
      throw error;
    }
  }

  private release(member: Member): void {
    if (member.broken || this.closed) {
      void member.backend.close();
      this.leavePlace();
      return;
    }
    void free(member);
    const next = this.waiting.shift();
    if (next === undefined) this.idle.push(member);
    else next.resolve(member);
  }

  private leavePlace(): void {
    const next = this.waiting.shift();
    if (next === undefined) this.slots--;
    else next.resolve(null);
  }
}

/** Statements of a connection run one after the other, so the next request finds it done. */
async function free({ backend, leaving }: Member): Promise<void> {
  for (const each of leaving.splice(0)) await freeIn(backend, each, false).catch(() => undefined);
}

/**
 * As who asked, not as the role of the request before, which may not do it for all: one message to the server, so nothing of
 * another request comes between. A backend that holds no model, as where an engine computes, is spared the JavaScript unless
 * `always`.
 */
async function freeIn({ client }: Backend, { model, role }: Leaving, always: boolean): Promise<void> {
  const name = client.escapeLiteral(model);
  await client.query(
    `set local role ${role === null ? 'none' : client.escapeIdentifier(role)};
     select hartonomous.unload(${name}) where ${String(always)} or exists (
       select from hartonomous.loaded_everywhere where model = ${name} and pid = pg_catalog.pg_backend_pid())`,
  );
}

export interface Lease {
  readonly backend: Backend;
  /** The connection is of no further use. */
  broken(): void;
  release(): void;
}

/** Let a backend load a model; throws as a request for it would. */
export async function loadModel(backend: Backend, model: string): Promise<void> {
  const answer = backend.answer({ prompt: ' ', model, options: { raw: true, num_predict: 0, record: false } });
  while ((await answer.next()).done !== true);
}

/** Length of what two texts have in common at their beginning. */
function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let n = 0;
  while (n < most && a.charCodeAt(n) === b.charCodeAt(n)) n++;
  return n;
}
