/** A server of its own with the background worker of searches, which looks every second. */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { runServerProgram } from '../../cli/cluster/cluster.ts';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { startPrimary } from '../scale/servers.ts';

const PASSWORD = 'secret';
/** Tries of 50 ms until something that has to come counts as never to come. */
const TRIES = 1200;

/** Types of the processes, as pg_stat_activity has them. */
export const LAUNCHER = 'hartonomous worker launcher';
export const WORKER = 'hartonomous worker';

export interface Held {
  pid: number;
  go: () => Promise<void>;
}

export class WorkerServer {
  private readonly clients: pg.Client[] = [];

  private constructor(
    readonly cluster: Cluster,
    readonly url: string,
  ) {}

  static async start(): Promise<WorkerServer> {
    const { cluster, url } = await startPrimary();
    await ingestFile(url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const server = new WorkerServer(cluster, url);
    server.configure('hartonomous_worker.naptime = 1s');
    await server.asAdmin('select pg_reload_conf()');
    return server;
  }

  get dataFolder(): string {
    return join(this.cluster.home, 'data');
  }

  get log(): string {
    return readFileSync(join(this.cluster.home, 'postgresql.log'), 'utf8');
  }

  /** A line of configuration, for the next reload: also of settings that the server does not know, as ALTER SYSTEM's cannot. */
  configure(line: string): void {
    appendFileSync(join(this.dataFolder, 'postgresql.auto.conf'), `${line}\n`);
  }

  async set(line: string): Promise<void> {
    this.configure(line);
    await this.asAdmin('select pg_reload_conf()');
  }

  urlOf(database: string, role?: string): string {
    const url = new URL(this.url);
    url.pathname = `/${database}`;
    if (role !== undefined) [url.username, url.password] = [role, PASSWORD];
    return url.toString();
  }

  /** A session that lasts; of the superuser where no role is named. */
  async open(role?: string, database = 'hartonomous'): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.urlOf(database, role) });
    client.on('error', () => undefined);
    this.clients.push(client);
    await client.connect();
    return client;
  }

  async asAdmin<Row = Record<string, unknown>>(sql: string, database = 'hartonomous'): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this.urlOf(database) });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql)).rows as Row[];
    } finally {
      await client.end();
    }
  }

  /** Until a condition in SQL is true, of a server that may be down meanwhile. */
  async until(what: string, condition: string, database = 'hartonomous'): Promise<void> {
    for (let i = 0; i < TRIES; i++) {
      const answer = await this.asAdmin<{ yes: boolean }>(`select (${condition}) as yes`, database).catch(() => []);
      if (answer[0]?.yes === true) return;
      await sleep(50);
    }
    throw new Error(`did not happen: ${what}; the log ends with\n${this.log.slice(-3000)}`);
  }

  async untilLogged(line: RegExp): Promise<void> {
    for (let i = 0; i < TRIES; i++) {
      if (line.test(this.log)) return;
      await sleep(50);
    }
    throw new Error(`not in the log: ${line.source}; it ends with\n${this.log.slice(-3000)}`);
  }

  /** A role that may log in, with a schema of its name that holds a table `notes` and a search of it. */
  async makeOwner(role: string, options = '{"vector": "bytea"}', database = 'hartonomous'): Promise<pg.Client> {
    await this.asAdmin(
      `create role ${role} login password '${PASSWORD}'; grant hartonomous_user to ${role};
       create schema ${role} authorization ${role}`,
      database,
    );
    const client = await this.open(role, database);
    await client.query(`create table notes (id integer primary key, body text)`);
    const columns = options.includes('"expression"') ? 'null' : `'{body}'`;
    await client.query(
      `select hartonomous.create_search('notes', ${columns}, model => 'bert', options => '${options}')`,
    );
    return client;
  }

  /** Until nothing waits for a role's table and each of its rows has a chunk of its text. */
  async untilEmbedded(role: string, database = 'hartonomous'): Promise<void> {
    await this.until(
      `all of ${role} is embedded`,
      `not exists (select from ${role}.notes_search_queue) and
       not exists (select id, body from ${role}.notes except select key, text from ${role}.notes_search_chunks) and
       not exists (select key, text from ${role}.notes_search_chunks except select id, body from ${role}.notes)`,
      database,
    );
  }

  /** A worker that has embedded a batch of the role's and waits to write it, until `go`. */
  async hold(role: string, wanted = 1): Promise<Held> {
    const holder = await this.open(role);
    await holder.query('begin');
    await holder.query(`select from hartonomous._own_searches for update`);
    const session = await this.open(role);
    await session.query(`insert into notes select i, 'note ' || i from generate_series(1, 16 * ${wanted}) i`);
    const waiting = `from pg_stat_activity where backend_type = '${WORKER}' and usename = '${role}' and wait_event_type = 'Lock'`;
    await this.until(`${wanted} workers wait`, `(select count(*) ${waiting}) = ${wanted}`);
    const [worker] = await this.asAdmin<{ pid: number }>(`select pid ${waiting}`);
    return { pid: worker!.pid, go: async () => void (await holder.query('commit')) };
  }

  async launcher(): Promise<number | null> {
    const sql = `select pid from pg_stat_activity where backend_type = '${LAUNCHER}'`;
    return (await this.asAdmin<{ pid: number }>(sql))[0]?.pid ?? null;
  }

  control(...args: string[]): void {
    const done = runServerProgram('pg_ctl', ['-D', this.dataFolder, '-w', ...args]);
    if (done.status !== 0) throw new Error(`pg_ctl ${args.join(' ')}: ${done.output}`);
  }

  async destroy(): Promise<void> {
    for (const client of this.clients) await client.end().catch(() => undefined);
    this.cluster.destroy();
  }
}
