/**
 * A login without any grant holds nobody up. It takes every advisory lock that it knows or sees and waits for those of
 * others, while models are ingested, copied, loaded and removed, runs pruned and functions replaced.
 */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { install } from '../../cli/install/install.ts';
import { modelPath } from '../golden/model-files.ts';
import { connectAs, createDatabase, ingestFile, OWN_LANGUAGE, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const FILE = modelPath('zoo/qwen2-tiny-f32.gguf');
/** Keys that were or are somewhere in the code: ingest, install, postgres-migrations, cluster; publishers by their class. */
const KNOWN = [
  `hashtext('hartonomous.ingest')`,
  `hashtext('hartonomous.install')`,
  `hashtext('hartonomous.cluster')`,
  '-8525285245963000605',
  ...[0x48415254, 0x48455252, 0x48534547, 1_215_328_594].flatMap((first) =>
    Array.from({ length: 9 }, (_, second) => `${first}, ${second}`),
  ),
];
/** Every advisory lock that somebody holds in this database, as the arguments that take it. */
const SEEN = `select case objsubid when 1 then ((classid::bigint << 32) | objid::bigint)::text
    else format('%s, %s', classid::bigint, objid::bigint) end as key
  from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
    and pid not in (select pid from pg_stat_activity where usename = current_user)`;

let database: TestDatabase;
const outsider = roleName('outsider');
const user = roleName('user');
let asUser: pg.Client;
let asOwner: pg.Client;
let harassment: { stop(): Promise<void>; waited: Set<string> };

async function connect(role?: string): Promise<pg.Client> {
  const url = new URL(database.url);
  if (role !== undefined) [url.username, url.password] = [role, 'secret'];
  const client = new pg.Client({ connectionString: url.toString() });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Take what can be taken, and stand in the queue for what is held, until it is stopped. */
async function harass(): Promise<typeof harassment> {
  const [holder, watcher] = [await connect(outsider), await connect(outsider)];
  for (const key of KNOWN) await holder.query(`select pg_advisory_lock(${key})`);
  const queues: pg.Client[] = [];
  const waited = new Set<string>();
  let stopped = false;
  const watching = (async () => {
    while (!stopped) {
      for (const { key } of (await watcher.query<{ key: string }>(SEEN)).rows) {
        if (waited.has(key) || queues.length >= 20) continue;
        waited.add(key);
        const client = await connect(outsider);
        queues.push(client);
        client.query(`select pg_advisory_lock(${key})`).catch(() => undefined);
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  return {
    waited,
    stop: async () => {
      stopped = true;
      await watching;
      await asOwner.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [outsider]);
      await Promise.all([holder, watcher, ...queues].map((client) => client.end().catch(() => undefined)));
    },
  };
}

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(outsider);
  await database.createRole(user, 'hartonomous_user');
  await ingestFile(database.url, FILE, 'a');
  await database.pool.query(
    `alter role ${outsider} login password 'secret'; alter role ${user} login password 'secret'`,
  );
  [asOwner, asUser] = [await connect(), await connect(user)];
  harassment = await harass();
});
afterAll(async () => {
  await harassment.stop();
  await asOwner.end();
  await asUser.end();
  await database.drop();
});

const ASK = `select hartonomous.generate('The', $1, '{"raw": true, "num_predict": 2, "record": true}')`;

// Whoever waits for the outsider waits until the test's time is over.
describe('an outsider with every advisory lock it can have does not hold up', () => {
  test('an ingest', async () => {
    await ingestFile(database.url, FILE, 'b');
    // It was there: it saw the lock that shows whose turn it is, and waited for it.
    expect(harassment.waited.size).toBeGreaterThan(0);
    expect((await asOwner.query('select from hartonomous.turns')).rows).toEqual([]);
  });

  test('a load, nor the one who publishes the weights', async () => {
    await asUser.query(ASK, ['a']);
    // With an option that has it computed in its own backend, be engines on or off.
    await asUser.query(ASK.replace('{', '{"num_thread": 1, '), ['a']);
    const { rows } = await asUser.query<{ shared: string }>(
      'select shared_bytes as shared from hartonomous.loaded_models',
    );
    expect(rows).toHaveLength(1);
    if (OWN_LANGUAGE) expect(Number(rows[0]!.shared)).toBeGreaterThan(0);
    // What presence shows is forged, under the outsider's own name: docs/reliability.md says so.
    expect(
      (await asOwner.query(`select distinct "user" from hartonomous.loaded_everywhere where model = 'a'`)).rows,
    ).toEqual([{ user: outsider }]);
  });

  test('an install', async () => {
    await asOwner.query(`update hartonomous.settings set value = '"another"' where name = 'build_id'`);
    expect((await install(asOwner)).functionsReplaced).toBe(true);
  });

  test('an install for longer than some seconds, nor those who come after it', async () => {
    const reader = roleName('reader');
    await database.createRole(reader, 'hartonomous_reader');
    const idle = await connectAs(database.url, reader);
    try {
      await idle.query('begin; select from hartonomous.run_list');
      await asOwner.query(`update hartonomous.settings set value = '"another"' where name = 'build_id'`);
      const { rows } = await idle.query<{ pid: number }>('select pg_backend_pid() as pid');
      await expect(install(asOwner)).rejects.toThrow(
        `others have used the schema for more than 5 seconds: ${rows[0]!.pid} (${decodeURIComponent(new URL(database.url).username)})`,
      );
      await idle.query('commit');
      expect((await install(asOwner)).functionsReplaced).toBe(true);
      expect((await asOwner.query('show lock_timeout')).rows).toEqual([{ lock_timeout: '0' }]);
    } finally {
      await idle.end();
    }
  });

  test('a copy and a removal', async () => {
    await asOwner.query(`select hartonomous.copy_model('a', 'c')`);
    await asOwner.query(`select hartonomous.remove_model('c')`);
    await asOwner.query(`select hartonomous.remove_model('b')`);
  });

  test('a prune', async () => {
    await asUser.query(ASK, ['a']);
    const { rows } = await asUser.query<{ n: number }>(`select hartonomous.prune_runs('-1 day')::integer as n`);
    expect(rows[0]!.n).toBeGreaterThan(0);
  });

  test('with the process id of an ingest that ended and the lock of its turn', async () => {
    const lookalike = await connect(outsider);
    try {
      const pid = (await lookalike.query<{ pid: number }>('select pg_backend_pid() as pid, pg_advisory_lock(77)'))
        .rows[0]!.pid;
      await asOwner.query(`insert into hartonomous.turns (name, pid, lock_key) values ('models', $1, 77)`, [pid]);
      expect((await asOwner.query(`select hartonomous._has_turn('models') as turn`)).rows).toEqual([{ turn: false }]);
      await ingestFile(database.url, FILE, 'd');
    } finally {
      await lookalike.end();
    }
  });
});

test('a turn is seen in a transaction that looked at the sessions before its session came', async () => {
  await asOwner.query('begin; select from pg_stat_activity');
  const later = await connect();
  try {
    await later.query(`select hartonomous._take_turn('models')`);
    expect((await asOwner.query(`select hartonomous._has_turn('models', true) as turn`)).rows).toEqual([
      { turn: true },
    ]);
  } finally {
    await asOwner.query('rollback');
    await later.end();
  }
});
