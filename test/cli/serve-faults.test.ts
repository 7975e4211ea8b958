/** `serve` with clients that leave, backends that are killed, a full queue, and at its end. */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { hartonomous } from './program.ts';
import { GREETING, HELLO, QUESTION, WELL, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

/** A connection that holds the table of runs, so that answers wait at their end, where they are recorded. */
async function holdingRuns<T>(body: (waiting: () => Promise<number[]>) => Promise<T>): Promise<T> {
  const holder = await tiny.database.pool.connect();
  await holder.query('begin');
  await holder.query('lock table hartonomous.runs in access exclusive mode');
  const waiting = async (): Promise<number[]> =>
    (
      await tiny.database.pool.query<{ pid: number }>(
        `select pid from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and query like '%next_tokens%'`,
      )
    ).rows.map((row) => row.pid);
  try {
    return await body(waiting);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
}

const ASK = { model: 'tiny', messages: HELLO, temperature: 0 };

describe('a client that leaves', () => {
  test.each([
    ['before the answer began', '/v1/chat/completions', {}],
    ['before the stream began', '/v1/chat/completions', { stream: true, max_tokens: 1 }],
    ["before Ollama's answer began", '/api/chat', { stream: false }],
  ])('%s cancels its query', async (_title, path, fields) => {
    await holdingRuns(async (waiting) => {
      const leaving = new AbortController();
      const ask = { model: 'tiny', messages: HELLO };
      const asked = fetch(tiny.server.url + path, {
        method: 'POST',
        body: JSON.stringify({ ...ask, ...fields }),
        signal: leaving.signal,
      });
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      leaving.abort();
      await expect(asked).rejects.toThrow();
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(0);
    });
    expect((await tiny.openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
  });

  test('in the middle of a stream cancels it, and leaves no session behind', async () => {
    const recording = await tiny.start({ record: true, backends: 1 });
    try {
      await holdingRuns(async (waiting) => {
        const stream = await new OpenAI({ baseURL: `${recording.url}/v1`, apiKey: 'none' }).chat.completions.create({
          ...ASK,
          stream: true,
        });
        let text = '';
        for await (const chunk of stream) {
          text += chunk.choices[0]!.delta.content ?? '';
          if (text.startsWith('Hello')) break;
        }
        await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(0);
      });
      await expect
        .poll(async () => (await tiny.post('/v1/chat/completions', ASK, {}, recording.url)).status, { timeout: 10_000 })
        .toBe(200);
    } finally {
      await recording.close();
    }
  });
});

describe('a backend that is killed', () => {
  test('loses its request with a clear error, and the next one is answered', async () => {
    await holdingRuns(async (waiting) => {
      const asked = tiny.openai.chat.completions.create(ASK);
      asked.catch(() => undefined);
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      await tiny.database.pool.query('select pg_terminate_backend($1)', (await waiting()).slice(0, 1));
      await expect(asked).rejects.toMatchObject({
        status: 502,
        message: '502 terminating connection due to administrator command',
      });
    });
    expect((await tiny.openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
  });

  test('in the middle of a stream ends the stream with an error', async () => {
    const recording = await tiny.start({ record: true, backends: 1 });
    const client = new OpenAI({ baseURL: `${recording.url}/v1`, apiKey: 'none', maxRetries: 0 });
    try {
      await holdingRuns(async (waiting) => {
        let text = '';
        const read = async (): Promise<void> => {
          for await (const chunk of await client.chat.completions.create({ ...ASK, stream: true }))
            text += chunk.choices[0]!.delta.content ?? '';
        };
        const reading = read();
        reading.catch(() => undefined);
        await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
        await tiny.database.pool.query('select pg_terminate_backend($1)', await waiting());
        await expect(reading).rejects.toThrow('terminating connection due to administrator command');
        expect(GREETING.startsWith(text)).toBe(true);
        expect(text).not.toBe('');
      });
      expect((await client.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
    } finally {
      await recording.close();
    }
  });

  test('while it is idle is noticed before the next request', async () => {
    const { rows } = await tiny.database.pool.query<{ pid: number }>(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'hartonomous' and state = 'idle'`,
    );
    expect(rows.length).toBeGreaterThan(0);
    await sleep(100);
    for (let i = 0; i < 3; i++) {
      expect((await tiny.openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
    }
  });
});

test('when all backends are busy and the queue is full a client is told when to come again', async () => {
  const small = await tiny.start({ record: true, backends: 1, queue: 1 });
  try {
    const answers = await holdingRuns(async (waiting) => {
      const first = tiny.post('/v1/chat/completions', ASK, {}, small.url);
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      const second = tiny.post('/api/chat', { ...ASK, temperature: undefined, stream: false }, {}, small.url);
      await sleep(200);
      const third = await tiny.post('/v1/chat/completions', ASK, {}, small.url);
      expect(third.status).toBe(503);
      expect(third.headers.get('retry-after')).toBe('1');
      expect(await third.json()).toMatchObject({
        error: { code: 'queue_full', message: 'all 1 backends are busy and 1 requests are waiting, at most 1 may' },
      });
      // What the database knows is told all the same.
      expect((await fetch(`${small.url}/api/tags`)).status).toBe(200);
      return [first, second];
    });
    expect(await Promise.all(answers.map(async (answer) => (await answer).status))).toEqual([200, 200]);
  } finally {
    await small.close();
  }
});

test('32 clients at once are all answered alike, and leave no session', async () => {
  const texts = await Promise.all(
    Array.from({ length: 32 }, async (_, i) => {
      const client = new OpenAI({ baseURL: `${tiny.server.url}/v1`, apiKey: 'none', maxRetries: 100 });
      const messages = [{ role: 'user' as const, content: i % 2 === 0 ? 'hello' : QUESTION }];
      let text = '';
      for (let round = 0; round < 3; round++) {
        const { choices } = await client.chat.completions.create({ model: 'tiny', messages, temperature: 0 });
        text = choices[0]!.message.content ?? '';
      }
      return text;
    }),
  );
  expect(texts).toEqual(Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? GREETING : WELL)));
  const { rows } = await tiny.database.pool.query<{ n: number }>(
    `select count(*)::integer as n from pg_stat_activity where datname = current_database() and application_name = 'hartonomous'`,
  );
  expect(rows[0]!.n).toBe(2);
});

test('the command listens on loopback, and stops at SIGTERM', async () => {
  let asked: Promise<Response> | null = null;
  const { code, stdout, stderr } = await hartonomous(['serve', '--port', '0', '--backends', '1'], {
    url: tiny.database.url,
    onStart: (child) => {
      child.stdout!.once('data', (text: Buffer) => {
        const url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(text))![0];
        asked = tiny.post('/v1/chat/completions', { model: 'tiny', messages: HELLO, temperature: 0 }, {}, url);
        void asked.finally(() => child.kill('SIGTERM'));
      });
    },
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^listening at http:\/\/127\.0\.0\.1:\d+ \(OpenAI: \/v1, Ollama: \/api\)\n$/);
  expect((await asked!).status).toBe(200);
});
