/** What somebody with the owner's rights may leave behind: `doctor` names it, `install` puts it right, and neither calls it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { install } from '../../cli/install/install.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const stranger = roleName('stranger');
const PASSWORD = 'secret';
let database: TestDatabase;

/** A trap, and the table in which whoever runs into it is written down. */
const SPRING = `create table public.caught (who text); grant insert on public.caught to public;
     create function public.spring() returns void language plpgsql as $$ begin insert into public.caught values (current_user); end $$;
     create function public.spring_trigger() returns trigger language plpgsql as $$ begin perform public.spring(); return null; end $$`;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(stranger);
  await database.pool.query(SPRING);
});
afterAll(() => database.drop());

interface Told {
  code: number;
  stdout: string;
  stderr: string;
}

function command(args: string[], url: string): Promise<Told> {
  return new Promise((resolve) => {
    const env = { ...process.env, DATABASE_URL: url };
    execFile(process.execPath, [join(packageRoot(), 'dist/cli/main.js'), ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

async function doctor(url = database.url): Promise<{ check: string; ok: boolean; found: string }[]> {
  return JSON.parse((await command(['doctor', '--format', 'json'], url)).stdout) as never;
}

/** What doctor says of definitions, and whether all of it is well. */
async function definitions(url?: string): Promise<{ ok: boolean; found: string[] }> {
  const findings = (await doctor(url)).filter(({ check }) => check === 'definitions');
  return { ok: findings.every(({ ok }) => ok), found: findings.map(({ found }) => found) };
}

async function repaired(url = database.url): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await install(client)).mended;
  } finally {
    await client.end();
  }
}

/** Functions that call the trap, and whether it was sprung. */
const TRAP = `begin perform public.spring(); return null; end`;

/** A function that does no harm while something is made of it, and does later. */
const CONSTANT = `create or replace function public.constant(text) returns text language plpgsql immutable as $$ begin return $1; end $$;`;
const SPRUNG = `create or replace function public.constant(text) returns text language plpgsql immutable as $$ ${TRAP} $$;`;

const KINDS: [string, string, RegExp][] = [
  [
    'the body of a function that doctor calls',
    `create or replace function hartonomous.default_model() returns text language plpgsql stable as $$ ${TRAP} $$`,
    /function hartonomous\.default_model\(\) differs/,
  ],
  [
    'a function that runs as its caller',
    'alter function hartonomous.unload(text) security invoker',
    /function hartonomous\.unload\(text\) differs/,
  ],
  [
    'a label',
    'alter function hartonomous.generate(text, text, json) parallel safe immutable',
    /function hartonomous\.generate\(text,text,json\) differs/,
  ],
  [
    'the settings of a function',
    'alter function hartonomous.tokenize(text, text, boolean, boolean) reset all',
    /function hartonomous\.tokenize\(.*\) differs/,
  ],
  [
    'the owner of a function',
    `alter function hartonomous.grant_usage(text, boolean) owner to ${stranger}`,
    /owner of function hartonomous\.grant_usage\(text,boolean\) is stranger_\w+ and not hartonomous_owner/,
  ],
  [
    'a right to call',
    `grant execute on function hartonomous.remove_model(text) to public`,
    /grant of execute on function hartonomous\.remove_model\(text\) to public is not of hartonomous/,
  ],
  [
    'a right that is gone',
    `revoke execute on function hartonomous.generate(text, text, json) from hartonomous_user`,
    /grant of execute on function hartonomous\.generate\(text,text,json\) to hartonomous_user is missing/,
  ],
  [
    'a function with a type of its own',
    `drop function hartonomous.build_id();
     create function hartonomous.build_id() returns integer language plpgsql as $$ ${TRAP} $$`,
    /function hartonomous\.build_id\(\) differs/,
  ],
  [
    'a function that is none of ours',
    `create function hartonomous.lower(jsonb) returns text language plpgsql as $$ ${TRAP} $$`,
    /function hartonomous\.lower\(jsonb\) is not of hartonomous/,
  ],
  [
    'a view',
    `alter view hartonomous.run_list rename to run_list_before;
     create view hartonomous.run_list as select * from hartonomous.run_list_before`,
    /view hartonomous\.run_list differs/,
  ],
  ['a view that is gone', `drop view hartonomous.limit_list`, /view hartonomous\.limit_list is missing/],
  [
    'the options of a view',
    `alter view hartonomous.model_list set (security_invoker = true)`,
    /options of view hartonomous\.model_list differs/,
  ],
  [
    'the owner of a view',
    `alter view hartonomous.model_list owner to ${stranger}`,
    /owner of view hartonomous\.model_list is stranger/,
  ],
  [
    'a right to a table',
    `grant select on hartonomous.models to ${stranger}`,
    /grant of select on table hartonomous\.models to stranger_\w+ is not/,
  ],
  [
    'a right to a column',
    `grant select (prompt_ids) on hartonomous.runs to public`,
    /grant of select \(prompt_ids\) on table hartonomous\.runs to public is not/,
  ],
  [
    'the owner of a table',
    `alter table hartonomous.runs owner to ${stranger}`,
    /owner of table hartonomous\.runs is stranger/,
  ],
  [
    'a trigger',
    `create trigger trap after insert or update on hartonomous.settings execute function public.spring_trigger()`,
    /trigger trap on hartonomous\.settings is not of hartonomous/,
  ],
  [
    'a trigger on the book of migrations',
    `create trigger trap after insert or update on hartonomous.migrations execute function public.spring_trigger()`,
    /trigger trap on hartonomous\.migrations is not of hartonomous/,
  ],
  [
    'an index of the book, whose expression every query of it evaluates',
    `${CONSTANT} create index trap_of_book on hartonomous.migrations (public.constant('x')); ${SPRUNG}`,
    /index hartonomous\.trap_of_book is not of hartonomous/,
  ],
  [
    'statistics of the book, whose expressions do the same',
    `${CONSTANT} create statistics public.trap on (public.constant('x')), id from hartonomous.migrations; ${SPRUNG}`,
    /statistics public\.trap of table hartonomous\.migrations is not of hartonomous/,
  ],
  [
    'a trigger that is gone',
    `drop trigger count_inserted on hartonomous.tokens`,
    /trigger count_inserted on hartonomous\.tokens is missing/,
  ],
  [
    'a trigger that is off',
    `alter table hartonomous.tokens disable trigger count_deleted`,
    /trigger count_deleted on hartonomous\.tokens differs/,
  ],
  [
    "the body of a trigger's function",
    `create or replace function hartonomous._count_references() returns trigger language plpgsql as $$ ${TRAP} $$`,
    /function hartonomous\._count_references\(\) differs/,
  ],
  [
    'a rule',
    `create rule trap as on insert to hartonomous.settings do also select public.spring()`,
    /rule trap on hartonomous\.settings is not/,
  ],
  [
    'row security',
    `alter table hartonomous.limits enable row level security`,
    /row security of table hartonomous\.limits differs/,
  ],
  [
    'a policy',
    `create policy trap on hartonomous.limits using (public.spring() is null)`,
    /policy trap on hartonomous\.limits is not/,
  ],
  [
    'a default',
    `alter table hartonomous.settings alter comment set default public.spring()::text`,
    /default of column hartonomous\.settings\.comment is not/,
  ],
  [
    'a constraint',
    `alter table hartonomous.limits drop constraint limits_value_check`,
    /constraint limits_value_check of table hartonomous\.limits is missing/,
  ],
  [
    'an index over a function',
    `create function public.key(text) returns text immutable language sql as 'select $1'; create index trap on hartonomous.settings (public.key(name))`,
    /index hartonomous\.trap is not/,
  ],
  [
    'a child of a table',
    `create table public.child () inherits (hartonomous.limits)`,
    /child public\.child of table hartonomous\.limits is not/,
  ],
  [
    'the owner of the schema',
    `alter schema hartonomous owner to ${stranger}`,
    /owner of schema hartonomous is stranger/,
  ],
  [
    'a right to the schema',
    `grant create on schema hartonomous to hartonomous_user`,
    /grant of create on schema hartonomous to hartonomous_user is not/,
  ],
  [
    'an operator',
    `create operator hartonomous.=== (leftarg = text, rightarg = text, function = texteq)`,
    /operator hartonomous\.===\(text,text\) is not/,
  ],
  [
    'a cast',
    `create function public.word(hartonomous.atom_kind) returns text language sql as 'select null::text'; create cast (hartonomous.atom_kind as text) with function public.word(hartonomous.atom_kind) as implicit`,
    /cast hartonomous\.atom_kind as text is not/,
  ],
  [
    'rights of what is yet to be made',
    `alter default privileges for role hartonomous_owner in schema hartonomous grant execute on functions to ${stranger}`,
    /default privilege of execute for stranger_\w+ on functions is not/,
  ],
  ['another extension', `create extension tablefunc schema hartonomous`, /extension tablefunc is not of hartonomous/],
];

const WELL = { ok: true, found: ['as installed'] };

describe('doctor names and install puts right', () => {
  let named: string[];
  let mended: string[];
  beforeAll(async () => {
    expect(await definitions()).toEqual(WELL);
    for (const [, sql] of KINDS) await database.pool.query(sql);
    await database.pool.query('create table hartonomous.notes as select 1 as n');
    named = (await definitions()).found;
    mended = await repaired();
  });

  test.each(KINDS)('%s', (_kind, _sql, name) => {
    expect(named).toContainEqual(expect.stringMatching(name));
    expect(mended).toContainEqual(expect.stringMatching(name));
  });

  test('all of it, without having run any of it', async () => {
    expect(await definitions()).toEqual(WELL);
    expect((await database.pool.query('select * from public.caught')).rows).toEqual([]);
    expect((await database.pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
    expect(await repaired()).toEqual([]);
  });

  test('a table of somebody else, which is moved and not lost', async () => {
    expect(mended).toContain('table hartonomous.notes is not of hartonomous');
    expect((await database.pool.query('select n from public.notes')).rows).toEqual([{ n: 1 }]);
  });

  test('and says so where it cannot: a column that is gone', async () => {
    await database.pool.query('alter table hartonomous.limits rename value to amount');
    await expect(repaired()).rejects.toThrow(/could not put right: .*column hartonomous\.limits\.value/);
    await database.pool.query('alter table hartonomous.limits rename amount to value');
  });
});

test('an upgrade of what somebody has changed runs none of it either', async () => {
  await database.pool.query(`update hartonomous.settings set value = '"older"' where name = 'build_id'`);
  await database.pool.query(
    `create trigger trap after insert or update on hartonomous.settings execute function public.spring_trigger()`,
  );
  expect(await repaired()).toContain('trigger trap on hartonomous.settings is not of hartonomous');
  expect((await database.pool.query('select * from public.caught')).rows).toEqual([]);
  expect(await definitions()).toEqual(WELL);
});

describe('a role that may not make the schema anew', () => {
  const admin = roleName('admin');
  let url: string;
  beforeAll(async () => {
    await database.createRole(admin, 'hartonomous_admin');
    await database.pool.query(`alter role ${admin} login password '${PASSWORD}'`);
    const own = new URL(database.url);
    own.username = admin;
    own.password = PASSWORD;
    url = own.toString();
  });

  test('has bodies and owners compared by doctor', async () => {
    const well = `bodies and owners as installed; no more was compared: role ${admin} is not a member of hartonomous_owner`;
    expect(await definitions(url)).toEqual({ ok: true, found: [well] });
    expect((await doctor(url)).map(({ check }) => check)).toContain('integrity');
    await database.pool.query(
      `create or replace function hartonomous.default_model() returns text language plpgsql stable as $$ ${TRAP} $$`,
    );
    expect(await definitions(url)).toEqual({ ok: false, found: ['function hartonomous.default_model() differs'] });
    expect((await database.pool.query('select * from public.caught')).rows).toEqual([]);
    await repaired();
    expect((await definitions(url)).ok).toBe(true);
  });
});

describe('what is read first is an ordinary table, or nothing is read', () => {
  test.each([
    ['migrations', 'select id, name, hash || public.trap() as hash, executed_at from hartonomous.was_here'],
    ['settings', 'select name, to_jsonb(public.trap()) as value, comment from hartonomous.was_here'],
  ])('a view in the place of %s', async (table, view) => {
    await database.pool.query(
      `create or replace function public.trap() returns text language plpgsql as $$ begin perform public.spring(); return ''; end $$;
       alter table hartonomous.${table} rename to was_here; create view hartonomous.${table} as ${view};
       alter view hartonomous.${table} owner to hartonomous_owner`,
    );
    const message = `hartonomous.${table} is no table`;
    await expect(repaired()).rejects.toThrow(message);
    expect((await doctor()).filter(({ ok }) => !ok)).toMatchObject([{ check: 'schema', found: message }]);
    expect((await command(['list'], database.url)).stderr).toContain(message);
    expect((await database.pool.query('select * from public.caught')).rows).toEqual([]);
    await database.pool.query(`drop view hartonomous.${table}; alter table hartonomous.was_here rename to ${table}`);
    expect(await definitions()).toEqual(WELL);
  });

  test('a table of somebody else in the place of the book', async () => {
    await database.pool.query(`alter table hartonomous.migrations owner to ${stranger}`);
    const message = `table hartonomous.migrations is owned by ${stranger} and not hartonomous_owner`;
    await expect(repaired()).rejects.toThrow(message);
    expect((await doctor()).map(({ found }) => found)).toContain(message);
    await database.pool.query('alter table hartonomous.migrations owner to hartonomous_owner');
  });

  test('a schema of somebody else is put right by install, and no other command goes on there', async () => {
    await database.pool.query(`alter schema hartonomous owner to ${stranger}`);
    const { code, stderr } = await command(['status'], database.url);
    expect(code).toBe(3);
    expect(stderr).toContain(`schema hartonomous is owned by ${stranger} and not hartonomous_owner`);
    expect(await repaired()).toEqual([`owner of schema hartonomous is ${stranger} and not hartonomous_owner`]);
    expect((await command(['status'], database.url)).code).toBe(0);
  });
});

describe('a schema that somebody made before the first install', () => {
  const early = roleName('early');
  let empty: TestDatabase;
  beforeAll(async () => {
    empty = await createDatabase({ empty: true });
    await empty.createRole(early);
    await empty.pool.query(
      `${SPRING}; grant create on database ${new URL(empty.url).pathname.slice(1)} to ${early};
       create function public.trap() returns text language plpgsql as $$ begin perform public.spring(); return ''; end $$`,
    );
  });
  afterAll(() => empty.drop());

  async function asEarly(sql: string): Promise<void> {
    await empty.pool.query(
      `drop schema if exists hartonomous cascade; set role ${early}; create schema hartonomous; ${sql}; reset role`,
    );
  }

  test.each([
    [
      `create view hartonomous.migrations as select 1 as id, 'n'::varchar as name, public.trap() as hash`,
      /^hartonomous\.migrations is no table$/,
    ],
    [
      `create view hartonomous.settings as select 'parallel_plans' as name, to_jsonb(public.trap()) as value`,
      /^hartonomous\.settings is no table$/,
    ],
    [
      `create table hartonomous.migrations (id integer, name varchar(100), hash varchar(40))`,
      /^table hartonomous\.migrations is owned by early_\w+ and not hartonomous_owner$/,
    ],
    [
      `create function hartonomous.pg_has_role(text, text, text) returns boolean language plpgsql as $$ ${TRAP} $$`,
      /^schema hartonomous is no install's and holds function hartonomous\.pg_has_role\(text,text,text\)$/,
    ],
    [
      `create view hartonomous.models as select public.trap(); create view hartonomous.model_list as select public.trap() as name;
       create type hartonomous.kind as enum (); create operator hartonomous.=== (leftarg = text, rightarg = text, function = texteq)`,
      /^schema hartonomous is no install's and holds .*type hartonomous\.kind, view hartonomous\.models, view hartonomous\.model_list, operator hartonomous\.===\(text,text\)$/,
    ],
  ])('is refused with what it holds, and none of it runs: %s', async (sql, message) => {
    await asEarly(sql);
    await expect(repaired(empty.url)).rejects.toThrow(message);
    for (const args of [['doctor'], ['list'], ['status']])
      expect((await command(args, empty.url)).code, args.join(' ')).not.toBe(0);
    expect((await empty.pool.query('select * from public.caught')).rows).toEqual([]);
  });

  test('is taken when it is empty, with none of the rights that its maker gave', async () => {
    await asEarly(
      `grant create on schema hartonomous to public; alter default privileges in schema hartonomous grant execute on functions to ${early}`,
    );
    expect(await repaired(empty.url)).toEqual([`owner of schema hartonomous is ${early} and not hartonomous_owner`]);
    expect(await definitions(empty.url)).toEqual(WELL);
    expect((await empty.pool.query('select * from public.caught')).rows).toEqual([]);
  });
});

test('operators that others put on the search path run in no ingest, verify or export', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hartonomous-path-'));
  const caught = async (): Promise<unknown[]> =>
    (await database.pool.query('delete from public.caught returning who')).rows;
  await database.pool.query(`delete from public.caught; grant create on schema public to ${stranger};
    grant hartonomous_user to ${stranger}; set role ${stranger};
    create function public.alike(hartonomous.atom_kind, hartonomous.atom_kind) returns boolean language plpgsql as
      $$ begin perform public.spring(); return $1::text = $2::text; end $$;
    create operator public.= (leftarg = hartonomous.atom_kind, rightarg = hartonomous.atom_kind, function = public.alike);
    reset role`);
  try {
    await database.pool.query(`select 'tile'::hartonomous.atom_kind = 'tile'::hartonomous.atom_kind`);
    expect(await caught()).toHaveLength(1);
    for (const args of [
      ['ingest', modelPath('zoo/qwen2-tiny-f32.gguf'), '--name', 'tiny'],
      ['verify', 'tiny'],
      ['export', 'tiny', join(folder, 'tiny.gguf')],
    ])
      expect(await command(args, database.url)).toMatchObject({ code: 0 });
    expect(await caught()).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
    await database.pool.query(`drop operator public.= (hartonomous.atom_kind, hartonomous.atom_kind);
      drop function public.alike; revoke create on schema public from ${stranger}; revoke hartonomous_user from ${stranger}`);
  }
});
