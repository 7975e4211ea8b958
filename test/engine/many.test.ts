/** Many prompts of one call that an engine answers: as a session does itself, and others come between. */
import { describe, expect, it } from 'vitest';
import type { Call, EngineServer } from './server.ts';
import { ENGINE, QWEN, STORIES, TINY, errorOf, foreign, generate, loaded, results, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

const batch = (prompts: readonly unknown[], model: string, options: object = {}): Call => [
  'select * from hartonomous.generate($1::text[], $2, $3::json)',
  [prompts, model, JSON.stringify({ seed: 7, num_predict: 12, record: true, ...options })],
];

const BEGINNINGS = ['Once upon a time', 'Lily', 'The big dog', 'One day, a boy named Tim', 'He was sad because', 'A'];
const PROMPTS = Array.from({ length: 40 }, (_, i) => `${BEGINNINGS[i % BEGINNINGS.length]}${' and'.repeat(i % 7)}`);
const ALIKE = PROMPTS.map((prompt) => `${'One day a little girl found a ball. '.repeat(4)}${prompt}`);
const LONG = 'word '.repeat(200);

const CALLS: Call[] = [
  batch(PROMPTS, STORIES, { temperature: 0 }),
  batch([null, ...PROMPTS.slice(0, 9), null, ''], QWEN),
  batch(ALIKE, STORIES, { raw: true, stop: [' a', '.'], num_predict: 30 }),
  batch(ALIKE, QWEN, { cache: false, temperature: 1.2 }),
  batch(['One'], STORIES, { repeat_penalty: 1.4, numa: true }),
  batch(['One', 'Two', LONG, 'Three', ''], STORIES, { raw: true, num_ctx: 64, on_error: 'null' }),
  batch(PROMPTS.slice(0, 20), TINY, { grammar: 'root ::= [a-z ]{3,9} "."' }),
  batch(PROMPTS.slice(0, 3), STORIES, {
    num_predict: 40,
    response_format: { type: 'json_schema', schema: { enum: ['é', 1], nobodyKnows: 1 } },
  }),
  batch(PROMPTS.slice(0, 3), STORIES, { num_predict: 0 }),
  batch(PROMPTS.slice(0, 3), STORIES, { num_predict: -1, num_ctx: 40, raw: true }),
  batch([], STORIES),
  batch([null], STORIES),
];

/** As many as a call may be expected to have. */
const MANY = Array.from({ length: 1000 }, (_, i) => `${i} and one`);
const many = (options: object = {}): Call => [
  `select count(text) as n from hartonomous.generate($1::text[], $2, $3::json)`,
  [MANY, STORIES, JSON.stringify({ num_predict: 24, raw: true, seed: 1, ...options })],
];

const writing = (): Promise<void> =>
  server.until('it writes', `exists (select from hartonomous.engine_requests where state = 'writing')`, 'hartonomous');

describe.skipIf(foreign)('many prompts of a call to an engine', () => {
  it('get what they get of a session without it, recorded alike, which loads nothing', async () => {
    const evaluated = (): Promise<unknown[]> =>
      server.asAdmin('select prompt_eval_count as n from hartonomous.runs order by id');
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), CALLS);
    const counts = await evaluated();
    const runs = await server.takeRuns();
    expect(JSON.stringify(alone)).toContain('nobodyKnows');
    expect(JSON.stringify(alone)).toContain('change nothing here');
    expect(JSON.stringify(alone)).toContain('"done_reason":"error"');
    await server.set('engine = on');
    await server.startAnew();
    const client = await server.open('anna');
    expect(await results(client, CALLS)).toEqual(alone);
    expect(await evaluated()).toEqual(counts);
    expect(await server.takeRuns()).toEqual(runs);
    expect(await loaded(client)).toEqual([]);
    expect(await server.answers()).toBeGreaterThanOrEqual(runs.runs.length);
    // And many calls at once, of two roles.
    expect(await server.resultsAtOnce(CALLS)).toEqual(alone);
    await server.takeRuns();
  });

  it('get seeds of their own where none is given', async () => {
    const client = await server.open('anna');
    await results(client, [batch(['Once', 'Once', 'Once'], STORIES, { seed: null })]);
    expect(await loaded(client)).toEqual([]);
    const { runs } = await server.takeRuns();
    expect(new Set(runs.map((run) => (run as { run: { seed: number } }).run.seed)).size).toBe(3);
  });

  it('end in the same errors, the same of several', async () => {
    const bad: Call[] = [
      batch(['Hello'], 'nobody'),
      batch(['Hello'], STORIES, { wrong: 1 }),
      batch(['Hello'], STORIES, { on_error: 'ignore' }),
      batch(['Hello', 'You'], STORIES, { temperature: -1, on_error: 'null' }),
      batch(['Hello', 'You'], STORIES, { num_ctx: 1_000_000 }),
      batch(['Hello', LONG], STORIES, { num_ctx: 64 }),
      batch(['Hello', LONG, null, ''], STORIES, { num_ctx: 64, raw: true }),
      batch(['Hello', 'You'], STORIES, { grammar: 'root ::= nobody' }),
      batch(['Hello', 'You'], STORIES, { grammar: 'root ::= "a"{20}', num_predict: 3 }),
      batch(['Hello', 'You'], STORIES, { tool_choice: 'required' }),
      batch(['Hello', 'You'], STORIES, { template: 'no such' }),
      batch(['Hello', 'You'], STORIES, { think: true }),
      [`select * from hartonomous.generate(array[array['a'], array['b']], $1)`, [STORIES]],
    ];
    const [alone, asked] = await server.errorsWithoutAndWith(bad);
    expect(asked).toEqual(alone);
    const [facts] = await server.asAdmin<{ failures: string }>('select failures from hartonomous.engine_list');
    expect(Number(facts!.failures)).toBeGreaterThan(4); // some of them are its own
  });

  it('count for hourly limits as without it', async () => {
    const costs: number[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      await server.startAnew();
      const client = await server.open('anna');
      for (const prompts of [PROMPTS, ALIKE]) {
        await results(client, [batch(['x'], STORIES)]);
        const before = await server.countedTokens('anna', CALLS[0]!);
        await results(client, [batch(prompts, STORIES)]);
        costs.push((await server.countedTokens('anna', CALLS[0]!)) - before);
      }
      expect(await loaded(client)).toEqual(engine === 'on' ? [] : [{ model: STORIES }]);
    }
    expect(costs.slice(2)).toEqual(costs.slice(0, 2));
    expect(Math.min(...costs)).toBeGreaterThan(12 * 30);
    await server.takeRuns();
  });

  it('are one request, and answers of others come between, those of the same role too', async () => {
    await server.set('engine_requests = 8');
    const options = { raw: true, num_predict: 5, temperature: 0 };
    const [client, own, other, alone] = await Promise.all(
      ['anna', 'anna', 'ben', 'ben'].map((role) => server.open(role)),
    );
    const expected = await generate(alone!, 'Once upon', STORIES, options);
    const next = await server.openEndless(other!);
    await next();
    const state = { done: false, tokens: 0, own: 0 };
    const asked = results(client!, [many()]).finally(() => (state.done = true));
    await writing();
    const [facts] = await server.asAdmin('select count(*)::integer as n from hartonomous.engine_requests');
    expect((facts as { n: number }).n).toBeLessThanOrEqual(2);
    const owns = (async (): Promise<void> => {
      while (!state.done) {
        expect(await generate(own!, 'Once upon', STORIES, options)).toBe(expected);
        if (!state.done) state.own++;
      }
    })();
    while (!state.done) {
      await next();
      state.tokens++;
    }
    await owns;
    expect((await asked)[0]!.rows).toEqual([{ n: String(MANY.length) }]);
    expect(await loaded(client!)).toEqual([]);
    expect(state.tokens).toBeGreaterThan(5);
    expect(state.own).toBeGreaterThan(5);
  });

  it('count for the time to a first token from when each has its turn', async () => {
    await server.startAnew();
    const client = await server.open('anna');
    await results(client, [batch(['Once'], STORIES)]);
    const since = performance.now();
    await results(client, [many()]);
    const took = performance.now() - since;
    const [facts] = await server.asAdmin<{ ns: string }>('select first_token_ns as ns from hartonomous.engine_list');
    // From when the call was made it would be half of what the call took.
    expect(Number(facts!.ns) / 1e6).toBeLessThan(took / 4);
    expect(Number(facts!.ns)).toBeGreaterThan(0);
    await server.takeRuns();
  });

  it('are let go of where the caller is cancelled, and answered by the session where the engine is ended', async () => {
    const client = await server.open('anna');
    for (let round = 0; round < 3; round++) {
      const cut = errorOf(results(client, [many({ num_predict: 200 })]));
      await writing();
      await server.cancel('anna');
      expect(await cut).toMatchObject({ code: '57014' });
      await server.untilIdle();
    }
    // Nothing of it is left: the same model is computed with as before, and no cache is busy.
    const [held] = await server.asAdmin<{ bytes: string }>('select cache_bytes as bytes from hartonomous.engine_list');
    await results(client, [batch(['Once', 'Lily'], STORIES, { cache: false, record: false })]);
    const [after] = await server.asAdmin<{ bytes: string }>('select cache_bytes as bytes from hartonomous.engine_list');
    expect(Number(after!.bytes)).toBeLessThanOrEqual(Number(held!.bytes));
    const asked = results(client, [many()]);
    await writing();
    await server.asAdmin(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = '${ENGINE}'`);
    expect((await asked)[0]!.rows).toEqual([{ n: String(MANY.length) }]);
    expect(await loaded(client)).toEqual([{ model: STORIES }]);
  });

  it('of more text than the engine takes at once are answered by the session', async () => {
    const client = await server.open('anna');
    const options = { num_predict: 1, num_ctx: 16, raw: true, on_error: 'null', record: false };
    const call = (count: number): Call =>
      batch(
        Array.from({ length: count }, () => LONG),
        STORIES,
        options,
      );
    await results(client, [call(10)]);
    expect(await loaded(client)).toEqual([]);
    await results(client, [call(1000)]);
    expect(await loaded(client)).toEqual([{ model: STORIES }]);
  });
});
