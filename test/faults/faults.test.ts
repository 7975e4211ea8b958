/** What a fault does to the caller, to the other sessions and to the data; docs/reliability.md has the table. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Phase } from '../../cli/ingest/ingest.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { install } from '../../cli/install/install.ts';
import { OWN_LANGUAGE } from '../db/harness.ts';
import { query } from '../scale/servers.ts';
import {
  ASK,
  ENDLESS,
  failure,
  FaultServer,
  kill,
  largeModel,
  MOMENTS_MS,
  noticed,
  SESSION_ENDED,
  SMALL,
} from './server.ts';

let server: FaultServer;

beforeAll(async () => {
  server = await FaultServer.start(largeModel());
}, 300_000);

afterAll(() => server.cluster.destroy());

describe('a backend is killed (SIGKILL)', () => {
  test.each(MOMENTS_MS)('%i ms into loading and generating: all sessions end, the server recovers', async (moment) => {
    const { client, pid } = await server.open();
    const other = await server.open();
    const running = failure(client.query(ENDLESS));
    await sleep(moment);
    await kill(pid);
    expect(await running).toMatch(SESSION_ENDED);
    await other.client.end().catch(() => undefined);
    await server.expectUnharmed();
  });

  test.each(MOMENTS_MS)('%i ms into an explanation: none of it is stored, and the repeat gives all', async (moment) => {
    const { client, pid } = await server.open();
    const run = `select (hartonomous.complete('Tell a very long story. ', options =>
      '{"raw": true, "num_predict": 2, "temperature": 0, "record": true}') ->> 'run_id')::bigint as id`;
    const { rows } = await client.query<{ id: string }>(run);
    const explain = `select hartonomous.explain(${rows[0]!.id}, 0, inputs => 'tokens') ->> 'summary' as summary`;
    const running = failure(client.query(explain));
    await sleep(moment);
    await kill(pid);
    expect(await running).toMatch(SESSION_ENDED);
    await server.expectUnharmed();
    const stored = `select count(*)::integer as n from hartonomous.explanations where run_id = ${rows[0]!.id}`;
    expect(await query(server.url, stored)).toEqual([{ n: 0 }]);
    const [computed] = await query(server.url, explain);
    expect(await query(server.url, stored)).toEqual([{ n: 1 }]);
    expect(await query(server.url, explain), 'what was computed is what is stored').toEqual([computed]);
  });

  test.each<Phase>(['vocabulary', 'tensors', 'embeddings'])(
    'in the phase %s of an ingest: nothing is visible, and the repeat completes',
    async (phase) => {
      const { client, pid } = await server.open();
      let hit = false;
      const onProgress = (at: Phase): void => {
        if (hit || at !== phase) return;
        hit = true;
        process.kill(pid, 'SIGKILL');
      };
      await failure(ingest(client, SMALL, { name: 'second', replace: true, onProgress }));
      expect(hit).toBe(true);
      await noticed();
      await server.expectUnharmed();
      const again = await server.open();
      await ingest(again.client, SMALL, { name: 'second', replace: true });
      expect(await verify(again.client, 'second')).toMatchObject({ differences: [] });
      expect(await query(server.url, 'select * from hartonomous.check_integrity(false)')).toEqual([]);
      await again.client.query(`select hartonomous.remove_model('second')`);
      await again.client.end();
    },
  );

  test('in a removal: the model is there as a whole, and the repeat removes it', async () => {
    const { client, pid } = await server.open();
    await ingest(client, SMALL, { name: 'second', replace: true });
    await client.query('begin');
    await client.query(`select hartonomous.remove_model('second')`);
    await kill(pid);
    await server.waitUntilUp();
    const again = await server.open();
    expect(await verify(again.client, 'second')).toMatchObject({ differences: [] });
    await again.client.query(`select hartonomous.remove_model('second')`);
    await again.client.end();
    await server.expectUnharmed();
  });

  test.each(MOMENTS_MS)('%i ms into an install: the next one completes it', async (moment) => {
    await query(server.url, `create database fresh template template0 encoding 'UTF8'`);
    const url = new URL(server.url);
    url.pathname = '/fresh';
    const client = new pg.Client({ connectionString: url.toString() });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const running = install(client).then(
      () => 'installed',
      () => 'failed',
    );
    await sleep(moment);
    await kill(rows[0]!.pid);
    await running;
    await server.waitUntilUp();
    const again = new pg.Client({ connectionString: url.toString() });
    await again.connect();
    await install(again);
    await again.end();
    const objects = `select count(*)::integer as n from pg_proc where pronamespace = 'hartonomous'::regnamespace`;
    expect(await query(url.toString(), objects)).toEqual(await query(server.url, objects));
    await query(server.url, 'drop database fresh with (force)');
    await server.expectUnharmed();
  });
});

describe('the server is stopped during a generation', () => {
  test('smart: the statement ends as it would have', async () => {
    const { client } = await server.open();
    const running = client.query(ASK);
    server.control('-m', 'smart', '-W', 'stop');
    expect((await running).rows).toEqual(server.answer);
    await client.end();
    await server.waitUntilDown();
    await server.cluster.up();
    await server.expectUnharmed();
  });

  test.each(['fast', 'immediate'])(
    '%s: the statement fails, and after the start all is there, what it counts too',
    async (mode) => {
      const role = `counted_${mode}`;
      await query(server.url, `create role ${role}`);
      await query(server.url, `grant hartonomous_user to ${role}`);
      const { client } = await server.open({ settings: [`set role ${role}`] });
      await client.query(ASK);
      const running = failure(client.query(ENDLESS));
      await sleep(300);
      server.control('-m', mode, '-w', 'stop');
      expect(await running).toMatch(SESSION_ENDED);
      await server.cluster.up();
      await server.expectUnharmed();
      if (!OWN_LANGUAGE) return;
      await query(server.url, `select hartonomous.set_limit('max_tokens_per_hour', 1, '${role}')`);
      const again = await server.open({ settings: [`set role ${role}`] });
      await expect(again.client.query(ASK)).rejects.toThrow(
        /used \d+ tokens within an hour, limit max_tokens_per_hour is 1/,
      );
      await again.client.end();
    },
  );
});

describe('the connection is cut during a generation', () => {
  test('the backend ends, and nothing is recorded', async () => {
    const before = await query(server.url, 'select count(*) from hartonomous.run_list');
    const { client, pid } = await server.open({ parameters: '-c client_connection_check_interval=200ms' });
    const running = failure(client.query(ENDLESS));
    await sleep(300);
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await running;
    for (let tries = 0; ; tries++) {
      const [row] = await query(server.url, 'select count(*)::integer as n from pg_stat_activity where pid = $1', [
        pid,
      ]);
      if (row?.n === 0) break;
      if (tries === 200) throw new Error('the backend of the cut connection still runs');
      await sleep(50);
    }
    expect(await query(server.url, 'select count(*) from hartonomous.run_list')).toEqual(before);
    await server.expectUnharmed();
  });
});

describe('a time limit of PostgreSQL', () => {
  test('statement_timeout ends the statement, and the session answers the next one', async () => {
    const { client } = await server.open({ settings: [`set statement_timeout = '400ms'`] });
    expect(await failure(client.query(ENDLESS))).toBe('57014');
    await client.query('reset statement_timeout');
    expect((await client.query(ASK)).rows).toEqual(server.answer);
    await client.end();
  });

  test('lock_timeout ends a call that waits for a lock', async () => {
    const blocker = await server.open();
    await blocker.client.query('begin');
    await blocker.client.query('lock table hartonomous.models in access exclusive mode');
    const { client } = await server.open({ settings: [`set lock_timeout = '200ms'`] });
    expect(await failure(client.query(ASK))).toBe('55P03');
    await blocker.client.query('rollback');
    expect((await client.query(ASK)).rows).toEqual(server.answer);
    await client.end();
    await blocker.client.end();
  });

  test('idle_in_transaction_session_timeout takes the recorded run back with the transaction', async () => {
    const before = await query(server.url, 'select count(*) from hartonomous.run_list');
    const { client } = await server.open({ settings: [`set idle_in_transaction_session_timeout = '200ms'`] });
    await client.query('begin');
    await client.query(ASK.replace('"raw"', '"record": true, "raw"'));
    await sleep(1000);
    expect(await failure(client.query('commit'))).toMatch(/25P03|Connection terminated|not queryable/);
    expect(await query(server.url, 'select count(*) from hartonomous.run_list')).toEqual(before);
    await server.expectUnharmed();
  });
});
