/** The background worker of searches when it, its server, its owner or its search goes in the middle of a batch. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lacksOwn } from '../db/harness.ts';
import { isAlive, kill } from '../faults/server.ts';
import { LAUNCHER, WorkerServer } from './server.ts';

const foreign = lacksOwn('a background worker');
let server: WorkerServer;

beforeAll(async () => {
  if (!foreign) server = await WorkerServer.start();
});
afterAll(() => server?.destroy());

/** Entries done in all: one of the whole table, one for each of 16 rows, and none twice. */
async function expectAllOnce(role: string): Promise<void> {
  await server.untilEmbedded(role);
  const sql = `select rows_done::integer as n from hartonomous.searches where owner = '${role}'::regrole`;
  expect(await server.asAdmin(sql)).toEqual([{ n: 17 }]);
}

async function untilGone(pid: number): Promise<void> {
  for (let i = 0; isAlive(pid); i++) {
    if (i === 600) throw new Error(`process ${pid} does not end`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test.skipIf(foreign)('a worker that is ended leaves its batch as it was, and it is done again', async () => {
  await server.makeOwner('ended');
  const held = await server.hold('ended');
  await server.asAdmin(`select pg_terminate_backend(${held.pid})`);
  await untilGone(held.pid);
  expect(
    await server.asAdmin('select count(*)::integer as n from ended.notes_search_queue where key is not null'),
  ).toEqual([{ n: 16 }]);
  await held.go();
  await expectAllOnce('ended');
});

test.skipIf(foreign)('the owner himself may cancel and end it', async () => {
  const session = await server.makeOwner('master');
  const held = await server.hold('master');
  await session.query(`select pg_cancel_backend(${held.pid})`);
  await untilGone(held.pid);
  await held.go();
  await expectAllOnce('master');
});

test.skipIf(foreign)('a launcher that is ended ends its workers and is back, and so is the work', async () => {
  await server.makeOwner('launched');
  const held = await server.hold('launched');
  const launcher = await server.launcher();
  await server.asAdmin(`select pg_terminate_backend(${launcher!})`);
  await untilGone(held.pid);
  await held.go();
  await server.until(
    'another launcher',
    `exists (select from pg_stat_activity where backend_type = '${LAUNCHER}' and pid <> ${launcher!})`,
  );
  await expectAllOnce('launched');
});

test.skipIf(foreign)('a worker that is killed brings the server down once, and the batch is done again', async () => {
  await server.makeOwner('killed');
  const held = await server.hold('killed');
  await kill(held.pid);
  await server.untilLogged(/the server ended 1 times in a row while searches were worked for/);
  await expectAllOnce('killed');
  // What has worked without a crash counts from nothing again.
  await server.makeOwner('killed_anew');
  await kill((await server.hold('killed_anew')).pid);
  await server.until('the server is back', 'true');
  await expectAllOnce('killed_anew');
  expect(server.log).not.toMatch(/the server ended 2 times in a row/);
});

test.skipIf(foreign)('a server that is killed takes its worker along, and the next one does the batch', async () => {
  await server.makeOwner('orphan');
  const held = await server.hold('orphan');
  const [postmaster] = await server.asAdmin<{ pid: number }>(
    `select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)::integer as pid`,
  );
  process.kill(postmaster!.pid, 'SIGKILL');
  await untilGone(held.pid);
  await server.cluster.up();
  await expectAllOnce('orphan');
});

test.skipIf(foreign)(
  'a search that is dropped while its rows are embedded is gone, and others are worked for',
  async () => {
    const session = await server.makeOwner('dropping');
    const other = await server.makeOwner('staying');
    const held = await server.hold('dropping');
    const dropped = session.query(`select hartonomous.drop_search('notes_search')`);
    await server.until(
      'the drop waits',
      `exists (select from pg_stat_activity where query ~ 'drop_search' and wait_event_type = 'Lock')`,
    );
    await held.go();
    await dropped;
    await other.query(`insert into notes values (1, 'of another')`);
    await server.untilEmbedded('staying');
    expect(
      await server.asAdmin(`select relname from pg_class where relnamespace = 'dropping'::regnamespace order by 1`),
    ).toEqual([{ relname: 'notes' }, { relname: 'notes_pkey' }]);
  },
);

test.skipIf(foreign)('an owner who is dropped while it works is gone, and others are worked for', async () => {
  const other: pg.Client = await server.makeOwner('heir');
  await server.makeOwner('leaving');
  const held = await server.hold('leaving');
  const drop = (): Promise<unknown> =>
    server.asAdmin('drop owned by leaving cascade').catch((error: unknown) => {
      // It takes its locks in another order than who works, and PostgreSQL ends one of the two.
      if ((error as pg.DatabaseError).code !== '40P01') throw error;
      return drop();
    });
  const dropped = drop();
  await server.until(
    'the drop waits',
    `exists (select from pg_stat_activity where query ~ '^drop owned' and wait_event_type = 'Lock')`,
  );
  await held.go();
  await dropped;
  await server.asAdmin('drop role leaving');
  await other.query(`insert into notes values (1, 'of another')`);
  await server.untilEmbedded('heir');
});
