/** What tries to get by the host's front, which has the engine answer without JavaScript in the calling backend. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { Call, EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, errorOf, foreign, hasV8, results, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

const SHORT = { raw: true, temperature: 0, num_predict: 3 };

function generating(prompt: string, options: object, model = STORIES): Call {
  return ['select hartonomous.generate($1::text, $2, $3::json) as text', [prompt, model, JSON.stringify(options)]];
}

/** Have the engine run. */
async function startEngine(): Promise<void> {
  const client = await server.open();
  await client.query(...generating('Once', SHORT));
  await client.end();
}

/** Result or error of a call, with its notices, in a session of its own; without what differs from run to run. */
async function outcome(call: Call, setting: string): Promise<{ seen: unknown; usesFront: boolean }> {
  const client = await server.open('anna');
  await client.query(`select set_config('hartonomous.record', $1, false)`, [setting]);
  let seen: unknown;
  try {
    seen = await results(client, [call]);
  } catch (error) {
    const { code, message, detail, hint } = error as pg.DatabaseError;
    seen = { code, message, detail, hint };
  }
  const usesFront = !(await hasV8(client));
  await client.end();
  const text = JSON.stringify(seen)
    .replaceAll(/(_duration|prompt_eval_count|run_id)(\\*": ?)(?!9007199254740991)\d+/g, '$1')
    .replaceAll(/(created_at\\*": ?\\*")[^"]*"/g, '$1');
  return { seen: text, usesFront };
}

const chat = (messages: string, options: string, model: string | null = QWEN): Call => [
  'select hartonomous.chat($1::text, $2, $3::json)::text as message',
  [messages, model, options],
];
const complete = (prompt: string | null, options: string | null, model: string | null = STORIES): Call => [
  'select hartonomous.complete($1::text, $2, $3::json)::text as facts',
  [prompt, model, options],
];

const HI = '[{"role": "user", "content": "hi"}]';
const deep = (levels: number): string => `${'{"x":'.repeat(levels)}1${'}'.repeat(levels)}`;
const tool = (parameters: string): string =>
  `{"seed": 3, "num_predict": 60, "num_ctx": 900, "record": true, "tool_choice": "required", "tools": [{"type": "function", "function": {"name": "run_id", "parameters": ${parameters}}}]}`;

const STRANGE: [what: string, call: Call][] = [
  ['nothing', complete(null, '{}')],
  ['an empty prompt', complete('', '{"seed": 1, "num_predict": 2}')],
  ['an empty raw prompt', complete('', '{"raw": true, "seed": 1, "num_predict": 2}')],
  ['options that are none', complete('Once', '[1]')],
  ['a model that is not there', complete('Once', '{}', 'nope "x" \\ ')],
  ['an empty name', complete('Once', '{}', '')],
  [
    'control characters',
    complete(
      'a\u0001\b\f\n\r\t"\\\u2028\u{1F600}\u007f',
      '{"seed": 1, "raw": true, "num_predict": 3, "logprobs": true}',
    ),
  ],
  ['a NUL in a stop string', complete('Once', '{"stop": ["\\u0000"], "seed": 1, "num_predict": 2, "record": true}')],
  [
    'half a character in a stop string',
    complete('Once', '{"stop": ["\\ud83d"], "seed": 1, "num_predict": 2, "record": true}'),
  ],
  ['half a character to stop at', complete('Once', '{"stop": ["\\ude00"], "seed": 1, "num_predict": 2}')],
  ['a NUL in the name of an option', complete('Once', '{"\\u0000": 1}')],
  ['a NUL in a message', chat('[{"role": "user", "content": "a\\u0000b"}]', '{"seed": 1, "num_predict": 2}')],
  [
    'half a character in a message',
    chat('[{"role": "user", "content": "a\\ud800b"}]', '{"seed": 1, "num_predict": 2}'),
  ],
  ['messages that are no JSON', chat('[{"role"', '{}')],
  ['messages that are null', chat('null', '{}')],
  ['messages that are a text', chat('"hi"', '{}')],
  ['the greatest seed', complete('Once', '{"seed": 9007199254740991, "num_predict": 2, "record": true}')],
  [
    'a seed like an id',
    chat(HI, '{"seed": 9007199254740991, "num_predict": 2, "record": true, "logprobs": true, "top_logprobs": 2}'),
  ],
  ['no tokens', complete('Once', '{"seed": 1, "num_predict": 0, "record": true, "logprobs": true}')],
  [
    'keywords nobody defines',
    complete(
      'Once',
      '{"seed": 1, "num_predict": 40, "record": true, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["run_id"], "x-y": 1}}}}',
    ),
  ],
  [
    'a call with an argument run_id',
    chat(
      HI,
      tool(
        '{"type": "object", "properties": {"run_id": {"const": 9007199254740991}}, "required": ["run_id"], "additionalProperties": false}',
      ),
    ),
  ],
  [
    'a schema that nests',
    chat(HI, tool(`{"type": "object", "properties": {}, "additionalProperties": false, "x-deep": ${deep(900)}}`)),
  ],
  ['options about hardware', complete('Once', '{"seed": 1, "num_predict": 2, "num_gpu": 1}')],
];

describe.skipIf(foreign)('a call that the engine answers without JavaScript in its backend', () => {
  it('gives the same as one that the session computes, whatever it is asked', { timeout: 300_000 }, async () => {
    await startEngine();
    await server.asAdmin('delete from hartonomous.runs');
    const fronts: string[] = [];
    for (const setting of ['', 'maybe']) {
      for (const [what, call] of STRANGE) {
        await server.set('engine = on');
        const { seen, usesFront } = await outcome(call, setting);
        if (usesFront) fronts.push(what);
        const runs = await server.takeRuns();
        await server.set('engine = off');
        const without = await outcome(call, setting);
        expect.soft({ what, setting, seen, ...runs }).toEqual({
          what,
          setting,
          seen: without.seen,
          ...(await server.takeRuns()),
        });
      }
    }
    expect(fronts).toEqual(expect.arrayContaining(['a seed like an id', 'no tokens', 'keywords nobody defines']));
  });

  it('is nobody’s where autovacuum computes the index expressions of others', { timeout: 120_000 }, async () => {
    await startEngine();
    const anna = await server.open('anna');
    await server.asAdmin('create schema annas authorization anna');
    // The sequence comes last: with it the transaction has written something.
    await anna.query(`create sequence annas.tries;
      create function annas.written(prompt text) returns text immutable language plpgsql as $$
      begin
        begin
          return hartonomous.generate(prompt, '${STORIES}', '{"raw": true, "temperature": 0, "num_predict": 2, "record": true}')
            || nextval('annas.tries');
        exception when others then return nextval('annas.tries');
        end;
      end $$;
      create table annas.prompts (prompt text) with (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
      create index on annas.prompts (annas.written(prompt));
      insert into annas.prompts values ('one');
      alter sequence annas.tries restart;
      select pg_stat_force_next_flush()`);
    await server.asAdmin('delete from hartonomous.runs');
    const before = await server.answers();
    await server.asAdmin(`alter system set autovacuum_naptime = '1s'`);
    await server.asAdmin('select pg_reload_conf()');
    try {
      await server.until('an analyze', '(select is_called from annas.tries)', 'hartonomous');
    } finally {
      await server.asAdmin('alter system reset autovacuum_naptime');
      await server.asAdmin('select pg_reload_conf()');
    }
    expect(await server.answers()).toBe(before);
    await anna.query('drop schema annas cascade');
  });

  it('is left to its function, unread, where it has far too much text', { timeout: 120_000 }, async () => {
    await startEngine();
    const client = await server.open('anna');
    const text = `repeat(chr(1), 180000000)`;
    expect(await errorOf(client.query(`select hartonomous.generate(${text}, '${STORIES}')`))).toMatchObject({
      code: '54000',
      message: 'text has 180000000 characters, at most 8388608 are read',
    });
  });

  it('is shown with its model in engine_requests', async () => {
    await startEngine();
    const client = await server.open('anna');
    const { prompt, model, options } = server.endless;
    const ended = errorOf(client.query(...generating(prompt, options, model)));
    await server.until(
      'an answer that is written',
      `exists (select from hartonomous.engine_requests where state = 'writing')`,
      'hartonomous',
    );
    expect(await server.asAdmin('select caller, model from hartonomous.engine_requests')).toEqual([
      { caller: 'anna', model: TINY },
    ]);
    await server.cancel('anna');
    expect(await ended).toMatchObject({ code: '57014' });
  });

  it('counts once where the engine ends and the session computes it', async () => {
    await startEngine();
    await server.asAdmin(`create role carla login password 'secret'; grant hartonomous_user to carla`);
    await server.asAdmin(`select hartonomous.set_limit('max_calls_per_hour', 2, 'carla')`);
    const carla = await server.open('carla');
    const call = generating('Once', { ...SHORT, num_predict: 400, num_ctx: 512 });
    const first = carla.query(...call);
    await server.until(
      'an answer that is written',
      `exists (select from hartonomous.engine_requests where state = 'writing')`,
      'hartonomous',
    );
    await server.startAnew();
    await first;
    await carla.query(...generating('Once', SHORT));
    expect(await errorOf(carla.query(...call))).toMatchObject({
      code: '53400',
      message: 'role carla made 2 calls within an hour, limit max_calls_per_hour is 2',
    });
    await server.asAdmin(`select hartonomous.set_limit('max_calls_per_hour', null, 'carla')`);
    await server.asAdmin(`select hartonomous.set_limit('max_tokens_per_hour', 1, 'carla')`);
    expect(((await errorOf(carla.query(...call))) as Error).message).toMatch(/used 40[0-9] tokens/);
  });
});
