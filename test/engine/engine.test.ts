/** Calls that the engine of a database computes: the same answers, rows and errors as without it, whoever comes and goes. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, errorOf, foreign, loaded, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

interface Call {
  prompt: string;
  model: string;
  options: Record<string, unknown>;
}

const CALLS: Call[] = [STORIES, QWEN, TINY].flatMap((model, m) =>
  ['Once upon a time', 'Hello', 'A dog and a cat went out and', 'Why?'].map((prompt, i) => ({
    prompt,
    model,
    options: [
      { temperature: 0, num_predict: 20, seed: 2 },
      { temperature: 0.8, seed: 10 * m + i, num_predict: 30, raw: true },
      { temperature: 1.1, seed: i, top_k: 0, stop: ['e'], num_predict: 25 },
      { seed: 3, num_predict: 12, cache: false, repeat_penalty: 1.4 },
    ][(i + m) % 4]!,
  })),
);

async function generate(client: pg.Client, { prompt, model, options }: Call): Promise<string> {
  const { rows } = await client.query<{ text: string }>('select hartonomous.generate($1::text, $2, $3::json) as text', [
    prompt,
    model,
    JSON.stringify(options),
  ]);
  return rows[0]!.text;
}

async function stream(client: pg.Client, { prompt, model, options }: Call): Promise<unknown[]> {
  const sql = 'select * from hartonomous.generate_stream($1::text, $2, $3::json)';
  return (await client.query(sql, [prompt, model, JSON.stringify(options)])).rows as unknown[];
}

/** Recorded runs without what differs from run to run. */
async function takeRuns(client: pg.Client): Promise<unknown[]> {
  const { rows } = await client.query(
    `with gone as (delete from hartonomous.runs returning *)
     select to_jsonb(r) - '{id,created_at,load_ns,prompt_eval_ns,eval_ns,total_ns,prompt_eval_count}'::text[] as run from gone r order by id`,
  );
  return rows as unknown[];
}

