/** Generation over the rows of a table. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { connectAs, createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const OPTIONS = `'{"raw": true, "temperature": 0, "num_predict": 4}'`;
const role = roleName('user');

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen2');
  await database.createRole(role, 'hartonomous_user');
  await database.pool.query(
    `create table public.docs as select i as id, 'text number ' || i as body from generate_series(1, 6) as i;
     grant select on public.docs to ${role}`,
  );
  client = await connectAs(database.url, role);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

test('rows evaluate what differs from the rows before, and get what each gets alone', async () => {
  const { rows } = await client.query<{
    body: string;
    answer: { text: string; prompt_tokens: number; prompt_eval_count: number };
  }>(
    `select body, hartonomous.complete('Summarise in one sentence what this text says: ' || body, options => ${OPTIONS}) as answer
     from public.docs order by id`,
  );
  expect(rows).toHaveLength(6);
  const [first, ...rest] = rows.map((row) => row.answer);
  expect(first!.prompt_eval_count).toBe(first!.prompt_tokens);
  for (const answer of rest) expect(answer.prompt_eval_count).toBeLessThan(answer.prompt_tokens / 3);
  for (const { body, answer } of rows) {
    const alone = await client.query<{ text: string }>(
      `select hartonomous.generate('Summarise in one sentence what this text says: ' || $1::text, options => (${OPTIONS}::jsonb || '{"cache": false}')::json) as text`,
      [body],
    );
    expect(alone.rows[0]!.text).toBe(answer.text);
  }
});

test('a null row gives null, and functions of a form work over rows', async () => {
  const { rows } = await client.query<{ text: string | null; choice: string }>(
    `select hartonomous.generate(nullif(body, 'text number 2'), options => ${OPTIONS}) as text,
       hartonomous.generate_choice(body, array['yes', 'no']) as choice
     from public.docs where id < 4 order by id`,
  );
  expect(rows.map((row) => row.text === null)).toEqual([false, true, false]);
  for (const row of rows) expect(['yes', 'no']).toContain(row.choice);
});

test('an error in the array form names the place and not the text', async () => {
  const sql = `select * from hartonomous.generate(array['ok', repeat('secret ', 4000), null], options => $1)`;
  const options = { raw: true, num_predict: 1, num_ctx: 256 };
  await expect(client.query(sql, [JSON.stringify(options)])).rejects.toMatchObject({
    message: expect.stringMatching(/^prompt 2: prompt has \d+ tokens, the context holds 256$/) as string,
  });
  const { rows } = await client.query<{ ord: number; text: string | null }>(sql, [
    JSON.stringify({ ...options, on_error: 'null' }),
  ]);
  expect(rows.map((row) => [row.ord, row.text === null])).toEqual([
    [1, false],
    [2, true],
    [3, true],
  ]);
});
