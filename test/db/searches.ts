/** Searches over tables of a role's own, for the tests of them: what is in the chunks has to be what the table says. */
import pg from 'pg';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** Options of create_search that differences() knows of. */
const OPTIONS = `'{"chunking": {"size": 20}, "language": "english", "vector": "bytea"}'`;
export const WORDS = [
  'the moon is bright',
  'boats on the water',
  'rabbits live in the ground. They are quiet and eat grass',
];
export const PASSWORD = 'secret';

/** Small models by the names that they get. */
const MODELS = {
  bert: 'zoo/bert-tiny-f32.gguf',
  nomic: 'zoo/nomic-bert-f32.gguf',
  ranker: 'zoo/bert-reranker-f32.gguf',
} as const;

export interface HeldWorker {
  pid: number;
  /** How the call ended. */
  ended: Promise<unknown>;
  go: () => Promise<void>;
}

export class Searches {
  /** Who owns schema app and the searches. */
  readonly owner = roleName('owner');
  readonly reader = roleName('reader');
  /** A member of no group. */
  readonly writer = roleName('writer');
  database!: TestDatabase;
  /** A superuser's session. */
  admin!: pg.Client;
  /** The owner's session. */
  session!: pg.Client;
  private readonly clients: pg.Client[] = [];

  /** A database with the roles, the schema and some models, of which `bert` is the default. */
  async open(
    ...more: (keyof typeof MODELS)[]
  ): Promise<{ database: TestDatabase; admin: pg.Client; session: pg.Client }> {
    const { owner, reader, writer } = this;
    this.database = await createDatabase();
    await this.database.createRole(owner, 'hartonomous_user');
    await this.database.createRole(reader, 'hartonomous_user');
    await this.database.createRole(writer);
    for (const name of ['bert', ...more] as const) await ingestFile(this.database.url, modelPath(MODELS[name]), name);
    this.admin = await this.login(null);
    await this.admin.query(`select hartonomous.set_default_model('bert')`);
    await this.admin.query(
      `create schema app authorization ${owner}; grant usage on schema app to ${reader}, ${writer}`,
    );
    await this.admin.query(
      `alter role ${owner} login password '${PASSWORD}'; alter role ${owner} set search_path = app`,
    );
    this.session = await this.login(owner);
    await this.session.query('set search_path = app');
    const { database, admin, session } = this;
    return { database, admin, session };
  }

  close = async (): Promise<void> => {
    for (const client of this.clients) await client.end();
    await this.database.drop();
  };

  /** A session of a role that is its own, as after a login. */
  login = async (role: string | null, url = this.database.url): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    this.clients.push(client);
    await client.connect();
    if (role !== null) await client.query(`set session authorization ${role}`);
    return client;
  };

  /** Where the owner logs in with a password. */
  get ownersUrl(): string {
    const url = new URL(this.database.url);
    [url.username, url.password] = [this.owner, PASSWORD];
    return url.toString();
  }

  /** Rows of the owner's. */
  rows = async (sql: string, ...values: unknown[]): Promise<Record<string, unknown>[]> =>
    (await this.session.query<Record<string, unknown>>(sql, values)).rows;

  makeTable = async (name: string, columns = 'id bigint primary key, body text'): Promise<void> => {
    await this.session.query(`create table ${name} (${columns})`);
  };

  makeSearch = async (table: string): Promise<void> => {
    await this.session.query(`select hartonomous.create_search('${table}', '{body}', options => ${OPTIONS})`);
  };

  /** Chunks that should be there and are not, and the other way round. */
  differences = async (
    table: string,
    {
      model = 'bert',
      kind = 'null',
      client = this.session,
    }: { model?: string; kind?: string; client?: pg.Client } = {},
  ): Promise<unknown[]> => {
    const answer = await client.query(
      `with found as materialized (
         select c.key::text, c.number, c."from", c.text, md5(c.embedding::text), c.words from app.${table}_search_chunks c
       ), wanted as materialized (
         select t.id::text, c.number, c."from", c.text,
           md5(hartonomous._vector_bytes(hartonomous.embed(c.text, '${model}', '{"normalize": true, "kind": ${kind}}'))::text), to_tsvector('english', c.text)
         from app.${table} t cross join lateral hartonomous.chunk(t.body, '${model}', '{"size": 20}') c
       )
       (select 'too many' as what, * from (table found except all table wanted) a)
       union all (select 'missing', * from (table wanted except all table found) b)`,
    );
    return answer.rows;
  };

  waitUntil = async (what: string, sql: string): Promise<void> => {
    for (let i = 0; i < 500; i++) {
      const answer = await this.admin.query<{ yes: boolean }>(`select (${sql}) as yes`);
      if (answer.rows[0]!.yes) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`not within ten seconds: ${what}`);
  };

  /** A worker that has embedded everything and waits to write it, until `go`. */
  heldWorker = async (search: string): Promise<HeldWorker> => {
    const holder = await this.login(this.owner);
    await holder.query('begin');
    await holder.query(`select from hartonomous._own_searches where search = '${search}'::regclass for update`);
    const worker = await this.login(this.owner);
    const pid = (await worker.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
    const ended = worker.query(`call hartonomous.work('${search}')`).catch((error: unknown) => error);
    await this.waitUntil('a worker waits', `select wait_event_type = 'Lock' from pg_stat_activity where pid = ${pid}`);
    return { pid, ended, go: async () => void (await holder.query('commit')) };
  };
}
