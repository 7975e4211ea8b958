/** Upgrades of a database in use, with a second program of another version: a copy of the built one, changed. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const ROOT = packageRoot();
const ANSWER = `select hartonomous.generate('The quick', options => '{"raw": true, "temperature": 0, "num_predict": 8}') as text`;
/** Build of the bundle in this session's isolate of the owner, as whom the functions run. */
const LOADED_BUILD = `set role hartonomous_owner;
  do $$ plv8.elog(NOTICE, globalThis.hartonomous?.id ?? 'none') $$ language plv8; reset role`;
const NEXT_BUILD = 'feedfacefeedface';
const migrations = readdirSync(join(ROOT, 'migrations')).filter((name) => name.endsWith('.sql'));

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-upgrade-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let database: TestDatabase;
beforeEach(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
});
afterEach(() => database.drop());

/** A program of the next version: migrations more than ours, by name and text, and another build of the functions. */
function nextProgram(name: string, more: Record<string, string>, functions = ''): string {
  const root = join(folder, name);
  mkdirSync(root);
  cpSync(join(ROOT, 'package.json'), join(root, 'package.json'));
  cpSync(join(ROOT, 'migrations'), join(root, 'migrations'), { recursive: true });
  cpSync(join(ROOT, 'dist'), join(root, 'dist'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  Object.entries(more).forEach(([title, sql], i) =>
    writeFileSync(join(root, 'migrations', `${String(migrations.length + 1 + i).padStart(5, '0')}_${title}.sql`), sql),
  );
  const bundle = join(root, 'dist/hartonomous.sql');
  const sql = readFileSync(bundle, 'utf8');
  const id = /^-- hartonomous build ([0-9a-f]{16});/.exec(sql)![1]!;
  writeFileSync(bundle, `${sql.replaceAll(id, NEXT_BUILD)}\n${functions}`);
  return root;
}

function installWith(root: string): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const env = { ...process.env, DATABASE_URL: database.url };
    execFile(process.execPath, [join(root, 'dist/cli/main.js'), 'install'], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: stdout + stderr }),
    );
  });
}

async function session(): Promise<{ client: pg.Client; build(): Promise<string> }> {
  const client = new pg.Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
  let notice = '';
  client.on('notice', (message) => (notice = message.message ?? ''));
  await client.query(`select hartonomous.tokenize('a')`); // has the bundle, also where an engine answers for it
  return { client, build: async () => (await client.query(LOADED_BUILD), notice) };
}

async function column(sql: string): Promise<unknown[]> {
  return (await database.pool.query({ text: sql, rowMode: 'array' })).rows.map((row) => (row as unknown[])[0]);
}

test('sessions at work go on, and take the new functions and bundle at their next call', async () => {
  const { client, build } = await session();
  const before = (await client.query(ANSWER)).rows;
  const old = await build();
  expect(old).toMatch(/^[0-9a-f]{16}$/);
  // Others ask all the time while the upgrade runs.
  let upgrading = true;
  const answers: unknown[] = [];
  const busy = Promise.all(
    [0, 1].map(async () => {
      const other = new pg.Client({ connectionString: database.url });
      await other.connect();
      while (upgrading) answers.push((await other.query(ANSWER)).rows);
      await other.end();
    }),
  );
  const next = nextProgram('next', {
    more: `set local role hartonomous_owner; create table hartonomous.more (); comment on table hartonomous.more is 'more'; reset role;`,
  });
  const installed = await installWith(next).finally(() => (upgrading = false));
  await busy;
  expect(installed.code, installed.output).toBe(0);
  expect(installed.output).toMatch(/1 migrations? applied, functions replaced/);
  expect(answers.length).toBeGreaterThan(0);
  for (const answer of answers) expect(answer).toEqual(before);
  expect(await build()).toBe(old);
  expect((await client.query(ANSWER)).rows).toEqual(before);
  expect(await build()).toBe(NEXT_BUILD);
  expect(await column('select hartonomous.build_id()')).toEqual([NEXT_BUILD]);
  await client.end();

  // The program of before knows one migration less.
  const back = await installWith(ROOT);
  expect(back.code).toBe(3);
  expect(back.output).toContain(
    `the database has schema version ${migrations.length + 1}, this program knows ${migrations.length}`,
  );
  expect(await column('select hartonomous.build_id()')).toEqual([NEXT_BUILD]);
  expect(await column('select count(*)::int from hartonomous.check_integrity()')).toEqual([0]);
});

