/** An engine among roles: no role takes every place, or holds up the others before its first pass. */
import { execFileSync } from 'node:child_process';
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { serverUser } from '../../cli/cluster/cluster.ts';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, foreign, generate, pidOf, useEngineServer } from './server.ts';

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
    const pids = await Promise.all(clients.map(pidOf));
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

  it('gives it to the role of the highest priority, which a login of a lower one does not get by SET ROLE', async () => {
    await server.asAdmin(`select hartonomous.set_limit('engine_priority', 2, 'ben'); grant ben to anna`);
    const clients = await Promise.all(Array.from({ length: PLACES }, () => server.open('ben')));
    const pids = await Promise.all(clients.map(pidOf));
    const running = clients.map(begin);
    await untilStates(PLACES, 0);
    const waiting: Promise<string | undefined>[] = [];
    const wait = async (login: string, role = login): Promise<number> => {
      const client = await server.open(login);
      await client.query(`set role ${role}`);
      const pid = await pidOf(client);
      waiting.push(begin(client));
      await untilStates(PLACES, waiting.length);
      return pid;
    };
    // By what others have ben would be last, and by who came first, too.
    const [other, disguised, first] = [await wait('anna'), await wait('anna', 'ben'), await wait('ben')];
    const stillWaiting = async (): Promise<number[]> => {
      const sql = `select pid from hartonomous.engine_requests where state = 'waiting' order by asked_at`;
      return (await server.asAdmin<{ pid: number }>(sql)).map(({ pid }) => pid);
    };
    expect(await stillWaiting()).toEqual([other, disguised, first]);
    const leave = async (left: number): Promise<number[]> => {
      await server.asAdmin(`select pg_cancel_backend(${pids.pop()!})`);
      await untilStates(PLACES, left);
      return stillWaiting();
    };
    expect(await leave(2)).toEqual([other, disguised]);
    expect(await leave(1)).toEqual([disguised]);
    await server.cancel('anna');
    await server.cancel('ben');
    expect(await Promise.all([...running, ...waiting])).toEqual(Array.from({ length: PLACES + 3 }, () => '57014'));
    await server.asAdmin(`select hartonomous.set_limit('engine_priority', null, 'ben'); revoke ben from anna`);
  });

  it('reads texts of the role of the highest priority first', async () => {
    // By turns anna is done far before ben; where seven of eight are ben's, far after.
    const texts = (role: string): string[] =>
      Array.from({ length: role === 'anna' ? 100 : 150 }, (_, i) => `text ${i} ${'of some words '.repeat(20)}`);
    const read: string[] = [];
    const embed = async (role: string): Promise<void> => {
      const client = await server.open(role);
      // Has JavaScript of its own, so that this is the request that is read.
      await client.query(`select hartonomous.tokenize('a', '${QWEN}')`);
      await client.query('select count(embedding) from hartonomous.embed($1::text[], $2, $3::json)', [
        texts(role),
        QWEN,
        '{"pooling": "mean"}',
      ]);
      read.push(role);
    };
    /** Who is done in which order where both ask at once, while the engine stands still. */
    const order = async (roles: readonly string[]): Promise<string[]> => {
      await generate(await server.open('anna'), 'Hello', QWEN, { raw: true, num_predict: 1 });
      const [engine] = await server.engines();
      const signal = (name: string): unknown =>
        execFileSync('kill', [`-${name}`, String(engine)], { ...serverUser(), cwd: '/' });
      signal('STOP');
      const asked: Promise<void>[] = [];
      try {
        for (const role of roles) {
          asked.push(embed(role));
          await server.until(
            `${asked.length} requests`,
            `(select count(*) from hartonomous.engine_requests) = ${asked.length}`,
            'hartonomous',
          );
        }
      } finally {
        signal('CONT');
      }
      await Promise.all(asked);
      await server.asAdmin(`select pg_terminate_backend(${engine})`); // with what it remembers of texts
      await server.untilEngines(0);
      return read.splice(0);
    };
    expect(await order(['anna', 'ben'])).toEqual(['anna', 'ben']);
    await server.asAdmin(`select hartonomous.set_limit('engine_priority', 1, 'ben')`);
    expect(await order(['anna', 'ben'])).toEqual(['ben', 'anna']);
    await server.asAdmin(`select hartonomous.set_limit('engine_priority', null, 'ben')`);
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
