/** The triggers of a search: what changes in a table is what changes in its chunks, whatever its key is and whoever writes. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Searches, WORDS } from './searches.ts';

const searches = new Searches();
const { writer, rows, login, makeTable, makeSearch, differences } = searches;
let admin: pg.Client;
let session: pg.Client;
beforeAll(async () => void ({ admin, session } = await searches.open()));
afterAll(searches.close);

describe('changes', () => {
  test.each([
    ['bigint', ['1', '2', '3'], '4'],
    [
      'uuid',
      [
        '4b0c0000-0000-0000-0000-000000000001',
        '4b0c0000-0000-0000-0000-000000000002',
        '4b0c0000-0000-0000-0000-000000000003',
      ],
      '00000000-0000-0000-0000-000000000000',
    ],
    ['text collate "C"', ["it's", 'B', '%I'], ''],
    ['date', ['2026-01-01', '2026-01-02', '2026-01-03'], '-infinity'],
  ])('of every kind are followed, with keys of type %s', async (type, keys, other) => {
    const table = `of_${type.slice(0, 4)}`;
    await makeTable(table, `id ${type} primary key, body text, seen integer default 0`);
    await session.query(`insert into ${table} values ($1, $2)`, [keys[0], WORDS[0]]);
    await makeSearch(table);
    const settled = async (): Promise<void> => {
      await session.query('call hartonomous.work()');
      expect(await differences(table)).toEqual([]);
      expect(await rows(`select count(*)::integer as n from ${table}_search_queue`)).toEqual([{ n: 0 }]);
    };
    await settled();
    await session.query(`insert into ${table} values ($1, $2), ($3, $4)`, [keys[1], WORDS[1], keys[2], WORDS[2]]);
    await settled();
    const all = `select count(*)::integer as n, max(id) as last from ${table}_search_chunks`;
    expect(await rows(all)).toEqual([{ n: 4, last: '4' }]);
    await session.query(`update ${table} set seen = 1`); // texts are as they were, and so are their chunks
    await settled();
    expect(await rows(all)).toEqual([{ n: 4, last: '4' }]);
    await session.query(`update ${table} set body = 'Listen. ' || body where id = $1`, [keys[2]]);
    await session.query(`update ${table} set id = $2 where id = $1`, [keys[0], other]);
    await session.query(`update ${table} set body = null where id = $1`, [keys[1]]);
    await settled();
    await session.query(`delete from ${table} where id = $1`, [keys[2]]);
    await settled();
    expect(await rows(`select id::text, number, text from ${table}_search`)).toEqual([
      { id: other, number: 1, text: WORDS[0] },
    ]);
    await session.query(`truncate ${table}; insert into ${table} values ('${other}', 'new')`);
    await settled();
    await session.query(`select hartonomous.drop_search('${table}_search'); drop table ${table}`);
  });

  test('keys of several columns and expressions', async () => {
    await makeTable('pairs', 'a integer, b text, title text, body text, primary key (b, a)');
    await session.query(`insert into pairs values (1, 'x', 'Moon', 'bright'), (2, 'x', 'Sea', 'deep')`);
    await session.query(
      `select hartonomous.create_search('pairs', '{title,body}'), hartonomous.create_search('pairs', name => 'loud', options => '{"expression": "upper(body)"}')`,
    );
    await session.query(`update pairs set a = 3 where a = 1`);
    await session.query('call hartonomous.work()');
    expect(await rows('select * from pairs_search order by a')).toEqual([
      { b: 'x', a: 2, number: 1, from: 1, to: 9, text: 'Sea\n\ndeep' },
      { b: 'x', a: 3, number: 1, from: 1, to: 12, text: 'Moon\n\nbright' },
    ]);
    expect(await rows(`select key, text from hartonomous.search('loud', 'deep', 1, 'a = 2')`)).toEqual([
      { key: '["x", 2]', text: 'DEEP' },
    ]);
    await session.query(`select hartonomous.drop_search('pairs_search'), hartonomous.drop_search('loud')`);
  });
});

test('who writes to a table needs no others, and nothing of his is called', async () => {
  await makeTable('guarded');
  await makeSearch('guarded');
  await session.query(`grant insert on guarded to ${writer}`);
  await admin.query(`create schema traps authorization ${writer}`);
  const other = await login(writer);
  await other.query(
    `create function traps.format(text, variadic text[]) returns text language plpgsql as $$ begin raise 'trapped'; end $$`,
  );
  await other.query(
    `create function traps.quote_ident(text) returns text language plpgsql as $$ begin raise 'trapped'; end $$`,
  );
  await other.query(`set search_path = traps, pg_catalog; insert into app.guarded values (1, 'written')`);
  await session.query('call hartonomous.work()');
  expect(await differences('guarded')).toEqual([]);
});
