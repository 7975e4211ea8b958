/** The background worker of searches with nothing to do, and how it is started and stopped. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hartonomous } from '../cli/program.ts';
import { lacksOwn } from '../db/harness.ts';
import { LAUNCHER, WorkerServer } from './server.ts';

const foreign = lacksOwn('a background worker');
let server: WorkerServer;

beforeAll(async () => {
  if (foreign) return;
  server = await WorkerServer.start();
  await server.set(`hartonomous_worker.databases = '*'`);
  const session = await server.makeOwner('owner');
  await session.query(`insert into notes values (1, 'a note')`);
  await server.untilEmbedded('owner');
  await session.end();
});
afterAll(() => server?.destroy());

describe.skipIf(foreign)('idle', () => {
  test('its launcher is in no database, and holds no snapshot and no lock of any', async () => {
    const [launcher] = await server.asAdmin(
      `select datname, backend_xmin::text, backend_xid::text, xact_start,
         (select json_agg(json_build_array(locktype, database, relation)) from pg_locks l where l.pid = a.pid) as locks
       from pg_stat_activity a where backend_type = '${LAUNCHER}'`,
      'postgres',
    );
    expect(launcher).toEqual({
      datname: null,
      backend_xmin: null,
      backend_xid: null,
      xact_start: null,
      locks: [['advisory', '0', null]], // of no database: shows that it runs
    });
  });

  test('a database that it looks after is copied, renamed and dropped', async () => {
    for (let round = 0; round < 3; round++) {
      await server.asAdmin('create database copied template hartonomous', 'postgres');
      await server.asAdmin('alter database copied rename to renamed', 'postgres');
      await server.asAdmin('drop database renamed', 'postgres');
    }
    await server.asAdmin(`insert into owner.notes values (2, 'another note')`);
    await server.untilEmbedded('owner');
  });
});

describe.skipIf(foreign)('preloading', () => {
  const shown = async (): Promise<unknown> =>
    (await server.asAdmin('show shared_preload_libraries'))[0]!.shared_preload_libraries;

  test('up adds it to the libraries of the configuration', async () => {
    expect(await shown()).toBe('hartonomous_worker');
    server.configure(`shared_preload_libraries = 'auto_explain, "$libdir/passwordcheck"'`);
    server.cluster.down();
    await server.cluster.up();
    expect(await shown()).toBe('auto_explain, "$libdir/passwordcheck", hartonomous_worker');
    server.configure(`shared_preload_libraries = 'hartonomous_worker'`);
    server.cluster.down();
    await server.cluster.up();
    expect(await shown()).toBe('hartonomous_worker');
    server.configure(`shared_preload_libraries = ''`);
    await server.asAdmin(`insert into owner.notes values (3, 'after all')`);
    await server.untilEmbedded('owner');
  });

  test('without it an administrator starts the worker, once, and ends it', async () => {
    server.cluster.down();
    server.control('-o', `-p ${new URL(server.url).port}`, '-l', '/dev/null', 'start');
    expect(await shown()).toBe('');
    const doctor = async (): Promise<string> =>
      (await hartonomous(['doctor'], { url: server.urlOf('hartonomous') })).stdout;
    const start = 'select hartonomous_worker_start()';
    expect(await doctor()).toContain(
      `does not run: somebody has to call work() -> shared_preload_libraries = 'hartonomous_worker', or: create extension hartonomous_worker; ${start}`,
    );
    await server.asAdmin(`insert into owner.notes values (4, 'on demand')`);
    await server.asAdmin('create extension hartonomous_worker');
    const [started] = await server.asAdmin(start);
    expect(started).toEqual({ hartonomous_worker_start: await server.launcher() });
    await server.untilEmbedded('owner');
    expect(await doctor()).toMatch(/^ok {3}worker +runs, and looks after this database$/m);
    await expect(server.asAdmin(start)).rejects.toMatchObject({
      code: '55006',
      message: 'a launcher works for searches of this server already',
    });
    const owner = await server.open('owner');
    await expect(owner.query(start)).rejects.toMatchObject({ code: '42501' });
    await server.asAdmin(`select pg_terminate_backend(${String(started!.hartonomous_worker_start)}, 10000)`);
    expect(await server.launcher()).toBeNull();
    await server.asAdmin(`insert into owner.notes values (5, 'again')`);
    expect(await server.asAdmin(start)).toHaveLength(1);
    await server.untilEmbedded('owner');
  });
});
