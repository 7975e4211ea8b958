/** Prompts of one role that begin alike are read once by an engine, whoever asks, and what they have in common is held once. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { TINY, foreign, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

const CLIENTS = 8;
const BEGINNING = 'A dog and a cat went out and saw a bird. '.repeat(20);

async function ask(client: pg.Client, end: string): Promise<string> {
  const { rows } = await client.query<{ text: string }>(
    `select hartonomous.generate($1::text, $2, '{"raw": true, "temperature": 0, "num_predict": 12, "num_ctx": 2048}') as text`,
    [BEGINNING + end, TINY],
  );
  return rows[0]!.text;
}

interface Engine {
  asked: number;
  reused: number;
  bytes: number;
}

/** What a fresh engine has read and holds when clients of these roles were answered, who asked at once. */
async function served(roles: readonly string[]): Promise<Engine & { texts: string[] }> {
  await server.asAdmin(`select pg_terminate_backend(pid, 10000) from hartonomous.engine_list`);
  await server.untilEngines(0);
  const clients = await Promise.all(roles.map((role) => server.open(role)));
  const texts = await Promise.all(clients.map((client, i) => ask(client, `The ${'abcdefghij'[i]}`)));
  const [engine] = await server.asAdmin<Engine>(
    `select prompt_tokens::int as asked, reused_tokens::int as reused, cache_bytes::int as bytes from hartonomous.engine_list`,
  );
  for (const client of clients) await client.end();
  return { ...engine!, texts };
}

describe.skipIf(foreign)('prompts that begin alike', () => {
  it('are read once for a role and held once, with the answers of one session after the other', async () => {
    await server.set('engine = off');
    const alone = await server.open('anna');
    const expected: string[] = [];
    for (let i = 0; i < CLIENTS; i++) expected.push(await ask(alone, `The ${'abcdefghij'[i]}`));
    await server.set('engine = on');

    const one = await served(['anna']);
    expect(one.reused).toBe(0);
    const many = await served(new Array<string>(CLIENTS).fill('anna'));
    expect(many.texts).toEqual(expected);
    expect(one.texts).toEqual(expected.slice(0, 1));
    // All but one took the beginning over, and have little beside it.
    const prompt = one.asked;
    expect(many.asked).toBeGreaterThan((CLIENTS - 1) * prompt);
    expect(many.asked - many.reused).toBeLessThan(prompt + CLIENTS * 20);
    expect(many.bytes).toBeLessThan(4.5 * one.bytes);

    const two = await served(Array.from({ length: CLIENTS }, (_, i) => (i % 2 === 0 ? 'anna' : 'ben')));
    expect(two.texts).toEqual(expected);
    expect(two.asked - two.reused).toBeGreaterThan(2 * prompt - 20);
    expect(two.asked - two.reused).toBeLessThan(2 * prompt + CLIENTS * 20);
  });
});
