/** What becomes of a search when it, its table or its database is dropped, renamed, dumped and restored. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, roleName } from './harness.ts';
import { Searches } from './searches.ts';

const searches = new Searches();
const { owner, rows, login, makeTable, makeSearch, differences } = searches;
let database: TestDatabase;
let admin: pg.Client;
let session: pg.Client;
beforeAll(async () => void ({ database, admin, session } = await searches.open()));
afterAll(searches.close);

const OBJECTS = `select 'relation ' || relname as name from pg_class where relnamespace = 'app'::regnamespace
  union all select 'function ' || proname from pg_proc where pronamespace = 'app'::regnamespace
  union all select 'trigger ' || tgname from pg_trigger g join pg_class c on c.oid = tgrelid where relnamespace = 'app'::regnamespace
  union all select 'search ' || search::text from hartonomous.search_list order by 1`;

describe('a search', () => {
  test('leaves nothing when it is dropped, nor when its table went before', async () => {
    await makeTable('mayfly');
    const before = await rows(OBJECTS);
    await makeSearch('mayfly');
    expect((await rows(OBJECTS)).length).toBeGreaterThan(before.length + 8);
    await session.query(`select hartonomous.drop_search('mayfly_search')`);
    expect(await rows(OBJECTS)).toEqual(before);
    await makeSearch('mayfly');
    await session.query('drop table mayfly cascade');
    const gone = await rows(
      `select search::oid::text as search from hartonomous.search_list where source::text ~ '^[0-9]+$'`,
    );
    expect(gone).toHaveLength(1);
    await session.query('call hartonomous.work()');
    await session.query(`select hartonomous.drop_search('${String(gone[0]!.search)}')`);
    expect(await rows(OBJECTS)).toEqual(before.filter(({ name }) => !String(name).includes('mayfly')));
  });

  test('follows new names of its table, columns and schema; a column that it reads is not dropped', async () => {
    await makeTable('renamed');
    await makeSearch('renamed');
    await session.query(`alter table renamed rename body to content; alter table renamed rename id to number`);
    await session.query(`alter table renamed rename to "Re%named"`);
    await expect(session.query(`alter table "Re%named" drop column content`)).rejects.toMatchObject({
      code: '2BP01',
      detail: expect.stringContaining('view renamed_search_texts depends on column content') as string,
    });
    await admin.query('alter schema app rename to other');
    await session.query(`set search_path = other`);
    await session.query(`insert into "Re%named" values (1, 'after all')`);
    await session.query('call hartonomous.work()');
    expect(
      await rows(
        `select key, text from hartonomous.search('renamed_search', 'after', filter => 'content is not null')`,
      ),
    ).toEqual([{ key: '1', text: 'after all' }]);
    await admin.query('alter schema other rename to app');
    await session.query(
      `set search_path = app; drop table "Re%named" cascade; drop table renamed_search_chunks, renamed_search_queue cascade`,
    );
  });

  test('belongs to whom it was reassigned to when a superuser has said so', async () => {
    const heir = roleName('heir');
    const old = roleName('old');
    await database.createRole(heir, 'hartonomous_user');
    await database.createRole(old, 'hartonomous_user');
    await admin.query(`create schema estate authorization ${old}`);
    const before = await login(old);
    await before.query('create table estate.house (id integer primary key, body text)');
    await before.query(`select hartonomous.create_search('estate.house', '{body}')`);
    await admin.query(`reassign owned by ${old} to ${heir}`);
    await admin.query(`update hartonomous.searches set owner = '${heir}' where owner = '${old}'::regrole`);
    await admin.query(`drop owned by ${old}`);
    const after = await login(heir);
    await after.query(`insert into estate.house values (1, 'a garden')`);
    await after.query('call hartonomous.work()');
    const ask = `select key from hartonomous.search('estate.house_search', 'garden')`;
    expect((await after.query(ask)).rows).toEqual([{ key: '1' }]);
    await after.query(`select hartonomous.drop_search('estate.house_search'); drop schema estate cascade`);
    expect((await after.query('select * from hartonomous.search_list')).rows).toEqual([]);
  });

  test('goes on after a dump and a restore', async () => {
    await makeTable('notes');
    await session.query(`insert into notes select i, 'note ' || i from generate_series(1, 5) i`);
    await makeSearch('notes');
    await session.query('call hartonomous.work()');
    // One of the owner's that looks into the queue, too, and comes first in the dump.
    await session.query(
      `create function are_waiting(chunk bigint) returns boolean language sql security definer return exists (select from notes_search_queue where $1 > 0)`,
    );
    const copy = await createDatabase({ empty: true });
    try {
      const tool = (name: string, args: string[], input?: Buffer): Buffer =>
        execFileSync(join(postgresBin(), name), args, {
          maxBuffer: 1 << 28,
          ...(input === undefined ? {} : { input }),
        });
      const dump = tool('pg_dump', ['-d', database.url]);
      tool('psql', ['-q', '-X', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', copy.url], dump);
      const there = await login(owner, copy.url);
      await there.query(`set search_path = app; insert into notes values (100, 'after the restore')`);
      await there.query(`call hartonomous.work()`);
      expect(await differences('notes', { client: there })).toEqual([]);
      const found = await there.query(`select key from hartonomous.search('notes_search', 'after the restore', 1)`);
      expect(found.rows).toEqual([{ key: '100' }]);
      await there.query(`select hartonomous.set_search_model('notes_search')`);
      await there.query('call hartonomous.work()');
      const called = await there.query(
        `select refobjid::regproc::text as name from pg_depend d join pg_policy p on p.oid = objid and polrelid = 'notes_search_chunks'::regclass
         where classid = 'pg_policy'::regclass and refclassid = 'pg_proc'::regclass and refobjid > 16384`,
      );
      expect(called.rows).toEqual([{ name: 'notes_search_waits' }]);
      await expect(there.query(`select hartonomous.drop_search('notes_search')`)).rejects.toMatchObject({
        detail: 'function app.are_waiting(bigint) depends on table app.notes_search_queue',
      });
      await there.query('drop function are_waiting');
      await there.query(`select hartonomous.drop_search('notes_search')`);
      await there.end();
    } finally {
      await copy.drop();
    }
  });
});
