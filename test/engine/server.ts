/** A server of its own with models that are quick to load, whose sessions ask an engine where that is on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { ingestFile, lacksOwn } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { startPrimary } from '../scale/servers.ts';

const PASSWORD = 'secret';
/** Tries of 20 ms until something that has to come counts as never to come. */
const TRIES = 1500;

/** Type of its process, as pg_stat_activity has it. */
export const ENGINE = 'hartonomous engine';
export const STORIES = 'stories';
export const QWEN = 'qwen';
export const TINY = 'tiny';

/** Context of the model that writes without end. */
const CONTEXT = 65_536;

export class EngineServer {
  /** A call that takes minutes: as many tokens as its context holds. */
  readonly endless = {
    prompt: 'Once',
    model: TINY,
    options: { raw: true, temperature: 1, num_predict: -1, num_ctx: CONTEXT, cache: false } as Record<string, unknown>,
  };
  private readonly clients: pg.Client[] = [];

  private constructor(
    readonly cluster: Cluster,
    readonly url: string,
  ) {}

  static async start(): Promise<EngineServer> {
    const { cluster, url } = await startPrimary();
    await ingestFile(url, modelPath('llama-260k/llama-260k-q8_0.gguf'), STORIES);
    await ingestFile(url, modelPath('zoo/qwen2-tiny-f32.gguf'), QWEN);
    await ingestFile(url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), TINY);
    const server = new EngineServer(cluster, url);
    await server.asAdmin(
      `update hartonomous.models set hyperparameters = hyperparameters || jsonb_build_object(architecture || '.context_length', ${CONTEXT})
       where name = '${TINY}'`,
    );
    await server.setStored('max_loaded_models', 3);
    const tokens = await server.asAdmin<{ token_id: number }>(
      `select t.token_id from hartonomous.tokens t join hartonomous.models m on m.id = t.model_id where m.name = '${TINY}' and t.type = 3`,
    );
    server.endless.options.logit_bias = Object.fromEntries(tokens.map((token) => [token.token_id, -1000]));
    for (const role of ['anna', 'ben'])
      await server.asAdmin(`create role ${role} login password '${PASSWORD}'; grant hartonomous_user to ${role}`);
    return server;
  }

  /** Whether sessions that are opened from now on ask an engine; `settings` as `engine_idle = '1s'`. */
  async set(...settings: string[]): Promise<void> {
    for (const setting of settings) await this.asAdmin(`alter database hartonomous set hartonomous_v8.${setting}`);
  }

  /** A stored setting of the operator. */
  async setStored(name: string, value: number): Promise<void> {
    await this.asAdmin(
      `insert into hartonomous.settings (name, value) values ('${name}', to_jsonb(${value}))
       on conflict (name) do update set value = excluded.value`,
    );
  }

  async open(role?: string, database = 'hartonomous'): Promise<pg.Client> {
    const url = new URL(this.url);
    url.pathname = `/${database}`;
    if (role !== undefined) [url.username, url.password] = [role, PASSWORD];
    const client = new pg.Client({ connectionString: url.toString() });
    client.on('error', () => undefined);
    this.clients.push(client);
    await client.connect();
    return client;
  }

  async asAdmin<Row = Record<string, unknown>>(sql: string, database = 'hartonomous'): Promise<Row[]> {
    const client = await this.open(undefined, database);
    try {
      return (await client.query(sql)).rows as Row[];
    } finally {
      await client.end();
    }
  }

  /** Process ids of engines. */
  async engines(): Promise<number[]> {
    const sql = `select pid from pg_stat_activity where backend_type = '${ENGINE}'`;
    return (await this.asAdmin<{ pid: number }>(sql, 'postgres')).map(({ pid }) => pid);
  }

  /** Until a condition in SQL is true, asked in another database where none is named. */
  async until(what: string, condition: string, database = 'postgres'): Promise<void> {
    const client = await this.open(undefined, database);
    try {
      for (let i = 0; i < TRIES; i++) {
        if ((await client.query<{ yes: boolean }>(`select (${condition}) as yes`)).rows[0]?.yes === true) return;
        await sleep(20);
      }
    } finally {
      await client.end();
    }
    throw new Error(`did not happen: ${what}`);
  }

  untilEngines(count: number): Promise<void> {
    return this.until(
      `${count} engines`,
      `(select count(*) from pg_stat_activity where backend_type = '${ENGINE}') = ${count}`,
    );
  }

  /** Until the engine writes so many answers. */
  untilWriting(count: number): Promise<void> {
    const condition = `(select count(*) from hartonomous.engine_requests where state = 'writing') = ${count}`;
    return this.until(`${count} answers`, condition, 'hartonomous');
  }

  /** Until the engine is there and has nothing to do. */
  untilIdle(): Promise<void> {
    return this.until(
      'an idle engine',
      `(select array_agg(state) from pg_stat_activity where backend_type = '${ENGINE}') = '{idle}'`,
    );
  }

  /** Recorded runs and their tokens, without what differs from run to run; none is left. */
  async takeRuns(): Promise<{ tokens: unknown[]; runs: unknown[] }> {
    const tokens = await this.asAdmin(
      `select array_agg(to_jsonb(t) - 'run_id' order by position) as tokens
       from hartonomous.run_tokens t group by run_id order by run_id`,
    );
    const runs = await this.asAdmin(
      `with gone as (delete from hartonomous.runs returning *)
       select to_jsonb(r) - '{id,created_at,load_ns,prompt_eval_ns,eval_ns,total_ns,prompt_eval_count}'::text[] as run
       from gone r order by id`,
    );
    return { tokens, runs };
  }

  /** What each of some calls gives where all are made at once, in sessions of two roles. */
  async resultsAtOnce(calls: readonly Call[]): Promise<Result[]> {
    const clients = await Promise.all(calls.map((_, i) => this.open(i % 2 === 0 ? 'anna' : 'ben')));
    return (await Promise.all(calls.map((call, i) => results(clients[i]!, [call])))).flat();
  }

  /** What calls fail with in a session that computes itself, and in one that asks a new engine. */
  async errorsWithoutAndWith(bad: readonly Call[]): Promise<unknown[][]> {
    const seen: unknown[][] = [];
    for (const engine of ['off', 'on']) {
      await this.set(`engine = ${engine}`);
      await this.startAnew();
      const client = await this.open('anna');
      const errors: unknown[] = [];
      for (const [sql, args] of bad) errors.push(await errorOf(client.query(sql, args)));
      seen.push(errors);
    }
    return seen;
  }

  /** How many answers the engine has given. */
  async answers(): Promise<number> {
    const rows = await this.asAdmin<{ answers: string }>('select answers from hartonomous.engine_list');
    return Number(rows[0]?.answers ?? 0);
  }

  /** Tokens that count for a role within the hour; `call` is one that a limit refuses. */
  async countedTokens(role: string, [sql, args]: Call): Promise<number> {
    await this.asAdmin(`select hartonomous.set_limit('max_tokens_per_hour', 1, '${role}')`);
    const client = await this.open(role);
    const { message } = (await errorOf(client.query(sql, args))) as Error;
    await this.asAdmin(`select hartonomous.set_limit('max_tokens_per_hour', null, '${role}')`);
    return Number(/used (\d+) tokens/.exec(message)![1]);
  }

  /** Have the functions be of another build. */
  async rebuild(from: string, to: string): Promise<void> {
    await this.asAdmin(
      `do $do$ declare definition text; begin
         for definition in select pg_get_functiondef(oid) from pg_proc where pronamespace = 'hartonomous'::regnamespace and prosrc like '%${from}%'
         loop execute replace(definition, '${from}', '${to}'); end loop;
       end $do$`,
    );
  }

  /** Id of the build that is installed. */
  async build(): Promise<string> {
    return (await this.asAdmin<{ id: string }>('select hartonomous._load_bundle() as id'))[0]!.id;
  }

  /** End the engine: the next one has computed nothing yet. */
  async startAnew(): Promise<void> {
    await this.asAdmin(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = '${ENGINE}'`);
    await this.untilEngines(0);
  }

  /** Open a session that writes without end; what computes its next token. */
  async openEndless(client: pg.Client): Promise<() => Promise<unknown>> {
    const { prompt, model, options } = this.endless;
    const { rows } = await client.query<{ id: string }>(
      'select hartonomous.open_session($1::json, $2, $3::json) as id',
      [JSON.stringify(prompt), model, JSON.stringify(options)],
    );
    return () => client.query('select * from hartonomous.next_tokens($1, 1)', [rows[0]!.id]);
  }

  /** Cancel what a role's sessions wait for. */
  async cancel(role: string): Promise<void> {
    await this.asAdmin(
      `select pg_cancel_backend(pid) from pg_stat_activity where usename = '${role}' and state = 'active'`,
    );
  }

  /** End every session but one's own, and the engine. */
  async endSessions(): Promise<void> {
    for (const client of this.clients.splice(0)) await client.end().catch(() => undefined);
  }

  async destroy(): Promise<void> {
    await this.endSessions();
    this.cluster.destroy();
  }
}

/** Whether the tests run on a host that has no engine. */
export const foreign = lacksOwn('an engine');

/** Give a file of tests a server of its own, which `begin` gets before the first of them, and whose engine is on as each begins. */
export function useEngineServer(begin: (server: EngineServer) => unknown): void {
  let server: EngineServer | undefined;
  beforeAll(async () => {
    if (foreign) return;
    server = await EngineServer.start();
    await begin(server);
  });
  afterAll(() => server?.destroy());
  beforeEach(() => server?.set('engine = on', `engine_idle = '60s'`, 'engine_requests = 64'));
  afterEach(() => server?.endSessions());
}

/** What `work` fails with, as a client sees it. */
export async function errorOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    const { code, message, detail, hint } = error as pg.DatabaseError;
    return { code, message, detail, hint };
  }
  throw new Error('nothing was thrown');
}

/** A call in SQL and its arguments. */
export type Call = [sql: string, args: unknown[]];

export interface Result {
  rows: unknown[];
  notices: unknown[];
}

/** What calls give a client, one after the other. */
export async function results(client: pg.Client, calls: readonly Call[]): Promise<Result[]> {
  const out: Result[] = [];
  for (const [sql, args] of calls) {
    const notices: unknown[] = [];
    const note = ({ message }: { message: string | undefined }): unknown => notices.push(message);
    client.on('notice', note);
    out.push({ rows: (await client.query(sql, args)).rows as unknown[], notices });
    client.off('notice', note);
  }
  return out;
}

/** Models that a client's own backend has loaded. */
export async function loaded(client: pg.Client): Promise<unknown[]> {
  return (await client.query('select model from hartonomous.loaded_models')).rows;
}

/** Process id of its backend. */
export async function pidOf(client: pg.Client): Promise<number> {
  return (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
}

/** The text of an answer. */
export async function generate(client: pg.Client, prompt: string, model: string, options: object): Promise<string> {
  const { rows } = await client.query<{ text: string }>('select hartonomous.generate($1::text, $2, $3::json) as text', [
    prompt,
    model,
    JSON.stringify(options),
  ]);
  return rows[0]!.text;
}

/** Whether V8 is in the memory of a session's process. */
export async function hasV8(client: pg.Client): Promise<boolean> {
  return readFileSync(`/proc/${await pidOf(client)}/maps`, 'utf8').includes('libnode');
}
