/** Removing a model that others are using: they answer as before or say that it is gone, and nothing else is touched. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const FILE = modelPath('zoo/qwen2-tiny-f32.gguf');
const ROUNDS = 4;
const GONE = /model shared (does not exist|was removed while it was loaded)/;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, FILE, 'kept');
  await ingestFile(database.url, FILE, 'shared');
});
afterAll(() => database.drop());

/** Ask a model for a short text again and again, in a session that now and then drops what it has loaded. */
async function ask(model: string, until: () => boolean): Promise<{ answers: Set<string>; errors: string[] }> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const answers = new Set<string>();
  const errors: string[] = [];
  for (let i = 0; !until(); i++) {
    try {
      if (i % 3 === 2) await client.query('select hartonomous.unload()');
      const { rows } = await client.query<{ text: string }>(
        `select hartonomous.generate('The quick', $1, '{"raw": true, "temperature": 0, "num_predict": 6}') as text`,
        [model],
      );
      answers.add(rows[0]!.text);
    } catch (error) {
      errors.push((error as Error).message);
    }
  }
  await client.end();
  return { answers, errors };
}

test('users of a removed model answer alike or say that it is gone; users of its twin notice nothing', async () => {
  let done = false;
  const askers = ['shared', 'shared', 'kept'].map((model) => ask(model, () => done));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      await database.pool.query(`select hartonomous.remove_model('shared')`);
      if (round % 2 === 0) await ingestFile(database.url, FILE, 'shared');
      else await database.pool.query(`select hartonomous.copy_model('kept', 'shared')`);
    }
  } finally {
    done = true;
  }
  const [first, second, kept] = await Promise.all(askers);
  expect(kept!.errors).toEqual([]);
  expect(kept!.answers.size).toBe(1);
  for (const { answers, errors } of [first!, second!]) {
    for (const answer of answers) expect(kept!.answers.has(answer)).toBe(true);
    for (const error of errors) expect(error).toMatch(GONE);
  }
  expect((await database.pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
});

test('neither a removal nor an ingest in its place waits for a transaction that recorded a run of the model', async () => {
  await ingestFile(database.url, FILE, 'recorded');
  const [asker, admin] = await Promise.all([0, 0].map(() => database.pool.connect()));
  const ask = `select hartonomous.generate('The quick', 'recorded', '{"raw": true, "num_predict": 1, "record": true}')`;
  try {
    await asker!.query('begin');
    await asker!.query(ask);
    await admin!.query(`set statement_timeout = '30s'`);
    await admin!.query(
      `insert into hartonomous.models (name, state, architecture, hyperparameters, tokenizer, source_format, source_digest,
         source_bytes, parameter_count, vocabulary_size)
       select name, 'ingesting', architecture, hyperparameters, tokenizer, source_format, source_digest, source_bytes,
         parameter_count, 0 from hartonomous.models where name = 'recorded'`,
    );
    await admin!.query(
      `select hartonomous._publish_model(id) from hartonomous.models where name = 'recorded' and state = 'ingesting'`,
    );
    await admin!.query(`select hartonomous.remove_model('recorded')`);
    await asker!.query('commit');
    expect((await admin!.query(`select model_name from hartonomous.runs`)).rows).toEqual([{ model_name: 'recorded' }]);
  } finally {
    for (const client of [asker, admin]) client!.release(true);
  }
});
