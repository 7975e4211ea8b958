/** A database with models, moved: dumped and restored, copied as a whole, renamed. Nothing is ingested again. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, postgresBin } from '../../cli/cluster/cluster.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { install } from '../../cli/install/install.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, EXTENSION, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';
import { startCluster } from './portable-cluster.ts';

const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');
const LLAMA = modelPath('zoo/llama-untied-gqa-f32.gguf');
const ANSWER = `select hartonomous.complete('The quick', 'qwen',
  '{"raw": true, "temperature": 0, "num_predict": 12, "record": true}') ->> 'text' as text`;
const DOCUMENT = readFileSync(new URL('../../docs/reliability.md', import.meta.url), 'utf8');

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-backup-'));
chmodSync(folder, 0o755);
const dump = join(folder, 'models.dump');
const clusters: Cluster[] = [];
let source: TestDatabase;
let expected: unknown[];

/** Run one of PostgreSQL's programs; throws with what it wrote when it fails. */
function run(program: string, args: string[]): string {
  return execFileSync(join(postgresBin(), program), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}

async function withClient<T>(url: string, body: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await body(client);
  } finally {
    await client.end();
  }
}

async function freshCluster(name: string): Promise<Cluster> {
  mkdirSync(join(folder, name));
  const cluster = new Cluster(join(folder, name));
  clusters.push(cluster);
  await startCluster(cluster);
  return cluster;
}

async function newDatabase(cluster: Cluster, name: string): Promise<string> {
  await withClient(cluster.url('postgres'), (admin) =>
    admin.query(`create database ${name} template template0 encoding 'UTF8'`),
  );
  return cluster.url(name);
}

/** Statements of the document's block that follows a heading. */
function recipe(heading: string, language: string): string {
  const after = DOCUMENT.slice(DOCUMENT.indexOf(heading));
  expect(after.startsWith(heading)).toBe(true);
  return new RegExp('```' + language + '\\n([^`]*)```').exec(after)![1]!;
}

/** Everything works where the models are now, without ingesting anything again. */
async function expectWhole(url: string): Promise<void> {
  await withClient(url, async (client) => {
    const rows = async (sql: string): Promise<unknown[]> => (await client.query(sql)).rows as unknown[];
    expect(await rows('select * from hartonomous.check_integrity()')).toEqual([]);
    expect(await rows('select name from hartonomous.model_list')).toEqual([{ name: 'llama' }, { name: 'qwen' }]);
    expect(await rows(ANSWER)).toEqual(expected);
    for (const name of ['qwen', 'llama']) expect((await verify(client, name)).differences).toEqual([]);
    expect(await rows(`select hartonomous.default_model() as name`)).toEqual([{ name: 'qwen' }]);
    // Roles and grants are there, and triggers still count.
    await client.query('set role hartonomous_user');
    expect(await rows(ANSWER)).toEqual(expected);
    await expect(client.query('select * from hartonomous.atoms')).rejects.toThrow(/permission denied/);
    await client.query('reset role');
    await client.query('select hartonomous.remove_model($1)', ['llama']);
    expect(await rows('select * from hartonomous.check_integrity()')).toEqual([]);
    const upgraded = await install(client);
    expect(upgraded).toMatchObject({ migrations: [], functionsReplaced: false });
  });
  expect(await ingestFile(url, QWEN, 'qwen')).toMatchObject({ alreadyThere: true });
  expect((await ingestFile(url, LLAMA, 'llama')).alreadyThere).toBe(false);
}

beforeAll(async () => {
  source = await createDatabase();
  await ingestFile(source.url, QWEN, 'qwen');
  await ingestFile(source.url, LLAMA, 'llama');
  await source.pool.query(`select hartonomous.set_default_model('qwen')`);
  expected = (await source.pool.query(ANSWER)).rows;
  expect((expected as { text: string }[])[0]!.text.length).toBeGreaterThan(0);
  run('pg_dump', ['--format=custom', '--file', dump, source.url]);
});
afterAll(async () => {
  for (const cluster of clusters) cluster.destroy();
  rmSync(folder, { recursive: true, force: true });
  await source.drop();
});

test('pg_dump and pg_restore into another database of the server', async () => {
  const target = await createDatabase({ empty: true });
  try {
    run('pg_restore', ['--exit-on-error', '--dbname', target.url, dump]);
    await expectWhole(target.url);
  } finally {
    await target.drop();
  }
});

test('renaming the database', async () => {
  const database = await createDatabase({ empty: true });
  const renamed = new URL(database.url);
  const name = renamed.pathname.slice(1);
  renamed.pathname += '_renamed';
  try {
    run('pg_restore', ['--exit-on-error', '--dbname', database.url, dump]);
    await withClient(source.url, (client) => client.query(`alter database ${name} rename to ${name}_renamed`));
    await expectWhole(renamed.toString());
  } finally {
    await withClient(source.url, (client) => client.query(`drop database if exists ${name}_renamed with (force)`));
    await database.drop();
  }
});

describe('a fresh server', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await freshCluster('fresh');
  });

  test('refuses a dump while the roles are missing, and takes it after the recipe', async () => {
    const target = await newDatabase(cluster, 'moved');
    expect(() => run('pg_restore', ['--exit-on-error', '--dbname', target, dump])).toThrow(
      /role "hartonomous_owner" does not exist/,
    );
    const again = await newDatabase(cluster, 'moved_again');
    await withClient(again, (client) => client.query(recipe('### Roles', 'sql')));
    run('pg_restore', ['--exit-on-error', '--dbname', again, dump]);
    await expectWhole(again);
  });

  test('whose LANGUAGE plv8 comes from elsewhere takes a dump without its extension', async () => {
    const target = await newDatabase(cluster, 'elsewhere');
    await withClient(target, (client) => client.query(`create extension ${EXTENSION}`));
    const list = run('pg_restore', ['--list', dump])
      .split('\n')
      .filter((line) => !/ EXTENSION .*(?:plv8|hartonomous_v8)/.test(line));
    writeFileSync(join(folder, 'list'), list.join('\n'));
    run('pg_restore', ['--exit-on-error', '--use-list', join(folder, 'list'), '--dbname', target, dump]);
    await expectWhole(target);
  });

  test('pg_basebackup makes another server with the same models', async () => {
    const home = join(folder, 'copy');
    mkdirSync(home);
    run('pg_basebackup', ['--pgdata', join(home, 'data'), '--checkpoint=fast', '--dbname', cluster.url('postgres')]);
    copyFileSync(join(folder, 'fresh/password'), join(home, 'password'));
    const { uid, gid } = statSync(join(folder, 'fresh/data'));
    execFileSync('chown', ['-R', `${uid}:${gid}`, home]);
    const copy = new Cluster(home);
    clusters.push(copy);
    await copy.up();
    await expectWhole(copy.url('moved_again'));
  });
});
