/** The background worker of searches: for whom it works, as whom, and how many at a time. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { install } from '../../cli/install/install.ts';
import { hartonomous } from '../cli/program.ts';
import { ingestFile, lacksOwn } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { WORKER, WorkerServer } from './server.ts';

const foreign = lacksOwn('a background worker');
let server: WorkerServer;
let session: pg.Client;

beforeAll(async () => {
  if (foreign) return;
  server = await WorkerServer.start();
  session = await server.makeOwner('owner');
});
afterAll(() => server?.destroy());

describe.skipIf(foreign)('the worker', () => {
  test('embeds what changes with nobody calling work, and whoever calls it as well harms nothing', async () => {
    await session.query(`insert into notes values (1, 'the moon'), (2, 'boats')`);
    await server.untilEmbedded('owner');
    await session.query(`update notes set body = 'the sea' where id = 1; delete from notes where id = 2`);
    await session.query('call hartonomous.work()');
    await server.untilEmbedded('owner');
    const { rows } = await session.query(`select key, text from hartonomous.search('notes_search', 'sea', 1)`);
    expect(rows).toEqual([{ key: '1', text: 'the sea' }]);
  });

  test('who calls work while it is at it comes back when its batch is there', async () => {
    const caller = await server.makeOwner('caller');
    const held = await server.hold('caller');
    const called = caller.query('call hartonomous.work()');
    await server.until(
      'the caller waits',
      `exists (select from pg_stat_activity where usename = 'caller' and query ~ 'call hartonomous.work' and wait_event_type = 'Lock' and pid <> ${held.pid})`,
    );
    await held.go();
    await called;
    const { rows } = await caller.query('select count(*)::integer as n from notes_search_chunks');
    expect(rows).toEqual([{ n: 16 }]);
  });

  test('is a session of the owner for whatever the owner has put into a search', async () => {
    const hostile = await server.makeOwner('hostile');
    await hostile.query(`create table seen (what text, who text)`);
    await hostile.query(`create function spy(body text) returns text language plpgsql as $$
      declare reason text;
      begin
          insert into hostile.seen values ('expression', concat_ws(' ', session_user, current_user, current_setting('is_superuser')));
          begin
              perform set_config('role', 'none', false), set_config('session_authorization', 'postgres', false);
          exception when others then
              get stacked diagnostics reason = message_text;
              insert into hostile.seen values ('session', reason);
          end;
          begin
              create role escaped superuser;
          exception when others then
              insert into hostile.seen values ('role', sqlstate);
          end;
          return body;
      end $$`);
    await hostile.query(`create function note_chunk() returns trigger language plpgsql as $$
      begin insert into hostile.seen values ('trigger', concat_ws(' ', session_user, current_user)); return new; end $$`);
    await hostile.query(`select hartonomous.drop_search('notes_search')`);
    await hostile.query(
      `select hartonomous.create_search('notes', model => 'bert', options => '{"vector": "bytea", "expression": "hostile.spy(body)"}')`,
    );
    await hostile.query(
      `create trigger note before insert on notes_search_chunks for each row execute function note_chunk()`,
    );
    await hostile.query(`truncate seen; insert into notes values (1, 'a trap')`);
    await server.untilEmbedded('hostile');
    const { rows } = await hostile.query<{ what: string; who: string }>(
      'select distinct what, who from seen order by 1',
    );
    expect(rows).toEqual([
      { what: 'expression', who: 'hostile hostile off' },
      { what: 'role', who: '42501' },
      { what: 'session', who: expect.stringContaining('permission denied to set session authorization') as string },
      { what: 'trigger', who: 'hostile hostile' },
    ]);
  });

  test('has several sessions for one role where workers_per_owner says so', async () => {
    await server.makeOwner('busy');
    await server.set('hartonomous_worker.workers_per_owner = 2');
    const held = await server.hold('busy', 2);
    await held.go();
    await server.untilEmbedded('busy');
    const done = await server.asAdmin(
      `select rows_done::integer from hartonomous.searches where owner = 'busy'::regrole`,
    );
    expect(done).toEqual([{ rows_done: 33 }]); // an entry of the whole table, from when the search was made
    await server.set('hartonomous_worker.workers_per_owner = 1');
  });

  test('works for nobody where max_workers is 0, and for all that waits afterwards', async () => {
    await server.set('hartonomous_worker.max_workers = 0');
    await server.until('the setting holds', `current_setting('hartonomous_worker.max_workers') = '0'`);
    await session.query(`insert into notes values (10, 'waits')`);
    await server.set('hartonomous_worker.max_workers = 2');
    await server.untilEmbedded('owner');
  });
});

describe.skipIf(foreign)('an owner is not worked for, the log says so, and it is made up for afterwards', () => {
  test.each([
    ['who may not log in', 'nologin', 'login', 'it may not log in'],
    ['who is a superuser', 'superuser', 'nosuperuser', 'it is a superuser'],
    [
      'who has as many connections as he may',
      'connection limit 0',
      'connection limit -1',
      'it has as many connections as it may',
    ],
  ])('%s', async (_who, take, give, reason) => {
    const role = `kept_${take.replace(/\W.*/, '')}`;
    const kept = await server.makeOwner(role);
    await server.asAdmin(`alter role ${role} ${take}`);
    await kept.query(`insert into notes values (1, 'waits')`);
    await server.untilLogged(
      new RegExp(
        `changes wait for searches of role ${role} in database hartonomous, and no worker works for it: ${reason}`,
      ),
    );
    expect(await server.asAdmin(`select attempts from ${role}.notes_search_queue where id is not null`)).not.toEqual(
      [],
    );
    await server.asAdmin(`alter role ${role} ${give}`);
    await server.untilEmbedded(role);
  });

  test('who may not connect to the database', async () => {
    const kept = await server.makeOwner('unconnected');
    await server.asAdmin(
      'revoke connect on database hartonomous from public; grant connect on database hartonomous to owner',
    );
    await kept.query(`insert into notes values (1, 'waits')`);
    await server.untilLogged(/of role unconnected .* it may not connect to this database/);
    expect(await server.asAdmin('select key from unconnected.notes_search_chunks')).toEqual([]);
    await server.asAdmin('grant connect on database hartonomous to public');
    await server.untilEmbedded('unconnected');
  });

  test('who may not call work any more, while others are', async () => {
    const ousted = await server.makeOwner('ousted');
    await ousted.query(`insert into notes values (1, 'waits')`);
    await server.untilEmbedded('ousted');
    await ousted.query(`insert into notes values (2, 'waits')`);
    await server.asAdmin('revoke hartonomous_user from ousted');
    await ousted.query(`insert into notes values (3, 'waits')`);
    await server.untilLogged(/permission denied for (schema hartonomous|procedure work)/);
    await session.query(`insert into notes values (11, 'of another')`);
    await server.untilEmbedded('owner');
    await server.asAdmin('grant hartonomous_user to ousted');
    await server.untilEmbedded('ousted');
  });
});

describe.skipIf(foreign)('doctor', () => {
  const found = async (database: string): Promise<string> =>
    (await hartonomous(['doctor'], { url: server.urlOf(database) })).stdout;

  test('says that the worker runs, and for which owners it does not', async () => {
    await server.makeOwner('silent');
    await server.asAdmin('alter role silent nologin');
    const text = await found('hartonomous');
    expect(text).toMatch(/^ok {3}worker +runs, and looks after this database$/m);
    expect(text).toMatch(
      /^FAIL search owner +silent may not log in, so nobody works for its 1 search -> alter role silent login$/m,
    );
    await server.asAdmin('alter role silent superuser login');
    expect(await found('hartonomous')).toMatch(
      /^ok {3}search owner +silent is a superuser, for whom no worker works: 1 search -> call hartonomous\.work\(\) as silent$/m,
    );
  });

  test('says where it looks after other databases, and it comes when it is told to', async () => {
    await server.asAdmin('create database other template template0');
    await server.asAdmin('drop schema silent cascade');
    const client = await server.open(undefined, 'other');
    await install(client);
    await ingestFile(server.urlOf('other'), modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const there = await server.makeOwner('stranger', undefined, 'other');
    await there.query(`insert into notes values (1, 'elsewhere')`);
    expect(await found('other')).toMatch(
      /^ok {3}worker +runs, and not for this database: hartonomous_worker\.databases is hartonomous -> alter system set hartonomous_worker\.databases = 'hartonomous, other'; select pg_reload_conf\(\)$/m,
    );
    await server.set(`hartonomous_worker.databases = 'hartonomous, other, nowhere'`);
    await server.untilEmbedded('stranger', 'other');
    await server.untilLogged(/database "nowhere" of hartonomous_worker\.databases does not exist/);
    await there.query(`update notes set body = 'still there'`);
    await server.set(`hartonomous_worker.databases = '*'`);
    await server.untilEmbedded('stranger', 'other');
    expect(
      await server.asAdmin(`select from pg_stat_activity where backend_type = '${WORKER}' and usename = 'postgres'`),
    ).toEqual([]);
  });
});
