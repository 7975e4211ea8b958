/** Sessions whose tokens an engine computes, call by call: the rows and facts of a session that computes itself. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, foreign, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

type Facts = Record<string, unknown>;

interface Opening {
  prompt: unknown;
  model: string;
  options: object;
  /** Tokens asked for, call by call; the last number again and again until the end. */
  calls: number[];
}

const SESSIONS: Opening[] = [
  {
    prompt: 'Once upon a time',
    model: STORIES,
    options: { temperature: 0, seed: 9, num_predict: 17 },
    calls: [1, 3, 5],
  },
  { prompt: 'Hello', model: STORIES, options: { seed: 1, raw: true, num_predict: 20, top_logprobs: 2 }, calls: [1] },
  { prompt: 'A dog', model: QWEN, options: { seed: 2, num_predict: 12, temperature: 1.4, cache: false }, calls: [4] },
  { prompt: 'A dog', model: STORIES, options: { seed: 3, top_k: 0, stop: ['e'], num_predict: 25 }, calls: [2, 100] },
  { prompt: 'A', model: TINY, options: { seed: 4, num_predict: 30, repeat_penalty: 1.3 }, calls: [7] },
  { prompt: 'A', model: STORIES, options: { seed: 6, num_predict: 0 }, calls: [7] },
  {
    prompt: [{ role: 'user', content: 'A' }],
    model: TINY,
    options: {
      seed: 8,
      num_predict: 90,
      tools: [{ name: 'go', parameters: { type: 'object', properties: { n: { enum: [1.0] } }, required: ['n'] } }],
      tool_choice: 'required',
    },
    calls: [3, 1],
  },
  { prompt: 'A', model: STORIES, options: { seed: 5, num_predict: 9, grammar: 'root ::= "a" [bc]*' }, calls: [2] },
];

/** Facts that differ from call to call, or with what caches hold. */
const OF_THE_CALL = /^(run_id|prompt_eval_count|.*_duration)$/;

async function open(client: pg.Client, { prompt, model, options }: Opening): Promise<string> {
  const { rows } = await client.query<{ id: string }>('select hartonomous.open_session($1::json, $2, $3::json) as id', [
    JSON.stringify(prompt),
    model,
    JSON.stringify({ record: true, ...options }),
  ]);
  return rows[0]!.id;
}

async function next(client: pg.Client, id: string, n: number): Promise<Facts[]> {
  return (await client.query<Facts>('select * from hartonomous.next_tokens($1, $2)', [id, n])).rows;
}

async function close(client: pg.Client, id: string): Promise<Facts> {
  const { rows } = await client.query<{ facts: Facts }>('select hartonomous.close_session($1) as facts', [id]);
  return Object.fromEntries(Object.entries(rows[0]!.facts).filter(([name]) => !OF_THE_CALL.test(name)));
}

/** All rows of a session, and its facts. */
async function run(client: pg.Client, opening: Opening): Promise<{ rows: Facts[]; facts: Facts }> {
  const id = await open(client, opening);
  const rows: Facts[] = [];
  for (let i = 0; ; i++) {
    const more = await next(client, id, opening.calls[i] ?? opening.calls.at(-1)!);
    rows.push(...more);
    if (more.length === 0) return { rows, facts: await close(client, id) };
  }
}

async function generated(): Promise<number> {
  const rows = await server.asAdmin<{ n: string }>('select generated_tokens as n from hartonomous.engine_list');
  return Number(rows[0]?.n ?? 0);
}

async function takeRuns(): Promise<unknown[]> {
  return await server.asAdmin(
    `with gone as (delete from hartonomous.runs returning *)
     select to_jsonb(r) - '{id,created_at,load_ns,prompt_eval_ns,eval_ns,total_ns,prompt_eval_count}'::text[] as run from gone r order by run`,
  );
}

describe.skipIf(foreign)('sessions of an engine', () => {
  it('have the rows, facts and recorded runs that they have without it, beside one another', async () => {
    await server.set('engine = off');
    const alone: unknown[] = [];
    for (const opening of SESSIONS) alone.push(await run(await server.open('anna'), opening));
    const runs = await takeRuns();
    expect(runs).toHaveLength(SESSIONS.length);
    await server.set('engine = on');
    await run(await server.open('ben'), SESSIONS[0]!); // starts it
    await takeRuns();
    const before = await generated();
    const clients = await Promise.all(SESSIONS.map(() => server.open('anna')));
    const asked = await Promise.all(SESSIONS.map((opening, i) => run(clients[i]!, opening)));
    expect(asked).toEqual(alone);
    expect(await takeRuns()).toEqual(runs);
    // And it was the engine that wrote them.
    const tokens = asked.flatMap(({ rows }) => rows.filter(({ token_id: id }) => id !== null));
    expect((await generated()) - before).toBe(tokens.length);
  });

  it('go back where a transaction is rolled back, and on from there', async () => {
    const opening = SESSIONS[1]!;
    await server.set('engine = off');
    const { rows } = await run(await server.open('anna'), opening);
    await server.set('engine = on');
    const client = await server.open('anna');
    const id = await open(client, opening);
    expect(await next(client, id, 3)).toEqual(rows.slice(0, 3));
    for (const n of [1, 4, 2]) {
      await client.query('begin');
      expect(await next(client, id, n)).toEqual(rows.slice(3, 3 + n));
      await client.query('rollback');
    }
    expect(await next(client, id, 100)).toEqual(rows.slice(3));
  });

  it('go on where the engine is ended between two calls, or within one, and where a call is cancelled', async () => {
    const endless = { ...server.endless, calls: [1] };
    const [client, watcher] = await Promise.all([server.open('anna'), server.open('anna')]);
    const id = await open(client, { ...endless, options: { ...endless.options, seed: 1 } });
    const first = await next(client, id, 5);
    const end = `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`;
    await server.asAdmin(end);
    const second = await next(client, id, 5);
    const third = next(client, id, 200);
    await server.asAdmin(end);
    const ahead = [...first, ...second, ...(await third)];
    const other = await open(watcher, { ...endless, options: { ...endless.options, seed: 1 } });
    expect(await next(watcher, other, 210)).toEqual(ahead);
    const cut = next(client, id, 100_000).then(
      () => 'nothing was thrown',
      (error: pg.DatabaseError) => error.code,
    );
    await server.until(
      'it waits for the engine',
      `(select count(*) from pg_stat_activity where usename = 'anna' and state = 'active' and wait_event = 'Extension') = 1`,
    );
    await server.cancel('anna');
    expect(await cut).toBe('57014');
    expect(await next(client, id, 3)).toEqual(await next(watcher, other, 3));
  });
});
