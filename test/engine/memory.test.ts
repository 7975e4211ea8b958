/** Memory is short where an engine is asked: the session computes itself. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { serverUser } from '../../cli/cluster/cluster.ts';
import type { EngineServer } from './server.ts';
import { STORIES, foreign, generate, loaded, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

async function answers(): Promise<number> {
  const rows = await server.asAdmin<{ answers: string }>('select answers from hartonomous.engine_list');
  return Number(rows[0]?.answers ?? 0);
}

describe.skipIf(foreign)('memory that is short', () => {
  it('where requests are left for the engine costs nobody an answer, and leaves nothing behind', async () => {
    const options = { seed: 1, num_predict: 6 };
    await server.set('engine = off');
    const expected = await generate(await server.open('anna'), 'Hello', STORIES, options);
    await server.set('engine = on');
    const client = await server.open('anna');
    expect(await generate(client, 'Hello', STORIES, options)).toBe(expected);
    expect(await loaded(client)).toEqual([]);
    const notices: string[] = [];
    client.on('notice', ({ message }) => notices.push(message ?? ''));
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const limit = (bytes: string): unknown =>
      execFileSync('prlimit', ['--pid', String(rows[0]!.pid), `--fsize=${bytes}:`], { ...serverUser(), cwd: '/' });
    limit('4096'); // a request has a segment of 64 KiB and more
    expect(await generate(client, 'Hello', STORIES, options)).toBe(expected);
    expect(await loaded(client)).toEqual([{ model: STORIES }]);
    limit('unlimited');
    await client.query('select hartonomous.unload()');
    const before = await answers();
    expect(await generate(client, 'Hello', STORIES, options)).toBe(expected);
    expect(await answers()).toBe(before + 1);
    expect(await loaded(client)).toEqual([]);
    expect(notices).toEqual([]);
  });
});