test('a migration that fails leaves those before it, and the old functions at work', async () => {
  const broken = nextProgram('broken', {
    first: `set local role hartonomous_owner; create table hartonomous.first (); comment on table hartonomous.first is 'first'; reset role;`,
    second: `set local role hartonomous_owner; create table hartonomous.second (); select 1 / 0; reset role;`,
  });
  const { client, build } = await session();
  const before = (await client.query(ANSWER)).rows;
  const old = await build();
  const failed = await installWith(broken);
  expect(failed.code).toBe(1);
  expect(failed.output).toMatch(/division by zero/);
  expect(await column('select max(id) from hartonomous.migrations')).toEqual([migrations.length + 1]);
  expect(await column(`select to_regclass('hartonomous.second') is null`)).toEqual([true]);
  expect(await column('select hartonomous.build_id()')).toEqual([old]);
  expect((await client.query(ANSWER)).rows).toEqual(before);
  await client.end();
  // Mended, it goes on from there.
  writeFileSync(
    join(broken, 'migrations', `${String(migrations.length + 2).padStart(5, '0')}_second.sql`),
    `set local role hartonomous_owner; create table hartonomous.second (); reset role;`,
  );
  const mended = await installWith(broken);
  expect(mended.code, mended.output).toBe(0);
  expect(mended.output).toMatch(/1 migrations? applied, functions replaced/);
});

test('functions that cannot be replaced stay as they were, all of them', async () => {
  const broken = nextProgram('functions', {}, 'select 1 / 0;');
  const [old] = await column('select hartonomous.build_id()');
  const failed = await installWith(broken);
  expect(failed.code).toBe(1);
  expect(failed.output).toMatch(/division by zero/);
  expect(await column('select hartonomous.build_id()')).toEqual([old]);
  expect((await column(ANSWER)).length).toBe(1);
});

test('functions of before under other signatures are dropped', async () => {
  await database.pool.query(`
    set role hartonomous_owner;
    drop function hartonomous.close_session(bigint);
    create function hartonomous.close_session(session_id bigint) returns jsonb language sql as $$ select null::jsonb $$;
    create function hartonomous.generate(prompt text, model text default null, options jsonb default '{}') returns text
        language sql as $$ select 'old' $$;
    reset role`);
  const installed = await installWith(nextProgram('signatures', {}));
  expect(installed.code, installed.output).toBe(0);
  expect(
    await column(`select distinct coalesce(p.proargtypes[array_position(p.proargnames, 'options') - 1]::regtype, p.prorettype::regtype)::text
       from pg_proc p where p.pronamespace = 'hartonomous'::regnamespace and p.proname in ('generate', 'close_session')`),
  ).toEqual(['json']);
});

test('a migration calls nothing that somebody has put into the schema', async () => {
  await database.pool.query(
    `create function hartonomous.pg_has_role(text, text, text) returns boolean language plpgsql as $$ begin raise 'planted'; end $$`,
  );
  const check = `do $$ begin perform pg_has_role('hartonomous_admin', 'hartonomous_user', 'member'); end $$;`;
  const installed = await installWith(nextProgram('planted', { check }));
  expect(installed.code, installed.output).toBe(0);
  expect(installed.output).toContain('function hartonomous.pg_has_role(text,text,text) is not of hartonomous');
});
