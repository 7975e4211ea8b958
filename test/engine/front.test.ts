/** Sessions whose calls the engine answers run no JavaScript: what that takes, and what is left to their own V8 all the same. */
import type pg from 'pg';
import { beforeEach, describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { ENGINE, STORIES, errorOf, foreign, generate, hasV8, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  await server.asAdmin(
    `update hartonomous.models set chat_template = '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>'
     where name = '${STORIES}'`,
  );
  await server.asAdmin(`create role cleo login password 'secret'; grant hartonomous_user to cleo`);
});
beforeEach(async () => {
  if (foreign) return;
  await server.asAdmin('delete from hartonomous.runs; delete from hartonomous.limits');
});

const OPTIONS = { num_predict: 8, seed: 7, temperature: 0.9, cache: false };

/** The first column of the first row. */
async function valueOf(client: pg.Client, sql: string, args: unknown[] = []): Promise<unknown> {
  const { rows } = await client.query<Record<string, unknown>>(sql, args);
  return Object.values(rows[0]!)[0];
}

const ask = (client: pg.Client, prompt = 'Once upon a time'): Promise<string> =>
  generate(client, prompt, STORIES, OPTIONS);

async function chat(client: pg.Client, messages: object[]): Promise<Record<string, unknown>> {
  const sql = 'select hartonomous.chat($1::text, $2, $3::json) as answer';
  return (await valueOf(client, sql, [JSON.stringify(messages), STORIES, JSON.stringify(OPTIONS)])) as Record<
    string,
    unknown
  >;
}

/** A session that asks the engine, and one that computes itself. */
async function both(): Promise<{ asking: pg.Client; alone: pg.Client }> {
  await server.set('engine = off');
  const alone = await server.open('anna');
  await server.set('engine = on');
  return { alone, asking: await server.open('anna') };
}

