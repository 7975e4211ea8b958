/** The views engine_list and engine_requests: what the engine of a database does, and for whom. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { STORIES, TINY, foreign, pidOf, useEngineServer } from './server.ts';

/** Answers that an engine computes at a time, of one model. */
const PLACES = 16;
const ADMIN = 'carla';

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  await server.asAdmin(`create role ${ADMIN} login password 'secret'; grant hartonomous_admin to ${ADMIN}`);
});

async function rows(client: pg.Client, view: string): Promise<Record<string, unknown>[]> {
  return (await client.query(`select * from hartonomous.${view}`)).rows as Record<string, unknown>[];
}

async function generate(client: pg.Client, prompt: string, options: object, model = STORIES): Promise<void> {
  await client.query('select hartonomous.generate($1::text, $2, $3::json)', [prompt, model, JSON.stringify(options)]);
}

/** Begin a call that writes until it is cancelled; what it ends with. */
async function begin(client: pg.Client): Promise<unknown> {
  const { prompt, options, model } = server.endless;
  try {
    await generate(client, prompt, options, model);
  } catch (error) {
    return (error as pg.DatabaseError).code;
  }
  throw new Error('an endless answer has ended');
}

/** Until the engine has so many requests in each state. */
function untilStates(running: number, waiting: number): Promise<void> {
  return server.until(
    `${running} running and ${waiting} waiting requests`,
    `select (requests_running, requests_waiting) = (${running}, ${waiting}) from hartonomous.engine_list`,
    'hartonomous',
  );
}

/** The engine's counts so far. */
async function counts(client: pg.Client): Promise<Record<string, number>> {
  const [row] = await rows(client, 'engine_list');
  const names = ['answers', 'failures', 'prompt_tokens', 'reused_tokens', 'generated_tokens'];
  return Object.fromEntries(names.map((name) => [name, Number(row?.[name] ?? 0)]));
}

describe.skipIf(foreign)('what an engine does', () => {
  it('is not to be seen where none runs, nor where a session has none of what our host has beyond PL/V8', async () => {
    const client = await server.open();
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    await server.untilEngines(0);
    expect(await rows(client, 'engine_list')).toEqual([]);
    expect(await rows(client, 'engine_requests')).toEqual([]);
    await generate(client, 'Once', { num_predict: 1 });
    expect(await rows(client, 'engine_list')).toHaveLength(1);
    const other = await server.open();
    await other.query('set hartonomous_v8.extras = off');
    expect(await rows(other, 'engine_list')).toEqual([]);
    expect(await rows(other, 'engine_requests')).toEqual([]);
  });

  it('is counted by answers, errors, tokens and what a cache had of them', async () => {
    const client = await server.open('anna');
    await generate(client, 'Once upon a time', { num_predict: 1 });
    const before = await counts(client);
    const options = { raw: true, temperature: 0, num_predict: 9, repeat_penalty: 1 };
    for (let i = 0; i < 2; i++) await generate(client, 'A cat and a dog and a horse', options);
    const tokens = Number(
      (await client.query(`select hartonomous.token_count('A cat and a dog and a horse', '${STORIES}') as n`)).rows[0]
        .n,
    );
    await expect(generate(client, 'word '.repeat(100), { raw: true, num_ctx: 16 })).rejects.toThrow(
      'the context holds 16',
    );
    const after = await counts(client);
    const more = Object.fromEntries(Object.entries(after).map(([name, count]) => [name, count - before[name]!]));
    expect(more).toMatchObject({ answers: 2, failures: 1, generated_tokens: 18 });
    // Of the second one all but the last token, of the first one what an earlier prompt begins with.
    expect(more.reused_tokens).toBeGreaterThanOrEqual(tokens - 1);
    expect(more.reused_tokens).toBeLessThan(more.prompt_tokens!);
    const [row] = await rows(client, 'engine_list');
    expect(row).toMatchObject({ pid: (await server.engines())[0], requests_running: 0, requests_waiting: 0 });
    expect(row!.models).toContain(STORIES);
    expect(Number(row!.busy_ns)).toBeGreaterThan(0);
    expect(Number(row!.first_token_ns)).toBeGreaterThan(0);
    expect(Number(row!.cached_tokens)).toBeGreaterThanOrEqual(tokens);
    expect(Number(row!.memory_bytes)).toBeGreaterThan(Number(row!.cache_bytes));
    expect(row!.mean_batch).toBe(1);
  });

  it('is shown request by request: those that are computed together, and those that wait for a place', async () => {
    const clients = await Promise.all(Array.from({ length: PLACES + 2 }, () => server.open('anna')));
    const pids = await Promise.all(clients.map(pidOf));
    const running = clients.map(begin);
    await untilStates(PLACES, 2);
    await server.until('a full batch', `select latest_batch = ${PLACES} from hartonomous.engine_list`, 'hartonomous');
    await server.until(
      'every place writes',
      `select count(*) = ${PLACES} from hartonomous.engine_requests where state = 'writing'`,
      'hartonomous',
    );
    const seen = await rows(await server.open('anna'), 'engine_requests');
    expect(seen.map(({ pid }) => pid as number).sort()).toEqual(pids.sort());
    for (const row of seen) {
      expect(row).toMatchObject({ caller: 'anna', model: TINY });
      expect(Number(row.prompt_tokens)).toBeGreaterThan(0);
      const writes = row.state === 'writing';
      expect(row.state).toBe(writes ? 'writing' : 'waiting');
      expect(Number(row.eval_count) > 0).toBe(writes);
      expect(row.first_token_ns !== null).toBe(writes);
    }
    await server.cancel('anna');
    expect(await Promise.all(running)).toEqual(clients.map(() => '57014'));
    await untilStates(0, 0);
  });

  it('is shown to whoever asked, and to admins, to nobody else', async () => {
    const [anna, ben] = await Promise.all([server.open('anna'), server.open('ben')]);
    const running = [anna, ben].map(begin);
    await untilStates(2, 0);
    const callers = async (client: pg.Client, relation = 'engine_requests'): Promise<unknown[]> => {
      const sql = `select r.* from hartonomous.${relation} r order by pid`;
      return (await client.query(sql)).rows.map((row: Record<string, unknown>) => row.caller ?? row.pid);
    };
    expect(await callers(await server.open('anna'))).toEqual(['anna']);
    expect(await callers(await server.open('ben'))).toEqual(['ben']);
    expect((await callers(await server.open(ADMIN))).sort()).toEqual(['anna', 'ben']);
    expect((await callers(await server.open())).sort()).toEqual(['anna', 'ben']);
    // Nor by the function behind the view, nor in another's name.
    expect(await callers(await server.open('anna'), `_requests_of_engine('ben')`)).toEqual([]);
    expect(await callers(await server.open('anna'), `_requests_of_engine('${ADMIN}')`)).toEqual([]);
    const superuser = await server.open();
    await superuser.query('set role ben');
    expect(await callers(superuser)).toEqual(['ben']);
    await server.cancel('anna');
    await server.cancel('ben');
    expect(await Promise.all(running)).toEqual(['57014', '57014']);
  });
});
