import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { ensureProxy } from '../../cli/install/proxy.ts';
import { hartonomous } from '../cli/program.ts';
import { createDatabase, ingestFile, roleName } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { hasPlproxy, missing, query, Standby, startPrimary } from './servers.ts';

const FILE = modelPath('zoo/llama-untied-gqa-f32.gguf');
const PROMPTS = Array.from({ length: 60 }, (_, i) => `number ${i} of sixty`);
/** Long enough that a node dies in the middle of the batch. */
const OPTIONS = { raw: true, temperature: 0.9, seed: 11, num_predict: 200, num_ctx: 512 };
const CLUSTER = `select * from hartonomous.cluster_generate($1::text[], null, $2)`;

interface Answer {
  ord: number;
  text: string;
  done_reason: string;
  eval_count: number;
  node: string;
}

describe.skipIf(!hasPlproxy() && missing('PL/Proxy'))('a cluster of a primary and two standbys', () => {
  let primary: { cluster: Cluster; url: string };
  let standbys: Standby[];
  let alone: Omit<Answer, 'node'>[];

  beforeAll(async () => {
    primary = await startPrimary();
    await ingestFile(primary.url, FILE, 'zoo');
    const sql = 'select * from hartonomous.generate($1::text[], null, $2) order by ord';
    alone = (await query(primary.url, sql, [PROMPTS, OPTIONS])) as unknown as Omit<Answer, 'node'>[];
    standbys = [await Standby.follow(primary.url), await Standby.follow(primary.url)];
  });

  afterAll(() => {
    for (const standby of standbys) standby.destroy();
    primary.cluster.destroy();
  });

  async function clusterGenerate(options: object = OPTIONS): Promise<{ rows: Answer[]; notices: string[] }> {
    const client = new pg.Client({ connectionString: primary.url });
    const notices: string[] = [];
    client.on('notice', (notice) => notices.push(notice.message ?? ''));
    await client.connect();
    try {
      return { rows: (await client.query<Answer>(CLUSTER, [PROMPTS, options])).rows, notices };
    } finally {
      await client.end();
    }
  }

  const withoutNode = (rows: Answer[]): Omit<Answer, 'node'>[] => rows.map(({ node: _node, ...rest }) => rest);

  test('without nodes says how to add one', async () => {
    await expect(query(primary.url, CLUSTER, [PROMPTS, {}])).rejects.toThrow('the cluster has no nodes');
  });

  test('is put together on the command line', async () => {
    for (const [name, url] of [
      ['first', primary.url],
      ['second', standbys[0]!.url],
      ['third', standbys[1]!.url],
    ] as const) {
      expect(await hartonomous(['cluster', 'add', name, url], { url: primary.url })).toMatchObject({ code: 0 });
    }
    const listed = await hartonomous(['cluster', 'list', '--format', 'json'], { url: primary.url });
    expect(JSON.parse(listed.stdout)).toMatchObject([{ name: 'first' }, { name: 'second' }, { name: 'third' }]);
    const { password } = new URL(primary.url);
    expect(listed.stdout).not.toContain(password);
  });

  test.each([
    [['cluster', 'add', 'first', 'postgres://127.0.0.1/x'], 'node first exists already'],
    [['cluster', 'add', 'fourth', 'postgres://a:b@127.0.0.1/x'], 'another user or password'],
    [['cluster', 'add', 'fourth', 'postgres://a:b@127.0.0.1/'], 'needs a host and a database'],
    [['cluster', 'add', 'fourth', 'not-a-url'], 'needs a host and a database'],
    [['cluster', 'remove', 'nobody'], 'node nobody does not exist'],
  ])('refuses %j', async (args, message) => {
    const result = await hartonomous(args, { url: primary.url });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(message);
  });

  test('answers 60 prompts in order, each as one server alone would, on all three', async () => {
    for (const standby of standbys) await standby.catchUp(primary.url);
    const { rows } = await clusterGenerate();
    expect(withoutNode(rows)).toEqual(alone);
    expect(new Set(rows.map((row) => row.node))).toEqual(new Set(['first', 'second', 'third']));
  });

  test('passes an error of a node on, without blaming the node', async () => {
    const failing = query(primary.url, `select * from hartonomous.cluster_generate(array['x'], 'nobody')`);
    await expect(failing).rejects.toThrow(/^model nobody does not exist$/);
  });

  test('loses and doubles nothing when a node is killed in the middle of the batch', async () => {
    const started = Date.now();
    await clusterGenerate();
    const killAfter = (Date.now() - started) / 3;
    const running = clusterGenerate();
    await new Promise((resolve) => setTimeout(resolve, killAfter));
    standbys[1]?.kill();
    const { rows, notices } = await running;
    expect(withoutNode(rows)).toEqual(alone);
    expect(notices.join('\n')).toContain('a node failed');
    expect(rows.at(-1)?.node).not.toBe('third');
  });

  test('goes on without a node that is down from the start', async () => {
    const { rows } = await clusterGenerate();
    expect(withoutNode(rows)).toEqual(alone);
    expect(new Set(rows.map((row) => row.node))).toEqual(new Set(['first', 'second']));
  });

  test('says so when no node is left', async () => {
    for (const name of ['first', 'second']) await hartonomous(['cluster', 'remove', name], { url: primary.url });
    await expect(clusterGenerate()).rejects.toThrow('none of 1 nodes answers');
    expect(await hartonomous(['cluster', 'remove', 'third'], { url: primary.url })).toMatchObject({ code: 0 });
    expect(await query(primary.url, 'select srvname from pg_foreign_server')).toEqual([]);
  });
});

