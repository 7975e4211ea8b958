/** Option `ablate`: parts of the network left out of one call. What that computes is compared with numpy in test/golden. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = fileURLToPath(new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url));
const GREEDY = { temperature: 0, repeat_penalty: 1, num_predict: 12 };
const WITHOUT = { heads: [{ layer: 2, head: 1 }], ffns: [{ layer: 0 }] };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
});

afterAll(async () => {
  await database.drop();
});

async function value<T>(sql: string, values: unknown[] = []): Promise<T> {
  return Object.values((await database.pool.query(sql, values)).rows[0] as object)[0] as T;
}

interface Completed {
  text: string;
  prompt_eval_count: number;
  prompt_tokens: number;
  run_id: number;
}

const complete = (options: object): Promise<Completed> =>
  value('select hartonomous.complete($1, $2, $3)', [
    'Hello, how are you?',
    'tiny',
    JSON.stringify({ ...GREEDY, ...options }),
  ]);

test.each<[unknown, string]>([
  [{ heads: [{ layer: 4, head: 0 }] }, 'option ablate names layer 4, the model has layers 0 to 3'],
  [{ heads: [{ layer: 3, head: 4 }] }, 'option ablate names head 4 of layer 3, the model has heads 0 to 3'],
  [{ ffns: [{ layer: 9 }] }, 'option ablate names layer 9, the model has layers 0 to 3'],
  [
    { neurons: [{ layer: 0, index: 99999 }] },
    'option ablate names neuron 99999 of layer 0, the model has neurons 0 to ',
  ],
  [
    { heads: [{ layer: 1 }] },
    `option ablate must be an object whose heads are an array of {"layer": number, "head": number}, got {"layer":1}`,
  ],
  [{ heads: [{ layer: -1, head: 0 }] }, 'option ablate must be an object whose heads are an array of '],
  [{ layers: [] }, 'option ablate must be an object of heads, ffns, neurons, by and from, got {"layers":[]}'],
  [{ ffns: [{ layer: 0 }], by: 'noise' }, 'option ablate must be an object whose by is zero or mean, got "noise"'],
  [{ ffns: [{ layer: 0 }], from: 1.5 }, 'option ablate must be an object whose from is a position, from 0, got 1.5'],
  [{ heads: [] }, 'option ablate must be an object that names 1 to 10000 parts, got {"heads":[]}'],
  ['heads', 'option ablate must be an object with heads, ffns or neurons, got "heads"'],
])('%j is refused by name', async (ablate, message) => {
  const options = JSON.stringify({ ablate });
  for (const call of [`hartonomous.logits(array[1, 2, 3], 'tiny', $1)`, `hartonomous.generate('Hello', 'tiny', $1)`]) {
    await expect(value(`select ${call}`, [options])).rejects.toThrow(message);
  }
});

test.each([
  [`select hartonomous.open_session('"Hello"'::text, 'tiny', $1)`],
  [`select hartonomous.classify('Hello', array['a', 'b'], 'tiny', $1)`],
])('%s does not take it', async (sql) => {
  await expect(value(sql, [JSON.stringify({ ablate: WITHOUT })])).rejects.toThrow(
    'option ablate is for logits, and for the functions that write an answer in one call',
  );
});

test('such a call neither reads nor leaves caches, and its answer is not the model’s', async () => {
  const before = await complete({});
  const again = await complete({});
  expect(again.prompt_eval_count).toBe(1);
  const without = await complete({ ablate: WITHOUT });
  expect(without.text).not.toBe(before.text);
  expect(without.prompt_eval_count).toBe(without.prompt_tokens);
  expect((await complete({ ablate: WITHOUT })).prompt_eval_count).toBe(without.prompt_tokens);
  const after = await complete({});
  expect(after).toMatchObject({ text: before.text, prompt_eval_count: 1 });
});

test('rows of a batch share no beginning', async () => {
  const prompts = ['Hello, how are you?', 'Hello, how is it?', 'Hello'];
  for (const by of ['zero', 'mean']) {
    const options = JSON.stringify({ ...GREEDY, ablate: { ...WITHOUT, by } });
    const { rows } = await database.pool.query<{ text: string }>(
      `select text from hartonomous.generate($1::text[], 'tiny', $2) order by ord`,
      [prompts, options],
    );
    for (const [i, prompt] of prompts.entries()) {
      expect(rows[i]!.text).toBe(await value(`select hartonomous.generate($1::text, 'tiny', $2)`, [prompt, options]));
    }
  }
});

test('leaving out everything from a position on changes nothing before it', async () => {
  const ids = [10, 20, 30, 40];
  const logits = (tokens: number[], from: number) =>
    value<number[]>(`select hartonomous.logits($1, 'tiny', $2)`, [
      tokens,
      JSON.stringify({ ablate: { ...WITHOUT, from } }),
    ]);
  const whole = await value<number[]>(`select hartonomous.logits($1, 'tiny')`, [ids]);
  expect(await logits(ids, 4)).toEqual(whole);
  expect(await logits(ids, 3)).not.toEqual(whole);
});

test('a recorded run says what was left out, and is not explained as if nothing had been', async () => {
  const { run_id: run } = await complete({ ablate: WITHOUT, record: true });
  expect(await value('select sampling->$2 from hartonomous.run_list where id = $1', [run, 'ablate'])).toEqual({
    ...WITHOUT,
    neurons: [],
    by: 'zero',
    from: 0,
  });
  await expect(value('select hartonomous.explain($1, 0)', [run])).rejects.toThrow(
    `run ${run} was written with parts of the network left out (option ablate), so its tokens are not the model's`,
  );
});
