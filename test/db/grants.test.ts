/**
 * Every object of the schema, its owner, and who may do what with it, beside the list that stands in grants.txt. A new object
 * has to be listed there by somebody who has thought about its rights: npx vitest run test/db/grants.test.ts -u
 */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from './harness.ts';
import type { TestDatabase } from './harness.ts';

let database: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query('set search_path = pg_catalog'); // so that every name is shown with its schema
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

/** One line an object: kind, name, owner, then `grantee: privileges` for everybody but the owner. */
const OBJECTS = `
with objects as (
    select 'function' as kind, p.oid::regprocedure::text as name, p.proowner as owner, p.proacl as acl, acldefault('f', p.proowner) as usual
    from pg_proc p where p.pronamespace = 'hartonomous'::regnamespace
    union all
    select case c.relkind when 'v' then 'view' when 'S' then 'sequence' when 'r' then 'table' when 'p' then 'table' else c.relkind::text end,
        c.oid::regclass::text, c.relowner, c.relacl, acldefault((case when c.relkind = 'S' then 's' else 'r' end)::"char", c.relowner)
    from pg_class c where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S')
    union all
    select 'type', t.oid::regtype::text, t.typowner, t.typacl, acldefault('T', t.typowner)
    from pg_type t where t.typnamespace = 'hartonomous'::regnamespace and t.typtype in ('e', 'd')
    union all
    select 'schema', n.nspname, n.nspowner, n.nspacl, acldefault('n', n.nspowner) from pg_namespace n where n.nspname = 'hartonomous'
)
select o.kind || ' ' || o.name || ' (' || o.owner::regrole || ')' || coalesce(string_agg(', ' || g.who || ': ' || g.what, '' order by g.who), '') as line
from objects o left join lateral (
    select case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end as who, string_agg(lower(a.privilege_type), ' ' order by a.privilege_type) as what
    from aclexplode(coalesce(o.acl, o.usual)) a where a.grantee <> o.owner group by 1
) g on true
group by o.kind, o.name, o.owner order by 1`;

async function lines(): Promise<string[]> {
  return (await client.query<{ line: string }>(OBJECTS)).rows.map((row) => row.line);
}

test('every object has the owner and the grants that are listed', async () => {
  await expect(`${(await lines()).join('\n')}\n`).toMatchFileSnapshot('grants.txt');
});

test.each(['hartonomous_user', 'hartonomous_reader', 'hartonomous_admin'])(
  'every view that %s may read can be read by it, functions inside included',
  async (role) => {
    const { rows } = await client.query<{ view: string }>(
      `select c.oid::regclass::text as view from pg_class c
       where c.relnamespace = 'hartonomous'::regnamespace and c.relkind = 'v' and has_table_privilege($1, c.oid, 'select')`,
      [role],
    );
    expect(rows.length).toBeGreaterThan(10);
    await client.query(`set role ${role}`);
    try {
      for (const { view } of rows) await client.query(`select * from ${view} limit 1`);
    } finally {
      await client.query('reset role');
    }
  },
);

test('nothing but types is open to PUBLIC, and everything belongs to hartonomous_owner', async () => {
  const all = await lines();
  expect(all.filter((line) => line.includes('PUBLIC') && !line.startsWith('type '))).toEqual([]);
  expect(all.filter((line) => !line.includes('(hartonomous_owner)'))).toEqual([]);
});

test('every function that runs as its owner has a pinned search path', async () => {
  const { rows } = await client.query(
    `select p.oid::regprocedure::text as name from pg_proc p
     where p.pronamespace = 'hartonomous'::regnamespace and p.prosecdef
       and not coalesce('search_path=hartonomous, pg_temp' = any (p.proconfig), false)`,
  );
  expect(rows).toEqual([]);
});

test('every function, table, view and column has a comment', async () => {
  const { rows } = await client.query(
    `select 'function ' || p.oid::regprocedure as name from pg_proc p
     where p.pronamespace = 'hartonomous'::regnamespace and obj_description(p.oid, 'pg_proc') is null
     union all
     select 'relation ' || c.oid::regclass from pg_class c
     where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
       and obj_description(c.oid, 'pg_class') is null
     union all
     select 'column ' || c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
     where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
       and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null and c.relname <> 'migrations'`,
  );
  expect(rows).toEqual([]);
});
