import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url).pathname;
const STORIES = modelPath('llama-260k/llama-260k-q8_0.gguf');
const PROMPT = '"Once upon a time"';
const QUERY_CANCELED = '57014';

interface Row {
  step: number;
  token_id: number | null;
  token: string;
  logprob: number | null;
  done_reason: string | null;
  logprobs: { token: string; top_logprobs: { logprob: number }[] } | null;
}

interface Facts {
  text: string;
  done_reason: string;
  prompt_tokens: number;
  prompt_eval_count: number;
  eval_count: number;
  run_id?: number;
}

const roles = { alice: roleName('alice'), bob: roleName('bob') };

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  for (const role of Object.values(roles)) await database.createRole(role, 'hartonomous_user');
  await ingestFile(database.url, STORIES, 'stories');
  await ingestFile(database.url, TINY, 'tiny');
});

afterAll(async () => {
  await database.drop();
});

async function connect(): Promise<pg.Client> {
  const connection = new pg.Client({ connectionString: database.url });
  await connection.connect();
  return connection;
}

beforeEach(async () => {
  client = await connect();
});

afterEach(async () => {
  await client.end();
});

async function open(prompt: string, options: object, model = 'stories', on = client): Promise<string> {
  const { rows } = await on.query<{ id: string }>('select hartonomous.open_session($1, $2, $3) as id', [
    prompt,
    model,
    JSON.stringify(options),
  ]);
  return rows[0].id;
}

async function next(id: string, n: number, on = client): Promise<Row[]> {
  return (await on.query<Row>('select * from hartonomous.next_tokens($1, $2)', [id, n])).rows;
}

async function close(id: string): Promise<Facts> {
  return (await client.query<{ facts: Facts }>('select hartonomous.close_session($1) as facts', [id])).rows[0].facts;
}

/** All rows, taken `n` at a time. */
async function drain(id: string, n: number): Promise<Row[]> {
  const all: Row[] = [];
  for (;;) {
    const rows = await next(id, n);
    all.push(...rows);
    if (rows.length === 0 || rows[rows.length - 1].done_reason !== null) return all;
  }
}

const textOf = (rows: Row[]): string => rows.map((row) => row.token).join('');

async function complete(prompt: string, options: object, model = 'stories'): Promise<Facts> {
  const { rows } = await client.query<{ facts: Facts }>('select hartonomous.complete($1, $2, $3) as facts', [
    JSON.parse(prompt),
    model,
    JSON.stringify(options),
  ]);
  return rows[0].facts;
}

describe('the rows of a session', () => {
  test.each([1, 7, 1000])('make the text that complete gives, %i at a time', async (n) => {
    const options = { seed: 5, num_predict: 60, temperature: 0.9 };
    const expected = await complete(PROMPT, options);
    const id = await open(PROMPT, options);
    const rows = await drain(id, n);
    expect(textOf(rows)).toBe(expected.text);
    expect(rows.map((row) => row.step)).toEqual(rows.map((_, i) => i));
    expect(rows.filter((row) => row.token_id !== null)).toHaveLength(expected.eval_count);
    expect(rows.slice(0, -1).every((row) => row.done_reason === null)).toBe(true);
    expect(rows[rows.length - 1].done_reason).toBe(expected.done_reason);
    expect(await next(id, 1)).toEqual([]);
    expect(await close(id)).toMatchObject({
      text: expected.text,
      done_reason: expected.done_reason,
      eval_count: expected.eval_count,
      prompt_tokens: expected.prompt_tokens,
    });
  });

  test('end before a stop string, whatever tokens it lies across', async () => {
    const whole = await complete(PROMPT, { temperature: 0, num_predict: 40 });
    for (const [from, length] of [
      [20, 3],
      [31, 6],
      [45, 11],
    ]) {
      const stop = whole.text.slice(from, from + length);
      const id = await open(PROMPT, { temperature: 0, num_predict: 40, stop });
      const rows = await drain(id, 1);
      expect(textOf(rows)).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
      expect(rows[rows.length - 1].done_reason).toBe('stop');
    }
  });

  test('carry log-probabilities and alternatives when asked', async () => {
    const id = await open(PROMPT, { temperature: 0, num_predict: 3, top_logprobs: 4 });
    for (const row of await drain(id, 1)) {
      expect(row.logprobs!.top_logprobs).toHaveLength(4);
      expect(row.logprobs!.top_logprobs[0].logprob).toBeCloseTo(row.logprob!, 4);
    }
  });

  test('go on where they were when other calls used the model in between', async () => {
    const options = { seed: 11, num_predict: 30 };
    const expected = await complete(PROMPT, options);
    const first = await open(PROMPT, { ...options, cache: false });
    const second = await open('"The little dog"', options);
    const texts = ['', ''];
    for (let i = 0; i < 10; i++) {
      texts[0] += textOf(await next(first, 3));
      texts[1] += textOf(await next(second, 3));
      await complete('"A cat"', { num_predict: 2 });
    }
    expect(texts[0]).toBe(expected.text);
    expect(texts[1]).toBe((await complete('"The little dog"', options)).text);
  });

  test('come in a read-only transaction', async () => {
    await client.query('begin read only');
    const id = await open(PROMPT, { num_predict: 2, record: true });
    expect(await drain(id, 5)).not.toEqual([]);
    expect((await close(id)).run_id).toBeUndefined();
    await client.query('commit');
  });
});

