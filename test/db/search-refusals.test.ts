/** What searches refuse, by name. */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Searches } from './searches.ts';

const searches = new Searches();
const { owner, reader, rows, login, makeTable, makeSearch } = searches;
let session: pg.Client;
beforeAll(async () => void ({ session } = await searches.open()));
afterAll(searches.close);

describe('search', () => {
  beforeAll(async () => {
    await makeTable('docs');
    await makeSearch('docs');
  });

  test.each([
    [`'the', 0`, '22023', 'k must be 1 to 1000, got 0'],
    [`'the', options => '{"weight": 1}'`, '22023', 'unknown option "weight"'],
    [
      `'the', options => '{"text_weight": -1}'`,
      '22023',
      'option text_weight must be a number from 0 to 1000000, got -1',
    ],
    [
      `'the', options => '{"candidates": 1.5}'`,
      '22023',
      'option candidates must be an integer from 1 to 10000, got 1.5',
    ],
    [`'the', options => '{"rerank": "nobody"}'`, '42704', 'model nobody does not exist'],
    [`'the', filter => 'nothing = 1'`, '42703', 'filter "nothing = 1": column "nothing" does not exist'],
    [`'the', filter => 'number = 1'`, '42703', 'filter "number = 1": column "number" does not exist'],
    [`'the', filter => ''`, '42601', 'filter "": syntax error at or near ")"'],
  ])('refuses (%s)', async (args, code, message) => {
    await expect(rows(`select * from hartonomous.search('docs_search', ${args})`)).rejects.toMatchObject({
      code,
      message,
      internalQuery: undefined,
    });
  });
});

describe('create_search', () => {
  test.each([
    [
      'parted',
      'create table parted (id integer primary key, body text) partition by hash (id)',
      'is partitioned or a partition',
    ],
    ['shown', 'create view shown as select 1 as id, $$a$$ as body', 'is a view'],
    ['gone_soon', 'create temporary table gone_soon (id integer primary key, body text)', 'is temporary'],
    ['keyless', 'create table keyless (id integer, body text)', 'has no primary key'],
    [
      'parent',
      'create table parent (id integer primary key, body text); create table child () inherits (parent)',
      'inherits or is inherited',
    ],
    [
      'forced',
      'create table forced (id integer primary key, body text); alter table forced force row level security',
      'forces row security',
    ],
    ['pg_catalog.pg_class', 'select 1', 'is the system'],
  ])('%s cannot be searched', async (table, make, reason) => {
    await session.query(make);
    await expect(rows(`select hartonomous.create_search('${table}', '{body}')`)).rejects.toMatchObject({
      code: '42809',
      message: expect.stringContaining(reason) as string,
    });
  });

  test.each([
    [`'{nothing}'`, '42703', 'table app.free has no column nothing'],
    [`'{null}'`, '42703', 'table app.free has no column null'],
    [`'{}'`, '22023', 'a search needs columns or option expression, and not both'],
    [`'{body}', name => 'taken'`, '42P07', 'app.taken_queue exists already, search app.taken is not made'],
    [`null`, '22023', 'a search needs columns or option expression, and not both'],
    [`'{body}', options => '{"chunks": 1}'`, '22023', 'unknown option "chunks"'],
    [`'{body}', options => '{"index": "yes"}'`, '22023', 'option index must be a JSON boolean, got "yes"'],
    [`'{body}', options => '{"chunking": {"page": 0}}'`, '22023', 'unknown option "page"'],
    [`'{body}', options => '{"language": "klingon"}'`, '42704', 'text search configuration "klingon" does not exist'],
    [
      `'{body}', options => '{"vector": "bits"}'`,
      '22023',
      'option vector must be one of bytea, vector, halfvec, got "bits"',
    ],
    [`'{body}', model => 'nobody'`, '42704', 'model nobody does not exist'],
    [`'{body}', repeat('n', 51)`, '42602', `name ${'n'.repeat(51)} of a search has 51 bytes, 1 to 50 are possible`],
  ])('refuses (%s) by name', async (args, code, message) => {
    await session.query('create table if not exists free (id integer primary key, body text)');
    await session.query('create table if not exists taken_queue (id integer)');
    await expect(rows(`select hartonomous.create_search('free', ${args})`)).rejects.toMatchObject({ code, message });
  });

  test('only the owner of a table makes a search of it', async () => {
    const other = await login(reader);
    await session.query(`grant all on free to ${reader}`);
    await expect(other.query(`select hartonomous.create_search('app.free', '{body}')`)).rejects.toMatchObject({
      code: '42501',
      message: `table app.free belongs to ${owner}, a search of it to ${reader}`,
    });
  });
});

