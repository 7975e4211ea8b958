/** Weights that backends share: who publishes, who maps, and what happens when a segment is damaged, in the way or gone. */
import { mkdtempSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, runServerProgram, serverUser } from '../../cli/cluster/cluster.ts';
import { install } from '../../cli/install/install.ts';
import { modelPath } from '../golden/model-files.ts';
import { SpreadModel } from '../unit/spread-model.ts';
import { ingestFile, lacksOwn } from './harness.ts';

const FILE = modelPath('llama-260k/llama-260k-q8_0.gguf');
const ASK = `select hartonomous.generate('Once upon a time', 'stories', '{"raw": true, "num_predict": 60, "temperature": 0}') as text`;
/** A model of more than a megabyte. */
const LARGER = '../../../models/tiny/hartonomous-tiny-q8_0';
const FOLDER = 'pgsql_tmp_hartonomous_v8';

let home: string;
let cluster: Cluster;
let answer: string;
const clients: pg.Client[] = [];

async function session(database = 'hartonomous'): Promise<pg.Client & { processID: number }> {
  const client = new pg.Client({ connectionString: cluster.url(database) }) as pg.Client & { processID: number };
  client.on('error', () => undefined);
  await client.connect();
  clients.push(client);
  return client;
}

async function ask(client: pg.Client): Promise<string> {
  return (await client.query<{ text: string }>(ASK)).rows[0]!.text;
}

async function sharedBytes(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ n: string }>('select shared_bytes as n from hartonomous.loaded_models');
  return Number(rows[0]?.n ?? 0);
}

/** What lies in the folder, but for the file whose bytes stand for the server's cores. */
async function files(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ file: string }>(
    `select file from pg_ls_dir('${FOLDER}') as file where file <> '.cores' order by file`,
  );
  return rows.map((row) => row.file);
}

async function segments(client: pg.Client): Promise<string[]> {
  return (await files(client)).filter((file) => /^[0-9a-f]{64}_[0-9a-f]{8}$/.test(file));
}

/** A shell command in the folder, as the server's user. */
async function damage(client: pg.Client, command: string): Promise<void> {
  const text = `cat > /dev/null; cd ${FOLDER} && ${command}`;
  await client.query(`copy (select 1) to program ${client.escapeLiteral(text)}`);
}

/** What the kernel says of the mapping of segments in a backend, kilobytes by field; one object for each mapping. */
async function mappings(client: pg.Client): Promise<Record<string, number>[]> {
  const { rows } = await client.query<{ text: string }>(`select pg_read_file('/proc/self/smaps') as text`);
  return rows[0]!.text
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .filter((entry) => entry.split('\n')[0]!.includes(`${FOLDER}/`))
    .map((entry) => Object.fromEntries([...entry.matchAll(/^(\w+): +(\d+) kB$/gm)].map((m) => [m[1]!, Number(m[2])])));
}

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'hartonomous-segments-'));
  const { chmodSync, chownSync } = await import('node:fs');
  chmodSync(home, 0o755);
  cluster = new Cluster(join(home, 'cluster'));
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) chownSync(home, uid, gid);
  await cluster.up();
  const admin = await session();
  await install(admin);
  await ingestFile(cluster.url(), FILE, 'stories');
  await admin.query(`create role plain login`);
  await admin.query('grant hartonomous_user to plain');
  const alone = await session();
  await alone.query('set hartonomous_v8.extras = off');
  answer = await ask(alone);
  expect(await sharedBytes(alone)).toBe(0);
});

afterAll(async () => {
  for (const client of clients) await client.end().catch(() => undefined);
  cluster.down();
  await rm(home, { recursive: true, force: true });
});

