/** What somebody with the owner's rights may leave behind: `doctor` names it, `install` puts it right, and neither calls it. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { install } from '../../cli/install/install.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { createDatabase, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const stranger = roleName('stranger');
const PASSWORD = 'secret';
let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(stranger);
  await database.pool.query(
    `create table public.caught (who text); grant insert on public.caught to public;
     create function public.spring() returns void language plpgsql as $$ begin insert into public.caught values (current_user); end $$;
     create function public.spring_trigger() returns trigger language plpgsql as $$ begin perform public.spring(); return null; end $$`,
  );
});
afterAll(() => database.drop());

function doctor(url = database.url): Promise<{ code: number; found: { check: string; ok: boolean; found: string }[] }> {
  return new Promise((resolve) => {
    const env = { ...process.env, DATABASE_URL: url };
    const args = [join(packageRoot(), 'dist/cli/main.js'), 'doctor', '--format', 'json'];
    execFile(process.execPath, args, { env }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), found: JSON.parse(stdout) as never }),
    );
  });
}

/** What doctor says of definitions, and whether all of it is well. */
async function definitions(url?: string): Promise<{ ok: boolean; found: string[] }> {
  const findings = (await doctor(url)).found.filter(({ check }) => check === 'definitions');
  return { ok: findings.every(({ ok }) => ok), found: findings.map(({ found }) => found) };
}

async function repaired(): Promise<string[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    return (await install(client)).mended;
  } finally {
    await client.end();
  }
}

/** Functions that call the trap, and whether it was sprung. */
const TRAP = `begin perform public.spring(); return null; end`;

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
    expect((await doctor(url)).found.map(({ check }) => check)).toContain('integrity');
    await database.pool.query(
      `create or replace function hartonomous.default_model() returns text language plpgsql stable as $$ ${TRAP} $$`,
    );
    expect(await definitions(url)).toEqual({ ok: false, found: ['function hartonomous.default_model() differs'] });
    expect((await database.pool.query('select * from public.caught')).rows).toEqual([]);
    await repaired();
    expect((await definitions(url)).ok).toBe(true);
  });
});
