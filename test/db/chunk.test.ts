/** chunk through SQL, by the tokens of models. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const text = readFileSync(new URL('../../docs/reliability.md', import.meta.url), 'utf8')
  .slice(0, 8000)
  .replaceAll('model', 'mod\u{1f44d}\u{1f3fd}e\u0301l')
  .trim();
const user = roleName('reader');

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(user, 'hartonomous_user');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
});
afterAll(() => database.drop());

test.each(['bert', 'qwen'])(
  'chunks of %s are what substr gives, of at most so many tokens, in order',
  async (model) => {
    const client = await database.pool.connect();
    try {
      await client.query(`set role ${user}`);
      for (const options of [{}, { size: 40 }, { size: 40, overlap: 20, by: 'sentence' }, { size: 30, by: 'token' }]) {
        const { rows } = await client.query(
          `select count(*)::integer as chunks, bool_and(c.text = substr($1, c."from", c."to" - c."from" + 1)) as exact,
           max(hartonomous.token_count(c.text, $2)) as most, bool_and(c.number = c.ordinality) as numbered,
           min(c."from") as first, max(c."to") = length($1) as whole
         from hartonomous.chunk($1, $2, $3) with ordinality c`,
          [text, model, JSON.stringify({ format: 'markdown', ...options })],
        );
        const { chunks, most, ...facts } = rows[0] as { chunks: number; most: number };
        expect(facts).toEqual({ exact: true, numbered: true, first: 1, whole: true });
        const size = 'size' in options ? options.size : model === 'bert' ? 256 - 2 - 16 : 256;
        expect(most).toBeLessThanOrEqual(size);
        expect(most).toBeGreaterThan(size / 2);
        expect(chunks).toBeGreaterThan(7);
      }
    } finally {
      await client.query('reset role');
      client.release();
    }
  },
);

test('null has no chunks, an unknown option and an unknown model are refused by name', async () => {
  expect((await database.pool.query(`select * from hartonomous.chunk(null, 'bert')`)).rows).toEqual([]);
  const call = (args: string): Promise<unknown> => database.pool.query(`select * from hartonomous.chunk('a', ${args})`);
  await expect(call(`'bert', '{"page": 1}'`)).rejects.toMatchObject({
    code: '22023',
    message: 'unknown option "page"',
  });
  await expect(call(`'nobody'`)).rejects.toMatchObject({ code: '42704', message: 'model nobody does not exist' });
});

test('a long text can be cancelled', async () => {
  const client = await database.pool.connect();
  try {
    await client.query(`set statement_timeout = 200`);
    const call = client.query(`select count(*) from hartonomous.chunk(repeat($1, 1000), 'bert')`, [text]);
    await expect(call).rejects.toMatchObject({ code: '57014' });
  } finally {
    await client.query('reset statement_timeout');
    client.release();
  }
});