describe('a conversation', () => {
  test('continued with the next message computes new tokens only', async () => {
    const messages = [{ role: 'user', content: 'Hello, how are you?' }];
    const options = { temperature: 0, num_predict: 40 };
    const first = await open(JSON.stringify(messages), options, 'tiny');
    const answer = textOf(await drain(first, 1));
    const before = await close(first);
    messages.push({ role: 'assistant', content: answer }, { role: 'user', content: 'What is your name?' });
    const second = await open(JSON.stringify(messages), options, 'tiny');
    await drain(second, 100);
    const after = await close(second);
    expect(after.prompt_tokens).toBeGreaterThan(before.prompt_tokens + before.eval_count);
    expect(after.prompt_eval_count).toBeLessThanOrEqual(after.prompt_tokens - before.prompt_tokens - before.eval_count);
    expect(after.text).toMatch(/\S/);
  });
});

describe('a call that is rolled back', () => {
  test('leaves the session where it was, its end and recording too', async () => {
    const options = { seed: 8, num_predict: 9, record: true };
    const id = await open(PROMPT, options);
    const text = textOf(await next(id, 3));
    await client.query('begin');
    const lost = await next(id, 50);
    expect(lost[lost.length - 1].done_reason).toBe('length');
    await client.query('rollback');
    expect(await drain(id, 4)).toEqual(lost);
    const facts = await close(id);
    expect(facts.text).toBe(text + textOf(lost));
    expect((await client.query('select id from hartonomous.runs where id = $1', [facts.run_id])).rows).toHaveLength(1);
  });
});

describe('a cancelled call', () => {
  test('leaves the session where it was', async () => {
    const options = { seed: 3, num_predict: 480, num_ctx: 512 };
    const expected = await complete(PROMPT, options);
    let cancelled = 0;
    for (const timeout of [64, 32, 16, 8, 4, 2, 1]) {
      const id = await open(PROMPT, options);
      let text = textOf(await next(id, 5));
      await client.query(`set statement_timeout = ${timeout}`);
      try {
        text += textOf(await next(id, 400));
      } catch (error) {
        expect((error as pg.DatabaseError).code).toBe(QUERY_CANCELED);
        cancelled++;
      }
      await client.query('set statement_timeout = 0');
      text += textOf(await drain(id, 50));
      expect(text).toBe(expected.text);
      await close(id);
    }
    expect(cancelled).toBeGreaterThan(0);
  });
});

