/** Sessions, `serve` and `chat` behind pgbouncer in transaction mode, and a pooled connection that changes its caller. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { startTestServer } from '../cli/test-server.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { hartonomous } from '../cli/program.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { missing, Pgbouncer, pgbouncerProgram } from './servers.ts';

const TINY = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
const GREETING = 'Hello! How can I help you?';
const HELLO = [{ role: 'user' as const, content: 'hello' }];
const OPEN = `select hartonomous.open_session('[{"role": "user", "content": "hello"}]', 'tiny', '{"temperature": 0, "record": false}')::text as id`;
const NEXT = 'select token from hartonomous.next_tokens($1, $2)';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
});
afterAll(() => database.drop());

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

async function openSession(client: pg.Client): Promise<string> {
  return (await client.query<{ id: string }>(OPEN)).rows[0]!.id;
}

async function tokens(client: pg.Client, session: string, n: number): Promise<string> {
  const { rows } = await client.query<{ token: string }>(NEXT, [session, n]);
  return rows.map((row) => row.token).join('');
}

describe.skipIf(pgbouncerProgram() === null && missing('pgbouncer'))('pgbouncer in transaction mode', () => {
  let pooler: Pgbouncer;
  beforeAll(async () => {
    const { port, pathname } = new URL(database.url);
    pooler = await Pgbouncer.start(
      database.url,
      `host=127.0.0.1 port=${port} dbname=${pathname.slice(1)} pool_size=3`,
      { pool_mode: 'transaction' },
    );
  });
  afterAll(() => pooler.stop());

  test('a session that is asked for in another backend says where it is, and what to do', async () => {
    const [one, other] = [await connected(pooler.url), await connected(pooler.url)];
    try {
      const session = await openSession(one);
      // Whichever backend is the other client's now cannot be the first one's: hold the one that has the session.
      await other.query('begin');
      const { rows } = await other.query<{ pid: number }>('select pg_backend_pid() as pid');
      expect(BigInt(session) % 4194304n, 'pgbouncer gives the backend that was used last').toBe(BigInt(rows[0]!.pid));
      await expect(tokens(one, session, 1)).rejects.toMatchObject({
        code: '42704',
        message: expect.stringMatching(
          /^session \d+ is not in this backend \d+, it was opened in backend \d+$/,
        ) as string,
        hint: expect.stringContaining('session pooling') as string,
      });
      await other.query('select hartonomous.close_session($1)', [session]);
      await other.query('commit');
    } finally {
      await one.end();
      await other.end();
    }
  });

  test('a session within one transaction is in one backend', async () => {
    const client = await connected(pooler.url);
    try {
      await client.query('begin');
      const session = await openSession(client);
      expect((await tokens(client, session, 3)) + (await tokens(client, session, 100))).toBe(GREETING);
      await client.query('select hartonomous.close_session($1)', [session]);
      await client.query('commit');
    } finally {
      await client.end();
    }
  });

  describe('serve', () => {
    let server: RunningServer;
    beforeAll(async () => {
      server = await startTestServer(pooler.url, { queue: 32, record: true });
    });
    afterAll(() => server.close());

    test('answers many clients at once', async () => {
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const answers = await Promise.all(
        Array.from({ length: 16 }, async (_, i) => {
          const request = { model: 'tiny', messages: HELLO, temperature: 0 };
          if (i % 2 === 0) return (await client.chat.completions.create(request)).choices[0]!.message.content;
          let text = '';
          for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
            text += chunk.choices[0]?.delta.content ?? '';
          return text;
        }),
      );
      expect(new Set(answers)).toEqual(new Set([GREETING]));
    });

    test('cancels the query of a client that leaves, in the backend it runs in', async () => {
      const holder = await connected(database.url);
      const waiting = async (): Promise<number> =>
        Number(
          (
            await database.pool.query<{ n: string }>(
              `select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%next_tokens%'`,
            )
          ).rows[0]!.n,
        );
      try {
        // Answers wait at their end, where they are recorded.
        await holder.query('begin; lock table hartonomous.runs in access exclusive mode');
        const leaving = new AbortController();
        const asked = fetch(`${server.url}/v1/chat/completions`, {
          method: 'POST',
          body: JSON.stringify({ model: 'tiny', messages: HELLO }),
          signal: leaving.signal,
        });
        await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
        leaving.abort();
        await expect(asked).rejects.toThrow();
        await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
        await holder.query('rollback');
      } finally {
        await holder.end();
      }
    });
  });

  test('chat converses', async () => {
    const home = mkdtempSync(join(tmpdir(), 'hartonomous-pooled-'));
    try {
      const { code, stdout, stderr } = await hartonomous(['chat', 'tiny', '--temperature', '0'], {
        url: pooler.url,
        env: { XDG_DATA_HOME: home },
        stdin: 'hello\nhow are you?\n',
      });
      expect({ code, stdout, stderr }).toEqual({
        code: 0,
        stdout: `${GREETING}\n\nI'm doing well, thank you for asking!\n\n`,
        stderr: '',
      });
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});

describe('a pooled connection that changes its caller', () => {
  const suffix = `${process.pid}_${Date.now().toString(36)}`;
  const [alice, bob] = [`alice_${suffix}`, `bob_${suffix}`];
  let connection: pg.Client;

  beforeAll(async () => {
    for (const role of [alice, bob])
      await database.pool.query(`create role ${role}; grant hartonomous_user to ${role}`);
    connection = await connected(database.url);
  });
  afterAll(async () => {
    await connection.end();
    for (const role of [alice, bob]) await database.pool.query(`drop owned by ${role}; drop role ${role}`);
  });

  test.each(['reset role', 'discard all', 'reset all; reset session authorization'])(
    'after %s no other role reaches the session, and its own still does',
    async (reset) => {
      await connection.query(`set role ${alice}`);
      const session = await openSession(connection);
      expect(await tokens(connection, session, 1)).toBe('Hello');
      for (const statement of reset.split('; ')) await connection.query(statement);
      // The role that is connected is a superuser: even that one does not act as alice without saying so.
      for (const caller of [null, bob]) {
        if (caller !== null) await connection.query(`set role ${caller}`);
        const refused = { code: '42704', message: `session ${session} does not exist` };
        await expect(tokens(connection, session, 1)).rejects.toMatchObject(refused);
        await expect(connection.query('select hartonomous.close_session($1)', [session])).rejects.toMatchObject(
          refused,
        );
        expect((await connection.query('select * from hartonomous.sessions')).rows).toEqual([]);
      }
      await connection.query(`set role ${alice}`);
      expect(await tokens(connection, session, 100)).toBe(GREETING.slice('Hello'.length));
      await connection.query('select hartonomous.close_session($1)', [session]);
      await connection.query('reset role');
    },
  );

  test("another caller's prompt is not in the cache for this one", async () => {
    const computed = async (role: string): Promise<{ computed: number; prompt: number }> => {
      await connection.query(`set role ${role}`);
      const { rows } = await connection.query<{ computed: number; prompt: number }>(
        `select (answer ->> 'prompt_eval_count')::integer as computed, (answer ->> 'prompt_tokens')::integer as prompt
         from hartonomous.chat('[{"role": "user", "content": "a secret of ${suffix}"}]', 'tiny', '{"num_predict": 1, "record": false}') as answer`,
      );
      await connection.query('reset role');
      return rows[0]!;
    };
    const { prompt } = await computed(alice);
    expect(await computed(bob)).toEqual({ computed: prompt, prompt });
    expect(await computed(alice), 'in its own it is').toEqual({ computed: 1, prompt });
  });
});
