/** Engines and hot standbys: one that replays what happens beside an engine, and one that has an engine of its own. */
import pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { Standby } from '../scale/servers.ts';
import type { EngineServer } from './server.ts';
import { ENGINE, QWEN, STORIES, TINY, errorOf, foreign, useEngineServer } from './server.ts';

let server: EngineServer;
let standby: Standby;

useEngineServer(async (started) => {
  server = started;
  await server.set('engine = on');
  standby = await Standby.follow(server.url);
});
afterAll(() => standby?.destroy());

/** A session on the standby; with `parameters` as PGOPTIONS has them. */
async function connect(role?: string, parameters?: string, database = 'hartonomous'): Promise<pg.Client> {
  const url = new URL(standby.url);
  url.pathname = `/${database}`;
  if (role !== undefined) [url.username, url.password] = [role, 'secret'];
  const client = new pg.Client({ connectionString: url.toString(), ...(parameters && { options: parameters }) });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** What a session of the standby's superuser answers, which needs a right to say that it computes itself. */
async function ask(sql: string, parameters?: string, database?: string): Promise<unknown> {
  const client = await connect(undefined, parameters, database);
  try {
    return (await client.query(sql)).rows;
  } catch (error) {
    const { code, message, hint } = error as pg.DatabaseError;
    return { code, message, hint };
  } finally {
    await client.end();
  }
}

async function engines(): Promise<unknown> {
  return ask(`select datname, state from pg_stat_activity where backend_type = '${ENGINE}'`, undefined, 'postgres');
}

async function catchUp(): Promise<void> {
  await standby.catchUp(server.url);
}

function generate(prompt: string, model: string, options: object): string {
  return `select hartonomous.generate('${prompt}', '${model}', '${JSON.stringify(options)}') as text`;
}

const OFF = '-c hartonomous_v8.engine=off';
const OPTIONS = { seed: 4, num_predict: 20 };
const CALLS = [
  ...[STORIES, QWEN, TINY].map((model) => generate('Once upon a time', model, OPTIONS)),
  generate('Hello', STORIES, { ...OPTIONS, record: true }),
  generate('Hello', 'nobody', OPTIONS),
  generate('Hello', STORIES, { wrong: 1 }),
  `select hartonomous.complete('Hello', '${STORIES}', '{"seed": 1, "num_predict": 9, "record": true}') ->> 'run_id' as run`,
  `select string_agg(token, '|' order by step) from hartonomous.generate_stream('Hello', '${STORIES}', '{"seed": 1, "num_predict": 9}')`,
];

describe.skipIf(foreign)('an engine on a hot standby', () => {
  it('gives the answers and errors that sessions there give, and records nothing', async () => {
    await catchUp();
    const alone: unknown[] = [];
    for (const sql of CALLS) alone.push(await ask(sql, OFF));
    expect(await engines()).toEqual([]);
    const asked: unknown[] = [];
    for (const sql of CALLS) asked.push(await ask(sql));
    expect(asked).toEqual(alone);
    expect(await engines()).toMatchObject([{ datname: 'hartonomous' }]);
    expect(await ask('select answers > 4 as many, failures from hartonomous.engine_list')).toMatchObject([
      { many: true },
    ]);
    expect(await ask('select count(*)::integer as n from hartonomous.runs')).toEqual([{ n: 0 }]);
  });

  it('refuses who has to be recorded, as a session does, and counts calls', async () => {
    await server.asAdmin(`select hartonomous.set_limit('recording', 1, 'anna')`);
    await server.asAdmin(`select hartonomous.set_limit('max_calls_per_hour', 2, 'ben')`);
    await catchUp();
    const [anna, ben] = await Promise.all([connect('anna'), connect('ben')]);
    expect(await errorOf(anna.query(CALLS[0]!))).toMatchObject({ code: '25006' });
    await ben.query(CALLS[0]!);
    await ben.query(CALLS[0]!);
    expect(await errorOf(ben.query(CALLS[0]!))).toMatchObject({ code: '53400' });
    await Promise.all([anna.end(), ben.end()]);
    await server.asAdmin(`select hartonomous.set_limit('recording', null, 'anna')`);
    await server.asAdmin(`select hartonomous.set_limit('max_calls_per_hour', null, 'ben')`);
    await catchUp();
  });

  it('lets everything be replayed while it is idle, and while it computes: a table locked and rewritten, a model replaced, removed', async () => {
    expect(await ask(CALLS[0]!)).toHaveLength(1);
    await server.asAdmin('vacuum full hartonomous.models');
    await catchUp();
    const client = await connect('anna');
    const { prompt, model, options } = server.endless;
    const endless = errorOf(client.query(generate(prompt, model, options)));
    for (let i = 0; ; i++) {
      const states = (await engines()) as { state: string }[];
      if (states[0]?.state === 'active') break;
      expect(i).toBeLessThan(1000);
    }
    await server.asAdmin(`update hartonomous.models set name = 'renamed' where name = '${QWEN}'`);
    await server.asAdmin(`select hartonomous.stop_model('${STORIES}')`);
    await server.asAdmin(`select hartonomous.remove_model('renamed')`);
    await catchUp();
    expect(await ask(generate('Hello', QWEN, OPTIONS))).toMatchObject({ code: '42704' });
    expect(await ask(CALLS[0]!)).toEqual(await ask(CALLS[0]!, OFF));
    await ask(`select pg_cancel_backend(pid) from pg_stat_activity where usename = 'anna'`);
    expect(await endless).toMatchObject({ code: '57014' });
    await client.end();
  });

  it('goes with its database, and stays where that is renamed', async () => {
    await server.endSessions();
    await server.asAdmin('create database copied template hartonomous', 'postgres');
    for (const setting of ["segment_role = 'hartonomous_owner'", 'engine = on'])
      await server.asAdmin(`alter database copied set hartonomous_v8.${setting}`, 'postgres');
    await catchUp();
    const [expected] = (await ask(CALLS[0]!, OFF)) as unknown[];
    expect(await ask(CALLS[0]!, undefined, 'copied')).toEqual([expected]);
    await server.asAdmin('alter database copied rename to other', 'postgres');
    await catchUp();
    expect(await ask(CALLS[0]!, undefined, 'other')).toEqual([expected]);
    const client = await connect('anna', undefined, 'other');
    const { prompt, model, options } = server.endless;
    const endless = errorOf(client.query(generate(prompt, model, options)));
    const there = (): Promise<unknown> =>
      ask(`select count(*)::integer as n from hartonomous.engine_requests`, undefined, 'other');
    for (let i = 0; JSON.stringify(await there()) !== '[{"n":1}]'; i++) expect(i).toBeLessThan(1000);
    await server.asAdmin('drop database other', 'postgres');
    await catchUp();
    expect(await endless).toMatchObject({ code: '57P04' });
    expect(await engines()).not.toContainEqual(expect.objectContaining({ datname: 'other' }));
    expect(await ask(CALLS[0]!)).toEqual([expected]);
  });

  // The last one: afterwards it is no standby any more.
  it('goes on where it is promoted in the middle of an answer, which records from then on', async () => {
    const long = generate('Once', TINY, { ...server.endless.options, seed: 1, num_predict: 3000 });
    const [alone] = (await (await server.open()).query(long)).rows as unknown[];
    const running = ask(long);
    await ask(CALLS[0]!);
    standby.promote();
    expect(await running).toEqual([alone]);
    const [pid] = (await ask('select pid from hartonomous.engine_list')) as [{ pid: number }];
    await ask(CALLS[3]!);
    expect(await ask('select count(*)::integer as n from hartonomous.runs')).toEqual([{ n: 1 }]);
    expect(await ask('select pid from hartonomous.engine_list')).toEqual([pid]);
  });
});