describe('a session', () => {
  test('is not found in another backend, which says where it is', async () => {
    const id = await open(PROMPT, {});
    const other = await connect();
    await expect(next(id, 1, other)).rejects.toMatchObject({
      code: '42704',
      message: expect.stringMatching(
        new RegExp(`^session ${id} is not in this backend \\d+, it was opened in backend \\d+$`),
      ) as string,
      hint: expect.stringContaining('pooler') as string,
    });
    await other.end();
  });

  test('belongs to the role that opened it', async () => {
    await client.query(`set role ${roles.alice}`);
    const id = await open(PROMPT, { num_predict: 2 });
    expect((await client.query('select session_id from hartonomous.sessions')).rows).toEqual([{ session_id: id }]);
    await client.query(`set role ${roles.bob}`);
    await expect(next(id, 1)).rejects.toThrow(`session ${id} does not exist`);
    await expect(close(id)).rejects.toThrow(`session ${id} does not exist`);
    expect((await client.query('select * from hartonomous.sessions')).rows).toEqual([]);
    await client.query(`set role ${roles.alice}`);
    expect(await next(id, 1)).toHaveLength(1);
  });

  test('is recorded at its end, or as cancelled when it is closed before', async () => {
    const ended = await open(PROMPT, { num_predict: 4, record: true });
    await drain(ended, 2);
    const left = await open(PROMPT, { num_predict: 4, record: true });
    await next(left, 1);
    const unused = await open(PROMPT, { num_predict: 4, record: true });
    const facts = [await close(ended), await close(left), await close(unused)];
    expect(facts.map((fact) => fact.done_reason)).toEqual(['length', 'cancelled', 'cancelled']);
    const { rows } = await client.query(
      'select kind, done_reason, cardinality(output_ids) as n from hartonomous.runs where id = any ($1) order by id',
      [facts.map((fact) => fact.run_id)],
    );
    expect(rows).toEqual([
      { kind: 'stream', done_reason: 'length', n: 4 },
      { kind: 'stream', done_reason: 'cancelled', n: 1 },
      { kind: 'stream', done_reason: 'cancelled', n: 0 },
    ]);
  });

  test('is one of a bounded number and expires', async () => {
    await database.pool.query(`insert into hartonomous.settings (name, value) values ('max_sessions', '2')`);
    try {
      const first = await open(PROMPT, {});
      await open(PROMPT, {});
      await expect(open(PROMPT, {})).rejects.toMatchObject({
        code: '53400',
        message: expect.stringMatching(/^this backend holds 2 sessions of role \w+, at most 2 are kept$/) as string,
      });
      // Whoever else comes to this backend, as behind a pooler, has as many.
      await client.query(`set role ${roles.bob}`);
      await close(await open(PROMPT, {}));
      await client.query('reset role');
      await database.pool.query(
        `insert into hartonomous.settings (name, value) values ('session_idle_seconds', '0.05')`,
      );
      await client.query('select pg_sleep(0.1)');
      await open(PROMPT, {});
      await expect(next(first, 1)).rejects.toThrow(`session ${first} does not exist`);
    } finally {
      await database.pool.query(
        `delete from hartonomous.settings where name in ('max_sessions', 'session_idle_seconds')`,
      );
    }
  });

  test('ends when its model is replaced', async () => {
    await ingestFile(database.url, STORIES, 'passing');
    const id = await open(PROMPT, {}, 'passing');
    await database.pool.query(`select hartonomous.remove_model('passing')`);
    await expect(next(id, 1)).rejects.toThrow(`model passing of session ${id} was removed`);
    await expect(next(id, 1)).rejects.toThrow(`session ${id} does not exist`);
  });

  test.each([
    ['1', {}, 'messages must be a JSON array, got number'],
    ['""', { raw: true, num_ctx: 99999 }, "option num_ctx is 99999, the model's context is 512"],
    [JSON.stringify('word '.repeat(600)), { num_ctx: 64 }, 'tokens, the context holds 64'],
  ])('is not opened: %#', async (prompt, options, message) => {
    await expect(open(prompt, options)).rejects.toThrow(message);
    expect((await client.query('select * from hartonomous.sessions')).rows).toEqual([]);
  });
});