describe.skipIf(foreign)('a session whose calls the engine answers', () => {
  it('has no V8, and the answers of one that has', async () => {
    const { alone, asking } = await both();
    expect(await ask(asking)).toBe(await ask(alone));
    const sql = 'select hartonomous.complete($1, $2, $3::json)';
    const args = ['Once', STORIES, JSON.stringify({ ...OPTIONS, logprobs: true })];
    const lasting = (facts: unknown): object =>
      Object.fromEntries(Object.entries(facts as object).filter(([name]) => !/_at$|duration$/.test(name)));
    expect(lasting(await valueOf(asking, sql, args))).toEqual(lasting(await valueOf(alone, sql, args)));
    expect([await hasV8(asking), await hasV8(alone)]).toEqual([false, true]);
  });

  it('starts the engine where there is none', async () => {
    await server.asAdmin(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = '${ENGINE}'`);
    await server.untilEngines(0);
    const client = await server.open('anna');
    await ask(client);
    expect(await hasV8(client)).toBe(false);
    await server.untilEngines(1);
  });

  it('records runs in its own transaction, for its caller and its login', async () => {
    const { alone, asking } = await both();
    const messages = [{ role: 'user', content: 'Hello \u2028 "there"' }];
    const run = `select jsonb_build_object('caller', r.caller, 'login', r.login, 'kind', r.kind, 'options', r.options, 'seed', r.seed,
        'read', r.prompt_ids, 'written', r.output_ids, 'done', r.done_reason, 'counts', array[r.prompt_eval_count, r.eval_count],
        'sampling', r.sampling, 'held', r.held_as, 'build', r.build_id, 'parts', r.prompt_parts, 'end', array[r.end_id, r.end_logit],
        'tokens', (select jsonb_agg(to_jsonb(t) - 'run_id' order by t.position) from hartonomous.run_tokens t where t.run_id = r.id))
      from hartonomous.runs r where r.id = $1`;
    const recorded: unknown[] = [];
    for (const client of [alone, asking]) {
      const { run_id } = await chat(client, messages);
      const admin = await server.open();
      recorded.push(await valueOf(admin, run, [run_id]));
    }
    expect(recorded[0]).toEqual(recorded[1]);
    expect(recorded[1]).toMatchObject({ caller: 'anna', login: 'anna', kind: 'chat' });
    await asking.query('begin');
    await chat(asking, messages);
    await asking.query('rollback');
    expect(await server.asAdmin('select count(*)::int as runs from hartonomous.runs')).toEqual([{ runs: 2 }]);
    await asking.query('begin read only');
    expect(await chat(asking, messages)).not.toHaveProperty('run_id');
    await asking.query('commit');
  });

  it('records on behalf of the role that it has set, and follows its setting hartonomous.record', async () => {
    await server.asAdmin('grant ben to anna');
    const asking = await server.open('anna');
    await asking.query('set role ben; set hartonomous.record = on');
    await ask(asking);
    expect(await hasV8(asking)).toBe(false);
    expect(await server.asAdmin('select caller, login, kind from hartonomous.runs')).toEqual([
      { caller: 'ben', login: 'anna', kind: 'generate' },
    ]);
  });

  it('goes on from the tokens that were written, before V8 is there and after', async () => {
    const { alone, asking } = await both();
    const answers: unknown[][] = [];
    for (const client of [alone, asking]) {
      const messages: object[] = [{ role: 'user', content: 'Tell a story' }];
      const written: unknown[] = [];
      for (let turn = 0; turn < 3; turn++) {
        if (turn === 2) await client.query(`select hartonomous.tokenize('a', '${STORIES}')`);
        const answer = await chat(client, messages);
        const { rows } = await (
          await server.open()
        ).query('select prompt_ids, output_ids from hartonomous.runs where id = $1', [answer.run_id]);
        written.push(rows[0]);
        messages.push(answer.message as object, { role: 'user', content: 'And then?' });
      }
      answers.push(written);
    }
    expect(answers[1]).toEqual(answers[0]);
  });

  it('counts calls and tokens once, and is refused as any other', async () => {
    await server.asAdmin(`select hartonomous.set_limit('max_calls_per_hour', 3, 'cleo')`);
    const client = await server.open('cleo');
    await ask(client);
    await errorOf(client.query(`select hartonomous.generate('a', 'no such model')`));
    await ask(await server.open('cleo'));
    const third = await server.open('cleo');
    await ask(third);
    expect(await hasV8(third)).toBe(false);
    expect(await errorOf(ask(third))).toMatchObject({
      message: 'role cleo made 3 calls within an hour, limit max_calls_per_hour is 3',
    });
  });

  it('runs the function where its transaction may see something else, and where anything is wrong', async () => {
    const writing = await server.open();
    await writing.query('begin');
    await writing.query(`update hartonomous.models set name = 'renamed' where name = '${STORIES}'`);
    expect(await generate(writing, 'Once', 'renamed', OPTIONS)).not.toBe('');
    await writing.query('rollback');
    expect(await hasV8(writing)).toBe(true);
    const repeating = await server.open('anna');
    await repeating.query('begin isolation level repeatable read');
    await ask(repeating);
    await repeating.query('commit');
    expect(await hasV8(repeating)).toBe(true);
    const wrong = await server.open('anna');
    const known = await server.open('anna');
    await known.query(`select hartonomous.tokenize('a', '${STORIES}')`); // has V8 before it asks
    for (const [prompt, options] of [
      ['a', { bad: 1 }],
      ['a', { num_ctx: 1_000_000_000 }],
      ['a '.repeat(3000), { num_ctx: 512 }],
    ] as const) {
      const failing = (client: pg.Client): Promise<unknown> => errorOf(generate(client, prompt, STORIES, options));
      expect(await failing(wrong)).toEqual(await failing(known));
    }
  });

  it('answers on after it has recorded, in a row and in a transaction, until that changes something', async () => {
    const messages = JSON.stringify([{ role: 'user', content: 'Hello' }]);
    const sql = `select count(hartonomous.chat($1::text, $2, $3::json)) as n from generate_series(1, 3)`;
    const args = [messages, STORIES, JSON.stringify(OPTIONS)];
    const client = await server.open('anna');
    expect(await valueOf(client, sql, args)).toBe('3');
    await client.query('begin; create temporary table own (a text)');
    await client.query('rollback; begin');
    for (let i = 0; i < 3; i++) await valueOf(client, sql, args);
    await client.query('savepoint here');
    await valueOf(client, sql, args);
    await client.query('rollback to here');
    await valueOf(client, sql, args);
    expect(await hasV8(client)).toBe(false);
    await client.query('create temporary table own (a text)');
    await valueOf(client, sql, args);
    expect(await hasV8(client)).toBe(true);
    await client.query('commit');
    expect(await server.asAdmin('select count(*)::int as runs from hartonomous.runs')).toEqual([{ runs: 18 }]);
  });

  it('sees what its own statement has changed, after it has recorded as well', async () => {
    const messages = JSON.stringify([{ role: 'user', content: 'Hello' }]);
    const chatting = `hartonomous.chat('${messages}'::text, 'renamed', '${JSON.stringify(OPTIONS)}'::json)`;
    const client = await server.open();
    await client.query('begin');
    await chat(client, [{ role: 'user', content: 'Hello' }]);
    expect(await hasV8(client)).toBe(false);
    const { rows } = await client.query(
      `with renamed as (update hartonomous.models set name = 'renamed' where name = '${STORIES}' returning id)
       select case when (select count(*) from renamed) > 0 then ${chatting} ->> 'model' end as model`,
    );
    expect(rows).toEqual([{ model: 'renamed' }]);
    await client.query('rollback');
  });

  it('sees what its own statement has changed since that recorded', async () => {
    const args = [JSON.stringify([{ role: 'user', content: 'Hello' }]), STORIES, JSON.stringify(OPTIONS)];
    const sql = `with renamed as (
        update hartonomous.models set name = 'renamed' where name = $2 and hartonomous.chat($1::text, $2, $3::json) is not null returning id)
      select case when (select count(*) from renamed) > 0 then hartonomous.chat($1::text, $2, $3::json) end as answer`;
    const client = await server.open();
    await client.query('begin');
    expect(await errorOf(client.query(sql, args))).toMatchObject({ message: `model ${STORIES} does not exist` });
    await client.query('rollback');
  });

  it('tells of what it does not know in a schema, and of lines for the log', async () => {
    const client = await server.open('anna');
    await client.query('set client_min_messages = debug1');
    const heard: string[] = [];
    client.on('notice', ({ message }) => heard.push(String(message)));
    await generate(client, 'Once', STORIES, {
      ...OPTIONS,
      num_predict: 40,
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'boolean', colour: 'red' } } },
    });
    expect(await hasV8(client)).toBe(false);
    expect(heard.filter((message) => message.startsWith('hartonomous {"event":"generate"'))).toHaveLength(1);
    expect(heard.filter((message) => message.includes('colour'))).toHaveLength(1);
  });
});