describe.skipIf(!hasPlproxy() && missing('PL/Proxy'))('nodes that a member of hartonomous_admin adds', () => {
  const HOST = 'host=10.0.0.4 port=5432 dbname=hartonomous';
  const admin = roleName('admin');
  const worker = roleName('worker');
  let database: TestDatabase;
  let client: pg.Client;

  beforeAll(async () => {
    database = await createDatabase();
    await database.createRole(admin, 'hartonomous_admin');
    await database.createRole(worker);
    client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await ensureProxy(client);
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  /** Add in this order, each as the role that it names (null: the superuser), and take all of it back. */
  async function added(...nodes: [role: string | null, ...args: (string | null)[]][]): Promise<void> {
    await client.query('begin');
    try {
      for (const [i, [role, connection, user = null, password = null]] of nodes.entries()) {
        await client.query(role === null ? 'reset session authorization' : `set local session authorization ${role}`);
        await client.query('select hartonomous.cluster_add($1, $2, $3, $4)', [`n${i}`, connection, user, password]);
      }
    } finally {
      await client.query('rollback');
    }
  }

  const SOCKET =
    /^only a superuser may add node n0 unless its connection string begins with a host that is no local socket/;
  test.each([
    ['without a password', HOST, 'x', null, /^only a superuser may add node n0 without a password$/],
    ['with an empty password', HOST, 'x', '', /without a password$/],
    ['without a host', 'dbname=hartonomous', 'x', 'y', SOCKET],
    ['at a socket', 'host=/var/run/postgresql dbname=postgres', 'x', 'y', SOCKET],
    ['at a socket in quotes', `host='/var/run/postgresql'`, 'x', 'y', SOCKET],
    ['at a socket behind a backslash', `host='\\/tmp'`, 'x', 'y', SOCKET],
    ['at an abstract socket', 'host=@run dbname=postgres', 'x', 'y', SOCKET],
    ['at a socket as the second host', 'host=10.0.0.4,/tmp', 'x', 'y', SOCKET],
    ['at no second host', `host='10.0.0.4,'`, 'x', 'y', SOCKET],
    ['at a socket named later', `${HOST} host=/tmp`, 'x', 'y', SOCKET],
    ['at a host within a name', `dbname=' host=10.0.0.4'`, 'x', 'y', SOCKET],
    ['at an address of a URI', 'postgres:///postgres', 'x', 'y', SOCKET],
    ['of a service', `${HOST} service=others`, 'x', 'y', SOCKET],
    ['with a file of passwords', `${HOST} passfile=/tmp/x`, 'x', 'y', SOCKET],
  ])('not %s', async (_what, connection, user, password, message) => {
    await expect(added([admin, connection, user, password])).rejects.toMatchObject({
      code: '42501',
      message: expect.stringMatching(message) as string,
    });
    await added([null, connection, user, password]);
  });

  test('not as another role of this server, which an address of trust would let in', async () => {
    await expect(added([admin, 'host=127.0.0.1', worker, 'x'])).rejects.toMatchObject({
      code: '42501',
      message: `only a superuser may add node n0 as role ${worker} of this server, of which ${admin} is no member`,
    });
  });

  test('over TCP with a password: as itself, as a role of elsewhere, or as the cluster does already', async () => {
    await added([admin, HOST, null, 'x'], [admin, `host='::1,db.example' connect_timeout=5`, null, 'x']);
    await added([admin, HOST, 'somebody_elsewhere', 'x']);
    await added([null, HOST, worker, 'secret'], [admin, HOST, null, 'secret'], [admin, HOST, worker, 'secret']);
    await expect(added([null, HOST, worker, 'secret'], [admin, HOST])).rejects.toThrow(/n1 without a password$/);
  });
});