describe.skipIf(lacksOwn('segments'))('segments', () => {
  test('the first backend publishes, the second maps, and both answer as one with a copy of its own', async () => {
    const [one, two] = [await session(), await session()];
    expect(await ask(one)).toBe(answer);
    expect(await segments(one)).toHaveLength(1);
    expect(await ask(two)).toBe(answer);
    expect(await segments(one)).toHaveLength(1);
    expect(await sharedBytes(one)).toBeGreaterThan(200_000);
    expect(await sharedBytes(two)).toBe(await sharedBytes(one));
    const { rows } = await one.query('select models, published_in from hartonomous.segment_list');
    expect(rows).toEqual([{ models: ['stories'], published_in: 'hartonomous' }]);
  });

  test('it stays one read-only mapping of which no page is private, however long the text grows', async () => {
    const client = await session();
    const { rows } = await client.query<{ n: number }>(
      `select (hartonomous.complete('Once', 'stories', '{"raw": true, "num_predict": 500, "temperature": 0, "stop": []}') ->> 'eval_count')::integer as n`,
    );
    expect(rows[0]!.n).toBeGreaterThan(100);
    const [mapping, ...others] = await mappings(client);
    expect(others).toEqual([]);
    expect(mapping!.Size! * 1024).toBe(await sharedBytes(client));
    expect(mapping).toMatchObject({ Private_Dirty: 0, Anonymous: 0 });
  });

  test('a model spread over several memories has one for each; none where the budget is less than all; where one is gone or of another spread, all are made again', async () => {
    const admin = await session();
    const limit = new SpreadModel('llama-260k/llama-260k-q8_0').limits()[0]!;
    const setting = `insert into hartonomous.settings (name, value) values ('max_wasm_memory_bytes', to_jsonb($1::bigint))`;
    await admin.query(setting, [limit]);
    const published = await session();
    expect(await ask(published)).toBe(answer);
    const { rows } = await published.query<{ memories: number }>('select memories from hartonomous.loaded_models');
    const { memories } = rows[0]!;
    expect(memories).toBeGreaterThan(2);
    expect(await segments(admin)).toHaveLength(memories);
    const mapped = await session();
    expect(await ask(mapped)).toBe(answer);
    expect(await sharedBytes(mapped)).toBe(await sharedBytes(published));
    const found = await mappings(mapped);
    expect(found).toHaveLength(memories);
    expect(found.reduce((sum, { Size: size }) => sum + size! * 1024, 0)).toBe(await sharedBytes(mapped));
    for (const mapping of found) expect(mapping).toMatchObject({ Private_Dirty: 0, Anonymous: 0 });

    await damage(admin, `rm ${(await segments(admin))[1]}`);
    const again = await session();
    expect(await ask(again)).toBe(answer);
    expect(await sharedBytes(again)).toBe(await sharedBytes(published));
    expect(await segments(admin)).toHaveLength(memories);

    await ingestFile(cluster.url(), modelPath(`${LARGER}.gguf`), 'larger');
    await admin.query(
      `update hartonomous.settings set value = to_jsonb($1::bigint) where name = 'max_wasm_memory_bytes'`,
      [new SpreadModel(LARGER).limits()[0]],
    );
    const bounded = await session();
    await bounded.query(`set hartonomous_v8.segment_budget = '1MB'`);
    const before = await segments(admin);
    await bounded.query('select hartonomous.logits(array[1], $1)', ['larger']);
    const { rows: larger } = await bounded.query(
      'select memories > 1 as spread, shared_bytes::integer from hartonomous.loaded_models',
    );
    expect(larger).toEqual([{ spread: true, shared_bytes: 0 }]);
    expect(await segments(admin)).toEqual(before);
    await admin.query(`select hartonomous.remove_model('larger')`);

    await admin.query(`delete from hartonomous.settings where name = 'max_wasm_memory_bytes'`);
    const whole = await session();
    expect(await ask(whole)).toBe(answer);
    expect(await mappings(whole)).toHaveLength(1);
    expect(await ask(mapped)).toBe(answer);
    await damage(admin, 'rm -f *');
    expect(await ask(await session())).toBe(answer);
  });

  test('many backends that come at once get one segment between them', async () => {
    const admin = await session();
    await damage(admin, 'rm -f *');
    const together = await Promise.all(Array.from({ length: 6 }, () => session()));
    expect(await Promise.all(together.map(ask))).toEqual(together.map(() => answer));
    expect(await segments(admin)).toHaveLength(1);
    for (const client of together) expect(await sharedBytes(client)).toBeGreaterThan(0);
  });

  test.each([
    [
      'a flipped byte',
      'for f in $(ls | grep -v swept); do printf x | dd of=$f bs=1 seek=60000 conv=notrunc 2>/dev/null; done; rm -f *.checked',
    ],
    [
      'a damaged header',
      'for f in $(ls | grep -v swept); do printf x | dd of=$f bs=1 seek=100 conv=notrunc 2>/dev/null; done',
    ],
    ['a file cut short', 'truncate -s 50000 $(ls | grep -v "checked\\|swept")'],
    ['an empty file', 'for f in $(ls | grep -v swept); do : > $f; done'],
    ['another layout', 'for f in $(ls | grep -v "checked\\|swept"); do mv $f $(echo $f | cut -c1-65)00000001; done'],
  ])('%s is noticed, and the segment is made again', async (_what, command) => {
    const admin = await session();
    await damage(admin, command);
    const client = await session();
    expect(await ask(client)).toBe(answer);
    expect(await sharedBytes(client)).toBeGreaterThan(0);
    await client.query('select hartonomous._sweep_segments()');
    expect(await segments(admin)).toHaveLength(1);
    expect((await admin.query('select whole from hartonomous._check_segments()')).rows).toEqual([{ whole: true }]);
  });

  test.each([
    ['pipe', 'mkfifo -m 666'],
    ['link', 'ln -s ../victim'],
  ])(
    'a %s in place of each file is refused at once, and nothing is read or written through it',
    async (_what, make) => {
      const admin = await session();
      await damage(admin, 'echo kept > ../victim');
      const [name] = await segments(admin);
      for (const place of [name!, `${name}.checked`, 'swept', `${name}.publisher`, '.cores', 'unknown']) {
        await damage(admin, `rm -f ${name} ${place} && ${make} ${place}`);
        const client = await session();
        expect(await ask(client), place).toBe(answer);
        expect(await sharedBytes(client), place).toBeGreaterThan(0);
      }
      await admin.query('select * from hartonomous.segment_list');
      await admin.query('select hartonomous._sweep_segments()');
      await damage(admin, 'test -z "$(find . ! -name . ! -name .cores ! -type f)"');
      expect(await segments(admin)).toEqual([name]);
      const { rows } = await admin.query(`select pg_read_file('victim') as text`);
      expect(rows).toEqual([{ text: 'kept\n' }]);
      await damage(admin, 'rm -f .cores');
    },
  );

  test('a backend that publishes nothing keeps nobody waiting: not after a rollback to a savepoint, nor when it resigns', async () => {
    const [one, two] = [await session(), await session()];
    await one.query(`
      create function hartonomous.test_elect() returns boolean language plv8 security definer
      as $$ return plv8.segments.elect('${'ab'.repeat(32)}', 1); $$;
      create function hartonomous.test_resign() returns void language plv8 security definer
      as $$ plv8.segments.resign(); $$;
      alter function hartonomous.test_elect() owner to hartonomous_owner;
      alter function hartonomous.test_resign() owner to hartonomous_owner;
    `);
    try {
      const elect = async (client: pg.Client): Promise<boolean> =>
        (await client.query<{ mine: boolean }>('select hartonomous.test_elect() as mine')).rows[0]!.mine;
      for (const end of ['rollback to a', 'select hartonomous.test_resign()']) {
        await one.query('begin; savepoint a');
        expect(await elect(one)).toBe(true);
        expect(await elect(two)).toBe(false);
        await one.query(end);
        expect(await elect(two), end).toBe(true);
        await one.query('rollback');
      }
    } finally {
      await one.query('drop function hartonomous.test_elect(), hartonomous.test_resign()');
    }
  });

  test('a disk that is full leaves nothing behind, and the model answers from memory of its own', async () => {
    const client = await session();
    await client.query('select hartonomous._drop_segments(repeat($1, 64))', ['0']);
    await damage(client, 'rm -f *');
    await damage(client, `prlimit --pid ${client.processID} --fsize=100000:unlimited`);
    expect(await ask(client)).toBe(answer);
    expect(await sharedBytes(client)).toBe(0);
    await damage(client, `prlimit --pid ${client.processID} --fsize=unlimited`);
    expect((await files(client)).filter((file) => file !== 'swept')).toEqual([]);
  });

  test('the setting switches it off', async () => {
    const client = await session();
    await client.query('set hartonomous_v8.segment_budget = 0');
    expect(await ask(client)).toBe(answer);
    expect(await sharedBytes(client)).toBe(0);
    expect((await client.query('select * from hartonomous.segment_list')).rows).toEqual([]);
  });

  test('two databases share; one that is dropped leaves a segment that a sweep removes', async () => {
    const admin = await session();
    await admin.query('create database second');
    const second = await session('second');
    await install(second);
    await ingestFile(cluster.url('second'), FILE, 'other-name');
    const there = await session('second');
    const { rows } = await there.query<{ text: string }>(ASK.replace('stories', 'other-name'));
    expect(rows[0]!.text).toBe(answer);
    expect(await sharedBytes(there)).toBeGreaterThan(0);
    const here = await session();
    expect(await ask(here)).toBe(answer);
    expect(await segments(admin)).toHaveLength(1);
    await second.end();
    await there.end();
    await admin.query('drop database second');
    expect(await segments(admin)).toHaveLength(1);
    await admin.query('select hartonomous._sweep_segments()');
    expect(await segments(admin)).toEqual([]);
    expect(await ask(here)).toBe(answer);
    expect(await ask(await session())).toBe(answer);
    expect(await segments(admin)).toHaveLength(1);
  });

  test('a model removed while others generate: they finish as they began, and its segment is gone', async () => {
    const [generating, admin] = [await session(), await session()];
    await ask(generating);
    const long = generating.query<{ text: string }>(ASK.replace('60', '200'));
    await sleep(30);
    await admin.query(`select hartonomous.remove_model('stories')`);
    const { rows } = await long;
    expect(rows[0]!.text.startsWith(answer)).toBe(true);
    expect(await segments(admin)).toEqual([]);
    await expect(ask(generating)).rejects.toThrow(/no model has been ingested/);
    await ingestFile(cluster.url(), FILE, 'stories');
    expect(await ask(generating)).toBe(answer);
    expect(await segments(admin)).toHaveLength(1);
  });

  test('a role without rights cannot list, drop, check, publish, map or read one', async () => {
    const client = await session();
    await client.query('grant usage on language plv8 to plain');
    await client.query('set role plain');
    for (const sql of [
      'select * from hartonomous.segment_list',
      'select * from hartonomous._segments()',
      `select hartonomous._drop_segments(repeat('a', 64))`,
      'select * from hartonomous._check_segments()',
      'select hartonomous._sweep_segments()',
      `select pg_read_binary_file('${FOLDER}/swept')`,
      `select pg_ls_dir('${FOLDER}')`,
      'do $$ plv8.segments.list() $$ language plv8',
      `do $$ plv8.segments.open('a'.repeat(64), 0) $$ language plv8`,
      `do $$ plv8.segments.publish('a'.repeat(64), 0, '', new WebAssembly.Memory({ initial: 1 }), 0, 4096) $$ language plv8`,
      `set hartonomous_v8.segment_role = 'plain'`,
      `set hartonomous_v8.segment_budget = '1TB'`,
    ]) {
      await expect(client.query(sql), sql).rejects.toThrow(/permission denied/);
    }
    expect(await ask(client)).toBe(answer);
    await client.query('reset role');
    expect(await sharedBytes(client)).toBeGreaterThan(0);
  });

  test('a base backup does not contain them', async () => {
    const target = join(home, 'backup');
    const url = new URL(cluster.url('postgres'));
    const made = runServerProgram(
      'pg_basebackup',
      ['-D', target, '-h', '127.0.0.1', '-p', url.port, '-U', url.username, '-c', 'fast', '-X', 'none'],
      { PGPASSWORD: url.password },
    );
    expect(made).toMatchObject({ status: 0 });
    expect(readdirSync(target)).toContain('base');
    expect(readdirSync(target)).not.toContain(FOLDER);
    await rm(target, { recursive: true });
  });

  test('a backend killed while it publishes leaves nothing that anybody would use', async () => {
    const admin = await session();
    await admin.query(
      `create function hartonomous.publish_slowly() returns boolean security definer language plv8 as $$
         const memory = new WebAssembly.Memory({ initial: 32768 });
         return plv8.segments.publish('c'.repeat(64), 1, '', memory, 0, 2 ** 31);
       $$;
       alter function hartonomous.publish_slowly() owner to hartonomous_owner`,
    );
    const victim = await session();
    const publishing = victim.query('select hartonomous.publish_slowly()').catch(() => undefined);
    for (let i = 0; i < 400 && !(await files(admin)).some((file) => file.startsWith('c')); i++) await sleep(5);
    process.kill(victim.processID, 'SIGKILL');
    await publishing;
    let after: pg.Client | null = null;
    for (let i = 0; i < 100 && after === null; i++) {
      await sleep(100);
      after = await session().catch(() => null);
    }
    expect(await ask(after!)).toBe(answer);
    expect(await sharedBytes(after!)).toBeGreaterThan(0);
    expect(await segments(after!)).toHaveLength(1);
    await after!.query('select hartonomous._sweep_segments()');
    expect((await files(after!)).filter((file) => file.startsWith('c'))).toEqual([]);
  });
});
