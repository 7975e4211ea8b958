/** work() over queues of searches: workers beside one another, those that are ended, models and rows with which it cannot go on. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hartonomous } from '../cli/program.ts';
import type { TestDatabase } from './harness.ts';
import { Searches } from './searches.ts';

const searches = new Searches();
const { owner, reader, rows, login, makeTable, makeSearch, differences, heldWorker } = searches;
let database: TestDatabase;
let admin: pg.Client;
let session: pg.Client;
beforeAll(async () => void ({ database, admin, session } = await searches.open('nomic')));
afterAll(searches.close);

describe('workers', () => {
  beforeAll(async () => {
    await makeTable('notes');
    await session.query(`insert into notes select i, 'note ' || i from generate_series(1, 30) i`);
    await makeSearch('notes');
  });

  test('a worker that is killed before it writes leaves everything to the next', async () => {
    const held = await heldWorker('app.notes_search');
    await admin.query('select pg_terminate_backend($1)', [held.pid]);
    await expect(held.ended).resolves.toMatchObject({ code: '57P01' });
    await held.go();
    expect(await rows('select waiting from hartonomous.search_list')).toEqual([{ waiting: '31' }]);
    expect(await rows('select count(*)::integer as n from notes_search_chunks')).toEqual([{ n: 0 }]);
  });

  test('two at once share the work', async () => {
    const other = await login(owner);
    await Promise.all([session, other].map((client) => client.query(`call hartonomous.work(batch => 3)`)));
    expect(await differences('notes')).toEqual([]);
    expect(await rows('select waiting, failed, rows_done from hartonomous.search_list')).toEqual([
      { waiting: '0', failed: '0', rows_done: '31' },
    ]);
  });

  test('a row that is changed twice while it is embedded ends as it is in the table', async () => {
    await session.query(`update notes set body = 'once' where id = 7; delete from notes where id = 8`);
    const held = await heldWorker('app.notes_search');
    await session.query(`update notes set body = 'twice' where id = 7`);
    await session.query(`update notes set body = 'thrice' where id = 7; insert into notes values (8, 'again')`);
    await held.go();
    await held.ended;
    expect(await differences('notes')).toEqual([]);
    expect(await rows(`select text from notes_search where id in (7, 8) order by id`)).toEqual([
      { text: 'thrice' },
      { text: 'again' },
    ]);
  });

  test('a new model takes over when all of it is there, and the old one answers until then', async () => {
    await session.query(`grant select on notes, notes_search, notes_search_chunks to ${reader}`);
    await session.query(`select hartonomous.set_search_model('notes_search', 'nomic')`);
    await session.query(`insert into notes values (31, 'a late note')`);
    await session.query(`select hartonomous._work('notes_search', 16)`);
    const models = 'select model, next_model from hartonomous.search_list';
    expect(await rows(models)).toEqual([{ model: 'bert', next_model: 'nomic' }]);
    const ask = `select key from hartonomous.search('app.notes_search', 'note 3', 1)`;
    expect(await rows(ask)).toEqual([{ key: '3' }]);
    await session.query('call hartonomous.work()');
    expect(await rows(models)).toEqual([{ model: 'nomic', next_model: null }]);
    expect(await differences('notes', { model: 'nomic', kind: '"document"' })).toEqual([]);
    // Queries and documents have prefixes now, and which vector is the nearest is the random model's affair.
    const worded = `select key from hartonomous.search('app.notes_search', 'note 3', 40) where text_rank = 1`;
    expect((await (await login(reader)).query(worded)).rows).toEqual([{ key: '3' }]);
    expect(await rows(`select relname from pg_class where relname ~ 'notes_search_chunks_next$'`)).toEqual([]);
  });

  test('what hides chunks, who may read which of their columns and their triggers stay when another model takes over', async () => {
    await makeTable('veiled');
    await session.query(`insert into veiled values (1, 'a note'), (2, 'hidden 100%s')`);
    await makeSearch('veiled');
    await session.query(`call hartonomous.work('veiled_search')`);
    await session.query(`grant select on veiled, veiled_search, veiled_search_chunks to ${reader}`);
    await session.query(`grant select (key) on veiled_search_chunks to ${searches.writer}`);
    await session.query(`grant select on veiled to ${searches.writer}`);
    await session.query(
      `create policy "the veil's" on veiled_search_chunks as restrictive for select to ${reader}, ${searches.writer}
       using (text not like '%100\\%s%' and exists (select from veiled v where v.id = veiled_search_chunks.key))`,
    );
    await session.query(
      `create function seen_by_owner() returns trigger language plpgsql as $$ begin new.text := upper(new.text); return new; end $$;
       create trigger "a trigger" before insert on veiled_search_chunks for each row execute function seen_by_owner();
       create trigger idle before insert on veiled_search_chunks for each row execute function suppress_redundant_updates_trigger();
       alter table veiled_search_chunks disable trigger idle`,
    );
    const other = await login(reader);
    const less = await login(searches.writer);
    const seen = async (): Promise<unknown[]> => [
      (await other.query(`select key from hartonomous.search('app.veiled_search', 'hidden')`)).rows,
      (await less.query('select key from app.veiled_search_chunks')).rows,
    ];
    expect(await seen()).toEqual([[{ key: '1' }], [{ key: '1' }]]);
    // What is granted on new tables was not granted on these chunks.
    await session.query(
      `alter default privileges in schema app grant select on tables to ${searches.writer};
       select hartonomous.set_search_model('veiled_search', 'nomic');
       alter default privileges in schema app revoke select on tables from ${searches.writer}`,
    );
    const refused = { code: '42501' };
    await expect(less.query('select text from app.veiled_search_chunks_next')).rejects.toMatchObject(refused);
    await session.query(`call hartonomous.work('veiled_search')`);
    await expect(less.query('select text from app.veiled_search_chunks')).rejects.toMatchObject(refused);
    expect(await rows(`select model from hartonomous.search_list where search = 'veiled_search'::regclass`)).toEqual([
      { model: 'nomic' },
    ]);
    expect(await seen()).toEqual([[{ key: '1' }], [{ key: '1' }]]);
    expect(
      await rows(
        `select tgname, tgenabled from pg_trigger where tgrelid = 'veiled_search_chunks'::regclass order by tgname`,
      ),
    ).toEqual([
      { tgname: 'a trigger', tgenabled: 'O' },
      { tgname: 'idle', tgenabled: 'D' },
    ]);
    await session.query(`update veiled set body = 'a new note' where id = 1`);
    await session.query(`call hartonomous.work('veiled_search')`);
    expect(await rows('select text from veiled_search where id = 1')).toEqual([{ text: 'A NEW NOTE' }]);
    await session.query(
      `select hartonomous.drop_search('veiled_search'); drop table veiled; drop function seen_by_owner`,
    );
  });

  test('what depends on the chunks makes another model wait, and no row is given up for it', async () => {
    await makeTable('held');
    await session.query(`insert into held values (1, 'a note'), (2, 'another')`);
    await makeSearch('held');
    await session.query(`call hartonomous.work('held_search')`);
    await session.query(`create view of_held as select text from held_search_chunks`);
    await session.query(`select hartonomous.set_search_model('held_search', 'nomic')`);
    await session.query(`call hartonomous.work('held_search')`);
    expect(await rows('select distinct attempts, error from held_search_queue')).toEqual([
      { attempts: 0, error: null },
    ]);
    const state = `select model, error from hartonomous.search_list where search = 'held_search'::regclass`;
    expect(await rows(state)).toEqual([
      {
        model: 'bert',
        error:
          'another model cannot take over: cannot drop table app.held_search_chunks because other objects depend on it',
      },
    ]);
    await session.query(`drop view of_held; select hartonomous.retry_search('held_search')`);
    await session.query(`call hartonomous.work('held_search')`);
    expect(await rows(state)).toEqual([{ model: 'nomic', error: null }]);
    await session.query(`select hartonomous.drop_search('held_search'); drop table held`);
  });

  test('triggers on the chunks that wait for the commit come before another model takes over', async () => {
    await makeTable('deferred');
    await session.query(`insert into deferred values (1, 'a note')`);
    await makeSearch('deferred');
    await session.query(`call hartonomous.work('deferred_search')`);
    await session.query(
      `create table seen (text text);
       create function see() returns trigger language plpgsql as $$ begin insert into app.seen values (new.text); return null; end $$;
       create constraint trigger "see ""it"" late" after insert on deferred_search_chunks deferrable initially deferred for each row execute function see();
       select hartonomous.set_search_model('deferred_search', 'nomic');
       update deferred set body = 'another note'`,
    );
    await session.query(`call hartonomous.work('deferred_search')`);
    expect(await rows('select text from seen')).toEqual([{ text: 'another note' }]);
    expect(
      await rows(`select model, error from hartonomous.search_list where search = 'deferred_search'::regclass`),
    ).toEqual([{ model: 'nomic', error: null }]);
    await session.query(`update deferred set body = 'a third'`);
    await session.query(`call hartonomous.work('deferred_search')`);
    expect(await rows('select text from seen')).toEqual([{ text: 'another note' }, { text: 'a third' }]);
    await session.query(
      `select hartonomous.drop_search('deferred_search'); drop table deferred, seen; drop function see`,
    );
  });

  test('a transaction that began before another model took over is told to search in another', async () => {
    await makeTable('swapped');
    await session.query(`insert into swapped values (1, 'a note')`);
    await makeSearch('swapped');
    await session.query(`call hartonomous.work('swapped_search')`);
    const old = await login(owner);
    await old.query('begin isolation level repeatable read; select count(*) from app.swapped');
    await session.query(`select hartonomous.set_search_model('swapped_search', 'nomic')`);
    await session.query(`call hartonomous.work('swapped_search')`);
    const ask = `select key from hartonomous.search('app.swapped_search', 'note')`;
    await expect(old.query(ask)).rejects.toMatchObject({
      code: '40001',
      message: 'chunks of search app.swapped_search were replaced after this transaction began',
    });
    await old.query('rollback');
    expect((await old.query(ask)).rows).toEqual([{ key: '1' }]);
    await session.query(`select hartonomous.drop_search('swapped_search')`);
    await session.query('drop table swapped');
  });

  test('of the program: it works as the owner who connects, and doctor tells of what waits', async () => {
    await session.query(`insert into notes values (32, 'for the program')`);
    await admin.query(
      `create table public.kept (id integer primary key, body text); insert into public.kept values (1, 'a')`,
    );
    await admin.query(`select hartonomous.create_search('public.kept', '{body}')`);
    expect((await hartonomous(['doctor'], { url: database.url })).stdout).toMatch(
      /^ok {3}search +public\.kept_search: 2 changes wait, the oldest for \d+ s, 0 were given up -> hartonomous work$/m,
    );
    await admin.query(`select hartonomous.drop_search('public.kept_search')`);
    expect(await hartonomous(['work'], { url: searches.ownersUrl })).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^notes_search: \d+ changes done in all, 0 wait, 0 given up\n$/) as string,
      stderr: '',
    });
    expect(await differences('notes', { model: 'nomic', kind: '"document"' })).toEqual([]);
    const nobody = await hartonomous(['work', 'app.nothing'], { url: searches.ownersUrl });
    expect(nobody).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('relation "app.nothing" does not exist') as string,
    });
  });

  test('a model that is gone stops the work and says so, and nothing is given up', async () => {
    await admin.query(`select hartonomous.remove_model('nomic')`);
    await session.query(`insert into notes values (33, 'waits')`);
    await session.query('call hartonomous.work()');
    expect(
      await rows('select waiting, failed, error, paused_until > now() as paused from hartonomous.search_list'),
    ).toEqual([
      {
        waiting: '1',
        failed: '0',
        error: 'model nomic of search app.notes_search is gone or another than it was',
        paused: true,
      },
    ]);
    await expect(rows(`select * from hartonomous.search('notes_search', 'note')`)).rejects.toMatchObject({
      message: 'model nomic of search app.notes_search is gone or another than it was',
      hint: `select hartonomous.set_search_model('app.notes_search', 'NAME') makes all embeddings anew`,
    });
    await session.query(`select hartonomous.set_search_model('notes_search')`);
    await session.query('call hartonomous.work()');
    expect(await differences('notes')).toEqual([]);
  });
});

test('a row that cannot be embedded is given up in the end, holds up no other, and comes back when it is mended', async () => {
  await makeTable('poisoned');
  await session.query(`insert into poisoned select i, 'row ' || i from generate_series(1, 5) i`);
  await session.query(`select hartonomous.create_search('poisoned', options => '{"chunking": {"size": 20}, "language": "english",
    "expression": "case when body ~ ''poison'' then (1 / (length(body) - length(body)))::text else body end"}')`);
  await session.query(`update poisoned set body = 'poison' where id = 2`);
  await session.query(`call hartonomous.work()`);
  const queue = `select attempts, due = 'infinity' as given_up, error from poisoned_search_queue`;
  const failing = { attempts: 1, given_up: false, error: 'division by zero' };
  expect(await rows(queue)).toEqual([failing, failing]); // the row as it was made, and its change
  expect(await rows('select count(*)::integer as n from poisoned_search')).toEqual([{ n: 4 }]);
  for (let i = 0; i < 4; i++) {
    await session.query(`update poisoned_search_queue set due = now() where due < 'infinity'`);
    await session.query(`call hartonomous.work()`);
  }
  const dead = { attempts: 5, given_up: true, error: 'division by zero' };
  expect(await rows(queue)).toEqual([dead, dead]);
  const state = `select waiting, failed, error from hartonomous.search_list where search = 'poisoned_search'::regclass`;
  expect(await rows(state)).toEqual([{ waiting: '0', failed: '2', error: 'division by zero' }]);
  expect(await rows(`select hartonomous.retry_search('poisoned_search') as n`)).toEqual([{ n: '2' }]);
  await session.query(`call hartonomous.work()`);
  expect(await rows(queue)).toEqual([failing, failing]);
  await session.query(
    `update poisoned_search_queue set due = 'infinity'; update poisoned set body = 'mended' where id = 2`,
  );
  await session.query(`call hartonomous.work()`);
  expect(await rows(queue)).toEqual([]);
  expect(await differences('poisoned')).toEqual([]);
});

test('a third model may be wanted while a worker makes the chunks of the second', async () => {
  await makeTable('third');
  await session.query(`insert into third values (1, 'a note')`);
  await makeSearch('third');
  await session.query(`call hartonomous.work('third_search')`);
  await session.query(`select hartonomous.set_search_model('third_search', 'bert')`);
  // What a worker does: it reads the chunks to come, embeds, and takes the lock of the search's row.
  const worker = await login(owner);
  await worker.query('begin; select from app.third_search_chunks_next');
  const other = await login(owner);
  const { rows: asked } = await other.query<{ pid: number }>('select pg_backend_pid() as pid');
  const wanted = other.query(`select hartonomous.set_search_model('app.third_search', 'bert')`);
  await searches.waitUntil(
    'the call waits',
    `select wait_event_type = 'Lock' from pg_stat_activity where pid = ${asked[0]!.pid}`,
  );
  await worker.query(
    `select from hartonomous._own_searches where search = 'app.third_search'::regclass for update; commit`,
  );
  await wanted;
  await session.query(`call hartonomous.work('third_search')`);
  expect(await differences('third')).toEqual([]);
  await session.query(`select hartonomous.drop_search('third_search'); drop table third`);
});

test("a name in a row that names nothing is the row's fault; what an expression may not read is not", async () => {
  await makeTable('named');
  await session.query(`create table secrets (word text); insert into named values (1, 'english'), (2, 'klingon')`);
  await session.query(
    `select hartonomous.create_search('named', options => '{"expression": "body::regconfig::text || (select count(*) from secrets)"}')`,
  );
  await session.query(`call hartonomous.work('named_search')`);
  const error = 'text search configuration "klingon" does not exist';
  expect(await rows('select key, attempts, error from named_search_queue')).toEqual([{ key: '2', attempts: 1, error }]);
  const state = `select failed, error from hartonomous.search_list where search = 'named_search'::regclass`;
  expect(await rows(state)).toEqual([{ failed: '0', error }]);
  expect(await rows('select text from named_search')).toEqual([{ text: 'english0' }]);
  await session.query(`update named set body = 'simple' where id = 2; revoke select on secrets from current_user`);
  await session.query(`call hartonomous.work('named_search')`);
  expect(await rows(state)).toEqual([{ failed: '0', error: 'permission denied for table secrets' }]);
  expect(await rows('select max(attempts) as most from named_search_queue')).toEqual([{ most: 1 }]);
  await session.query(`grant select on secrets to current_user; select hartonomous.retry_search('named_search')`);
  await session.query(`call hartonomous.work('named_search')`);
  expect(await rows('select text from named_search order by id')).toEqual([{ text: 'english0' }, { text: 'simple0' }]);
  await session.query(`select hartonomous.drop_search('named_search'); drop table named, secrets`);
});

test('a composite key with a null in it is a key like any other', async () => {
  await admin.query('create type public.pair as (a integer, b text)');
  await makeTable('paired', 'id public.pair primary key, body text');
  await session.query(`insert into paired values ('(1,)', 'half'), ('(,)', 'nothing'), ('(1,b)', 'all')`);
  await makeSearch('paired');
  await session.query(`call hartonomous.work('paired_search')`);
  expect(await differences('paired')).toEqual([]);
  await session.query(
    `delete from paired where body = 'nothing'; update paired set body = 'a half' where body = 'half'`,
  );
  await session.query(`call hartonomous.work('paired_search')`);
  expect(await differences('paired')).toEqual([]);
  await session.query(`select hartonomous.drop_search('paired_search'); drop table paired`);
});

test('work runs what belongs to the owner in sessions of the owner only', async () => {
  await makeTable('guarded');
  await makeSearch('guarded');
  await session.query('call hartonomous.work()');
  await session.query(`create function escape() returns trigger language plpgsql as $$
    begin perform set_config('role', 'none', true); create role escaped superuser; return new; end $$`);
  await session.query(
    `create trigger escape before insert on guarded_search_chunks for each row execute function escape()`,
  );
  await session.query(`insert into guarded values (2, 'more')`);
  const victim = await login(null);
  await victim.query(`call hartonomous.work()`);
  expect(await rows('select count(*)::integer as n from guarded_search_queue')).toEqual([{ n: 1 }]);
  await victim.query(`set role ${owner}`);
  await expect(victim.query(`call hartonomous.work()`)).rejects.toMatchObject({
    code: '42501',
    hint: `connect as ${owner}`,
  });
  await session.query('call hartonomous.work()');
  expect(await rows(`select error from hartonomous.search_list where search = 'guarded_search'::regclass`)).toEqual([
    // PostgreSQL 15, and later ones
    {
      error: expect.stringMatching(
        /^(must be superuser to create superusers|permission denied to create role)$/,
      ) as string,
    },
  ]);
  await session.query(
    `drop trigger escape on guarded_search_chunks; select hartonomous.retry_search('guarded_search')`,
  );
  await session.query('call hartonomous.work()');
  expect(await differences('guarded')).toEqual([]);
});