describe('a searched table that has become another', () => {
  const ASK = `select key from hartonomous.search('turned_search', 'note')`;
  const TROUBLE = `select error, waiting from hartonomous.search_list where search = 'turned_search'::regclass`;

  beforeEach(async () => {
    await session.query(`create table turned (id integer primary key, other integer default 0, body text)`);
    await session.query(`insert into turned values (1, 2, 'a note'), (2, 1, 'another')`);
    await makeSearch('turned');
    await session.query(`call hartonomous.work('turned_search')`);
  });
  afterEach(() => session.query(`select hartonomous.drop_search('turned_search'); drop table turned cascade`));

  test.each([
    ['alter table turned drop constraint turned_pkey', 'has no primary key any more'],
    [
      'alter table turned drop constraint turned_pkey, add primary key (other)',
      'has another primary key than when its search was made',
    ],
    [
      'alter table turned drop constraint turned_pkey, add primary key (id, other)',
      'has another primary key than when its search was made',
    ],
  ])('%s: nothing is found by the wrong key', async (change, reason) => {
    await session.query(change);
    const refusal = { code: '42809', message: `table app.turned ${reason}` };
    await expect(session.query(ASK)).rejects.toMatchObject(refusal);
    await expect(session.query(`select hartonomous.refresh_search('turned_search')`)).rejects.toMatchObject(refusal);
    await expect(session.query(`select hartonomous.set_search_model('turned_search')`)).rejects.toMatchObject(refusal);
    expect(await rows(TROUBLE)).toEqual([{ error: refusal.message, waiting: '0' }]);
    await session.query(`alter table turned drop constraint if exists turned_pkey, add primary key (id)`);
    expect(await rows(ASK)).toHaveLength(2);
    expect(await rows(TROUBLE)).toEqual([{ error: null, waiting: '0' }]);
  });

  test('a key of the same columns in another order is another key', async () => {
    await session.query(
      `create table "two (" (a integer, "b )" integer, body text, primary key (a, "b )"));
       insert into "two (" values (1, 2, 'one note'), (2, 1, 'another note')`,
    );
    await session.query(`select hartonomous.create_search('"two ("', '{body}', 'two_search')`);
    await session.query(`call hartonomous.work('two_search')`);
    const ask = `select key from hartonomous.search('two_search', 'note') order by key`;
    const found = [{ key: '[1, 2]' }, { key: '[2, 1]' }];
    expect(await rows(ask)).toEqual(found);
    await session.query('alter table "two (" drop constraint "two (_pkey", add primary key ("b )", a)');
    await expect(session.query(ask)).rejects.toMatchObject({
      message: 'table app."two (" has another primary key than when its search was made',
    });
    await session.query('alter table "two (" drop constraint "two (_pkey", add primary key (a, "b )")');
    expect(await rows(ask)).toEqual(found);
    await session.query(`select hartonomous.drop_search('two_search'); drop table "two ("`);
  });

  test.each([
    [
      `create table whole (id integer primary key, other integer, body text) partition by range (id);
       alter table whole attach partition turned for values from (0) to (10)`,
      'is partitioned or a partition',
      'alter table whole detach partition turned; drop table whole',
    ],
    ['create table heir () inherits (turned)', 'inherits or is inherited', 'drop table heir'],
    [
      'alter table turned force row level security',
      'forces row security on its owner',
      'alter table turned no force row level security',
    ],
  ])('%s: the work stops and says why, and goes on when it is undone', async (change, reason, undo) => {
    const error = expect.stringContaining(`table app.turned ${reason}`) as string;
    await session.query(change);
    expect(await rows(TROUBLE)).toEqual([{ error, waiting: '0' }]);
    await session.query(`update turned set body = 'a new note' where id = 1`);
    await session.query(`call hartonomous.work('turned_search')`);
    expect(await rows(TROUBLE)).toEqual([{ error, waiting: '1' }]);
    expect(await rows(ASK)).toHaveLength(2);
    await session.query(undo);
    await session.query(`select hartonomous.retry_search('turned_search')`);
    await session.query(`call hartonomous.work('turned_search')`);
    expect(await rows(TROUBLE)).toEqual([{ error: null, waiting: '0' }]);
  });
});

test('a search of another cannot be written into the list of searches', async () => {
  const other = await login(reader);
  await expect(
    other.query(`insert into hartonomous._own_searches (owner, search, source, texts, chunks, queue, model, digest, has_prefixes, options)
      select '${owner}'::regrole, 1, 1, 1, 1, 1, 'm', 'd', false, '{"vector": "bytea"}'`),
  ).rejects.toMatchObject({ message: 'new row violates check option for view "_own_searches"' });
  expect((await other.query(`delete from hartonomous._own_searches`)).rowCount).toBe(0);
  await expect(other.query('select * from hartonomous.searches')).rejects.toMatchObject({ code: '42501' });
});

test.each(['{}', '{"vector": null}', '{"vector": "bits"}', '{"vector": "bytea\'; drop table docs; --"}'])(
  'nor options %s of which a statement would be made',
  async (options) => {
    await expect(
      session.query(`update hartonomous._own_searches set options = $1 where search = 'docs_search'::regclass`, [
        options,
      ]),
    ).rejects.toMatchObject({ code: '23514', constraint: 'searches_vector_check' });
  },
);
