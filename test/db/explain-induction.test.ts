/** A model that is known to answer by induction: explanations must find the token and the head that decide. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inductionModel } from '../golden/induction-model.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** What the check must separate the deciding input from others by. */
const LEAST_RATIO = 5;

let database: TestDatabase;
const folder = new FileFolder();

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, folder.write(inductionModel()), 'induction');
});

afterAll(async () => {
  folder.remove();
  await database.drop();
});

interface Explained {
  top_head: { layer: number; head: number; position: number; weight: number };
  top_input: { input: string; influence: number };
  checks: { deletion: { probability_lost: number; probability_lost_at_random: number } };
}

describe.each([
  ['kABmzwrtcvpqsxygnA', 'B', 2],
  ['zwrtQxmkvcpsgnybdQ', 'x', 5],
  ['mnRtkwvzxcpsgqybdhjfR', 't', 3],
])('after %s', (prompt, answer, position) => {
  let run: number;
  let explained: Explained;

  beforeAll(async () => {
    const { rows } = await database.pool.query<{ done: { text: string; run_id: number } }>(
      `select hartonomous.complete($1, options => '{"raw": true, "temperature": 0, "repeat_penalty": 1, "num_predict": 1, "record": true}') as done`,
      [prompt],
    );
    expect(rows[0]!.done.text).toBe(answer);
    run = rows[0]!.done.run_id;
    explained = (
      await database.pool.query<{ e: Explained }>(`select hartonomous.explain($1, 0, inputs => 'tokens') as e`, [run])
    ).rows[0]!.e;
  });

  test('the head is the one that copies, and it looks at the token to copy', () => {
    expect(explained.top_head).toMatchObject({ layer: 1, head: 1, position });
    expect(explained.top_head.weight).toBeGreaterThan(0.9);
  });

  test('the input is the token to copy', () => {
    expect(explained.top_input.input).toBe(answer);
  });

  test('deleting what decides costs far more than deleting others', () => {
    const { probability_lost: top, probability_lost_at_random: random } = explained.checks.deletion;
    console.log(`${prompt}: probability lost ${top.toFixed(4)}, at random ${random.toFixed(4)}`);
    expect(top).toBeGreaterThan(0.5);
    expect(top).toBeGreaterThan(LEAST_RATIO * random);
  });
});