describe.skipIf(foreign)('answers of an engine', () => {
  it('are those of one session after the other without it, from many at once and step by step', async () => {
    await server.set('engine = off');
    const alone = await server.open('anna');
    const texts: string[] = [];
    for (const call of CALLS) texts.push(await generate(alone, call));
    const steps: unknown[] = [];
    for (const call of CALLS) steps.push(await stream(alone, call));
    expect(await server.engines()).toEqual([]);

    await server.set('engine = on');
    const clients = await Promise.all(CALLS.map((_, i) => server.open(i % 2 === 0 ? 'anna' : 'ben')));
    for (let round = 0; round < 3; round++)
      expect(await Promise.all(CALLS.map((call, i) => generate(clients[i]!, call)))).toEqual(texts);
    expect(await Promise.all(CALLS.map((call, i) => stream(clients[i]!, call)))).toEqual(steps);
    expect(await server.engines()).toHaveLength(1);
    // The sessions have loaded nothing.
    const { rows } = await clients[0]!.query('select * from hartonomous.loaded_models');
    expect(rows).toEqual([]);
  });

  it('are recorded as they are without it', async () => {
    const recorded = CALLS.map((call) => ({ ...call, options: { ...call.options, record: true } }));
    const runs: unknown[][] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      for (const call of recorded) await generate(client, call);
      for (const call of recorded) await stream(client, call);
      const admin = await server.open();
      const { rows: tokens } = await admin.query(
        `select array_agg(t.token order by position) as tokens, array_agg(t.text order by position) as texts,
           array_agg(t.logit order by position) as logits, array_agg(t.logprob order by position) as logprobs
         from hartonomous.run_tokens t group by run_id order by run_id`,
      );
      runs.push([tokens, await takeRuns(admin)]);
    }
    expect(runs[0]![1]).toHaveLength(2 * CALLS.length);
    expect(runs[1]).toEqual(runs[0]);
  });

  it('end in the same errors', async () => {
    const bad: [string, string | null, object][] = [
      ['Hello', 'nobody', {}],
      ['Hello', STORIES, { temperature: -1 }],
      ['Hello', STORIES, { wrong: 1 }],
      ['Hello', STORIES, { num_ctx: 1_000_000 }],
      ['word '.repeat(100), STORIES, { num_ctx: 16, raw: true }],
      ['', STORIES, { raw: true, num_ctx: 0 }],
      ['Hello', STORIES, { think: true }],
      ['Hello', STORIES, { logit_bias: { 100000: 1 } }],
      ['Hello', STORIES, { template: 'no such' }],
      ['Hello', STORIES, { tool_choice: 'required' }],
      ['Hello', QWEN, { template: '{{ nothing( }}' }],
    ];
    const seen: unknown[][] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      const errors: unknown[] = [];
      for (const [prompt, model, options] of bad)
        errors.push(
          await errorOf(
            client.query('select hartonomous.generate($1::text, $2, $3::json)', [
              prompt,
              model,
              JSON.stringify(options),
            ]),
          ),
        );
      seen.push(errors);
      // And the session and the engine go on.
      expect(await generate(client, CALLS[0]!)).not.toBe('');
    }
    expect(seen[1]).toEqual(seen[0]);
  });

  it('are computed by the session itself where the engine has no room for the model beside those it computes with', async () => {
    await server.setStored('max_loaded_models', 1);
    const [busy, other] = await Promise.all([server.open('anna'), server.open('ben')]);
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    const endless = errorOf(generate(busy!, server.endless));
    await server.untilWriting(1);
    expect(await generate(other!, CALLS[0]!)).not.toBe('');
    const { rows } = await other!.query('select model from hartonomous.loaded_models');
    expect(rows).toEqual([{ model: CALLS[0]!.model }]);
    await server.asAdmin(
      `select pg_cancel_backend(pid) from pg_stat_activity where usename = 'anna' and state = 'active'`,
    );
    expect(await endless).toMatchObject({ code: '57014' });
    await server.setStored('max_loaded_models', 3);
  });

  it('are computed by the session itself where the engine does not see the model', async () => {
    const session = await server.open();
    const call = { prompt: 'Once', model: 'renamed', options: { temperature: 0, num_predict: 5 } };
    await session.query('begin');
    await session.query(`update hartonomous.models set name = 'renamed' where name = '${STORIES}'`);
    expect(await generate(session, call)).not.toBe('');
    const { rows } = await session.query('select model from hartonomous.loaded_models');
    expect(rows).toEqual([{ model: 'renamed' }]);
    await session.query('rollback');
  });

  it('are written by the settings of the model that the session sees, which may not be committed', async () => {
    const call = { prompt: 'Once', model: STORIES, options: {} };
    const short = `update hartonomous.models set default_options = '{"temperature": 0, "num_predict": 3}' where name = '${STORIES}'`;
    const texts: string[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      await generate(await server.open('anna'), { ...call, options: { num_predict: 1 } });
      const session = await server.open();
      await session.query('begin');
      await session.query(short);
      texts.push(await generate(session, call));
      await session.query('rollback');
    }
    expect(texts[1]).toBe(texts[0]);
  });

  it('come from the session itself where it holds a lock that the engine would wait for', async () => {
    const session = await server.open();
    const expected = await generate(session, CALLS[0]!);
    await session.query('begin');
    await session.query('lock table hartonomous.models in access exclusive mode');
    await session.query(`set local statement_timeout = '20s'`);
    expect(await generate(session, CALLS[0]!)).toBe(expected);
    await session.query('commit');
    expect(await server.engines()).toHaveLength(1);
  });

  it('come from the session itself where the settings of its database let the engine take no requests', async () => {
    const expected = await generate(await server.open('anna'), CALLS[0]!);
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    await server.untilEngines(0);
    await server.set('extras = off');
    try {
      const session = await server.open();
      await session.query('set hartonomous_v8.extras = on');
      await session.query(`set statement_timeout = '20s'`);
      expect(await generate(session, CALLS[0]!)).toBe(expected);
      await server.untilEngines(0);
    } finally {
      await server.asAdmin('alter database hartonomous reset hartonomous_v8.extras');
    }
  });
});

