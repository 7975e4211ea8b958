/** Recent embeddings behind `serve`: a text that a caller asked for in a backend before is not computed again there. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunningServer } from '../../cli/serve/server.ts';
import { createDatabase, ingestFile, roleName } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { ENGINE } from '../db/portable-cluster.ts';
import { modelPath } from '../golden/model-files.ts';
import { startTestServer } from './test-server.ts';

const ROLES = [roleName('anna'), roleName('ben')] as const;

let database: TestDatabase;
let server: RunningServer;
let other: RunningServer;
/** What backends of `serve` wrote into the log about embeddings. */
const events: { prompt_tokens: number; prompt_eval_count: number }[] = [];
const { connect } = pg.Client.prototype;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  for (const role of ROLES) await database.createRole(role, 'hartonomous_user');
  pg.Client.prototype.connect = function (this: pg.Client, ...args: unknown[]) {
    this.on('notice', ({ message = '' }) => {
      if (message.startsWith('hartonomous {"event":"embed"'))
        events.push(JSON.parse(message.slice('hartonomous '.length)) as (typeof events)[number]);
    });
    return Reflect.apply(connect, this, args) as unknown;
  } as typeof connect;
  const url = new URL(database.url);
  url.search = `?options=${encodeURIComponent('-c client_min_messages=debug1')}`; // in which a plus is no blank
  const tokens = ROLES.map((role) => ({ role, token: `token of ${role}` }));
  server = await startTestServer(url.toString(), { tokens, backends: 1 });
  other = await startTestServer(url.toString(), { tokens, backends: 1 });
});

afterAll(async () => {
  pg.Client.prototype.connect = connect;
  await server.close();
  await other.close();
  await database.drop();
});

/** The first embedding of an answer, and how many of its tokens were read and computed. */
async function embed(role: string, path: string, body: object, { url } = server): Promise<[number[], number, number]> {
  const before = events.length;
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { Authorization: `Bearer token of ${role}` },
    body: JSON.stringify({ model: 'bert', ...body }),
  });
  const { embeddings, embedding, data } = (await response.json()) as {
    embeddings?: number[][];
    embedding?: number[];
    data?: { embedding: number[] }[];
  };
  expect(events).toHaveLength(before + 1);
  const { prompt_tokens: read, prompt_eval_count: computed } = events.at(-1)!;
  return [embedding ?? embeddings?.[0] ?? data![0]!.embedding, read, computed];
}

test('each backend keeps them for each caller, whatever the endpoint', async () => {
  const [anna, ben] = ROLES;
  const first = await embed(anna, '/api/embed', { input: 'the moon' });
  const [vector, tokens] = first;
  expect(vector).toHaveLength(64);
  expect(tokens).toBeGreaterThan(2);
  expect(first).toEqual([vector, tokens, tokens]);
  expect(await embed(anna, '/api/embed', { input: 'the moon' })).toEqual([vector, tokens, 0]);
  expect(await embed(anna, '/api/embeddings', { prompt: 'the moon' })).toEqual([vector, tokens, 0]);
  // Other options make another embedding of the same text.
  const [short, , computed] = await embed(anna, '/api/embed', { input: 'the moon', dimensions: 8 });
  expect([short.length, computed]).toEqual([8, tokens]);
  // Nobody is told by the time that it takes what another asked.
  expect(await embed(ben, '/api/embed', { input: 'the moon' })).toEqual(first);
  expect(await embed(ben, '/api/embed', { input: 'the moon' })).toEqual([vector, tokens, 0]);
  // An engine keeps them for the backends of all servers.
  expect(await embed(anna, '/api/embed', { input: 'the moon' }, other)).toEqual([vector, tokens, ENGINE ? 0 : tokens]);
});

test('of several texts only the new ones are computed', async () => {
  const [anna] = ROLES;
  const text = 'a boat on the sea';
  const [alone, , tokens] = await embed(anna, '/v1/embeddings', {
    input: text,
    encoding_format: 'float',
    truncate: true,
  });
  const [first, read, computed] = await embed(anna, '/api/embed', { input: [text, 'a boat', text] });
  expect(first).toEqual(alone);
  expect(computed).toBe(read - tokens);
  expect(computed).toBeGreaterThan(0);
});

test('marks on letters are none to BERT', async () => {
  const [anna] = ROLES;
  const [plain] = await embed(anna, '/api/embed', { input: 'cat' });
  expect((await embed(anna, '/api/embed', { input: 'C\u0301A\u0308T' }))[0]).toEqual(plain);
});
