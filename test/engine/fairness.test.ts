/** An engine among roles: no role takes every place, or holds up the others before its first pass. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, foreign, generate, useEngineServer } from './server.ts';

/** Answers that an engine computes at a time, of one model. */
const PLACES = 16;

/** Takes over ten times as long as an engine gives a prompt, compiled loops too, in fewer steps than a template may take. */
const SLOW = `{%- set all = range(4000)|list -%}{%- for i in range(1000) -%}{%- set x = all|unique -%}{%- endfor -%}{{ messages[0].content }}`;

let server: EngineServer;

useEngineServer((started) => (server = started));

/** Begin a call that writes until it is cancelled; what it ends with. */
function begin(client: pg.Client): Promise<string | undefined> {
  const { prompt, model, options } = server.endless;
  return generate(client, prompt, model, options).then(
    () => 'an endless answer has ended',
    (error: pg.DatabaseError) => error.code,
  );
}

function untilStates(running: number, waiting: number): Promise<void> {
  return server.until(
    `${running} running and ${waiting} waiting requests`,
    `select (requests_running, requests_waiting) = (${running}, ${waiting}) from hartonomous.engine_list`,
    'hartonomous',
  );
}

describe.skipIf(foreign)('an engine', () => {
  it('gives the next place to the role that has the fewest, whoever came before', async () => {
    const clients = await Promise.all(Array.from({ length: PLACES + 3 }, () => server.open('anna')));
    const pids = await Promise.all(
      clients.map(async (client) => (await client.query('select pg_backend_pid() as pid')).rows[0].pid as number),
    );
    const running = clients.map(begin);
    await untilStates(PLACES, 3);
    const short = generate(await server.open('ben'), 'Once', TINY, {
      ...server.endless.options,
      num_predict: 2,
    });
    await untilStates(PLACES, 4);
    // One of those that have a place leaves: it is ben's, though three others waited longer, and then one of theirs.
    const [computed] = await server.asAdmin<{ pid: number }>(
      `select pid from hartonomous.engine_requests where state <> 'waiting' limit 1`,
    );
    await server.asAdmin(`select pg_cancel_backend(${computed!.pid})`);
    expect(await short).not.toBe('');
    await untilStates(PLACES, 2);
    expect(pids).toContain(computed!.pid);
    await server.cancel('anna');
    expect(await Promise.all(running)).toEqual(clients.map(() => '57014'));
  });

  it('leaves a prompt that takes long to make to the session, which gives the same', async () => {
    await server.asAdmin(`update hartonomous.models set chat_template = $t$${SLOW}$t$ where name = '${STORIES}'`);
    const options = { temperature: 0, num_predict: 5 };
    await server.set('engine = off');
    const alone = await generate(await server.open('anna'), 'Once upon', STORIES, options);
    await server.set('engine = on');
    const client = await server.open('anna');
    expect(await generate(client, 'Once upon', STORIES, options)).toBe(alone);
    const { rows } = await client.query('select model from hartonomous.loaded_models');
    expect(rows).toEqual([{ model: STORIES }]);
    // It took nothing else from the engine.
    expect(await generate(await server.open('ben'), 'Hello', QWEN, { ...options, raw: true })).not.toBe('');
    const [facts] = await server.asAdmin('select failures, answers from hartonomous.engine_list');
    expect(facts).toEqual({ failures: '0', answers: expect.any(String) });
    await server.asAdmin(`update hartonomous.models set chat_template = null where name = '${STORIES}'`);
  });
});