describe.skipIf(foreign)('an engine', () => {
  it('lets go of a request whose caller is cancelled or gone, and the others get theirs', async () => {
    const expected = await generate(await server.open('anna'), CALLS[0]!);
    const [cancelled, ended, other] = await Promise.all([server.open('anna'), server.open('ben'), server.open('ben')]);
    const pids = await Promise.all(
      [cancelled, ended].map(
        async (client) => (await client!.query('select pg_backend_pid() as pid')).rows[0].pid as number,
      ),
    );
    for (let round = 0; round < 5; round++) {
      const endless = errorOf(generate(cancelled!, server.endless));
      expect(await generate(other!, CALLS[0]!)).toBe(expected);
      await server.asAdmin(`select pg_cancel_backend(${pids[0]})`);
      expect(await endless).toMatchObject({ code: '57014' });
      await server.untilIdle();
    }
    const endless = errorOf(generate(ended!, server.endless));
    await server.untilWriting(1);
    await server.asAdmin(`select pg_terminate_backend(${pids[1]})`);
    expect(await endless).toMatchObject({ code: '57P01' });
    await server.untilIdle();
    expect(await generate(other!, CALLS[0]!)).toBe(expected);
  });

  it('that is ended while it computes costs nobody an answer', async () => {
    await server.set('engine = off');
    const texts: string[] = [];
    const alone = await server.open('anna');
    for (const call of CALLS) texts.push(await generate(alone, call));
    await server.set('engine = on');
    const clients = await Promise.all(CALLS.map(() => server.open('anna')));
    for (let round = 0; round < 5; round++) {
      await generate(clients[0]!, CALLS[0]!);
      const answers = Promise.all(CALLS.map((call, i) => generate(clients[i]!, call)));
      await server.asAdmin(
        `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
      );
      expect(await answers).toEqual(texts);
    }
  });

  it('refuses more requests than it may have', async () => {
    await server.set('engine_requests = 2');
    const clients = await Promise.all([1, 2, 3].map(() => server.open('anna')));
    const running = clients.slice(0, 2).map((client) => errorOf(generate(client, server.endless)));
    await server.untilWriting(2);
    expect(await errorOf(generate(clients[2]!, server.endless))).toEqual({
      code: '53300',
      message: 'the engine of this database has 2 requests, hartonomous_v8.engine_requests is 2',
      detail: undefined,
      hint: 'Call again later.',
    });
    await server.asAdmin(
      `select pg_cancel_backend(pid) from pg_stat_activity where usename = 'anna' and state = 'active'`,
    );
    for (const each of running) expect(await each).toMatchObject({ code: '57014' });
    await server.untilIdle();
    expect(await generate(clients[2]!, CALLS[0]!)).not.toBe('');
  });

  it('has room for who was answered as soon as the answer is there, with JavaScript in the backend and without', async () => {
    await server.set('engine_requests = 1');
    for (const prepare of ['select 1', `select hartonomous.tokenize('a', '${TINY}')`]) {
      const client = await server.open('anna');
      await client.query(prepare);
      const sql = `select count(hartonomous.generate('Once' || i, '${TINY}', '{"num_predict": 1, "raw": true}')) as n from generate_series(1, 300) i`;
      expect((await client.query(sql)).rows).toEqual([{ n: '300' }]);
      expect(await loaded(client)).toEqual([]);
    }
  });

  it('holds no snapshot and no transaction while it is idle, and ends after a while', async () => {
    await server.set(`engine_idle = '1s'`);
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    await server.untilEngines(0);
    const client = await server.open('anna');
    await generate(client, CALLS[0]!);
    await server.untilIdle();
    const held = await server.asAdmin(
      `select a.xact_start, a.backend_xmin, a.backend_xid,
         (select count(*)::integer from pg_locks l where l.pid = a.pid and l.locktype <> 'advisory') as locks
       from pg_stat_activity a where backend_type = 'hartonomous engine'`,
    );
    expect(held).toEqual([{ xact_start: null, backend_xmin: null, backend_xid: null, locks: 0 }]);
    await server.untilEngines(0);
    expect(await generate(client, CALLS[0]!)).not.toBe('');
  });

  it('ends where functions of another build are installed while it computes, and its callers go on', async () => {
    const id = await server.build();
    const endless = errorOf(generate(await server.open('anna'), server.endless));
    await server.untilWriting(1);
    await server.rebuild(id, '0123456789abcdef');
    await server.untilEngines(0);
    await server.asAdmin(
      `select pg_cancel_backend(pid) from pg_stat_activity where usename = 'anna' and state = 'active'`,
    );
    expect(await endless).toMatchObject({ code: '57014' });
    await server.rebuild('0123456789abcdef', id);
    expect(await generate(await server.open('anna'), CALLS[0]!)).not.toBe('');
  });

  it('stands in the way of nobody who drops, renames or copies its database', async () => {
    await server.endSessions();
    const fill = async (database: string): Promise<void> => {
      await server.asAdmin(
        `alter database ${database} set hartonomous_v8.segment_role = 'hartonomous_owner'`,
        'postgres',
      );
      const client = await server.open(undefined, database);
      await client.query('set hartonomous_v8.engine = on');
      await generate(client, CALLS[0]!);
      await client.end();
      await server.untilEngines(1);
    };
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
      'postgres',
    );
    await server.untilEngines(0);
    await server.asAdmin('create database copied template hartonomous', 'postgres');
    await fill('copied');
    await server.asAdmin('create database again template copied', 'postgres');
    await fill('copied');
    await server.asAdmin('alter database copied rename to other', 'postgres');
    await fill('other');
    await server.asAdmin('drop database other', 'postgres');
    await server.asAdmin('drop database again', 'postgres');
    expect(await server.engines()).toEqual([]);
  });

  it('serves only functions of the owner', async () => {
    const admin = await server.open();
    await admin.query(
      `create function asks() returns text language plv8 as $$ return plv8.engine.ask(1, '', () => true) $$`,
    );
    await admin.query(
      `create function takes() returns text language plv8 as $$ return JSON.stringify(plv8.engine.take()) $$`,
    );
    for (const name of ['asks', 'takes'])
      expect(await errorOf(admin.query(`select ${name}()`))).toMatchObject({
        code: '42501',
        message: 'permission denied for engine',
      });
    const anna = await server.open('anna');
    expect(await errorOf(anna.query('select hartonomous._engine_turn()'))).toMatchObject({ code: '42501' });
    await admin.query('drop function asks(); drop function takes()');
  });

  it('keeps what it computed for one role from others', async () => {
    const prompt = 'Once upon a time there was a little girl who had a red ball and a blue hat and';
    const call = { prompt, model: STORIES, options: { raw: true, num_predict: 2, record: true, seed: 1 } };
    const admin = await server.open();
    await admin.query('delete from hartonomous.runs');
    for (const role of ['anna', 'ben', 'anna', 'ben']) await generate(await server.open(role), call);
    const { rows } = await admin.query<{ n: number; prompt: number }>(
      'select prompt_eval_count as n, cardinality(prompt_ids) as prompt from hartonomous.runs order by id',
    );
    expect(rows.map(({ n, prompt: all }) => all - n)).toEqual([0, 0, rows[0]!.prompt - 1, rows[0]!.prompt - 1]);
  });

  it('goes on with a model that is removed until its answers are written, and knows it no more then', async () => {
    const before = { prompt: 'Hello', model: TINY, options: { temperature: 0, num_predict: 8 } };
    const [client, other] = await Promise.all([server.open('anna'), server.open('ben')]);
    const expected = await generate(client!, before);
    const endless = errorOf(generate(client!, server.endless));
    await server.asAdmin(`select hartonomous.stop_model('${TINY}')`);
    expect(await generate(other!, before)).toBe(expected);
    await server.asAdmin(`select hartonomous.remove_model('${TINY}')`);
    expect(await errorOf(generate(other!, before))).toMatchObject({ code: '42704' });
    await server.asAdmin(
      `select pg_cancel_backend(pid) from pg_stat_activity where usename = 'anna' and state = 'active'`,
    );
    expect(await endless).toMatchObject({ code: '57014' });
    expect(await errorOf(generate(other!, before))).toMatchObject({ code: '42704' });
  });
});
