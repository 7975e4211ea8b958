/** What sessions without JavaScript get from the engine: what their own functions would give, row by row. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import type { Call, EngineServer } from './server.ts';
import { QWEN, STORIES, foreign, generate, hasV8, results, useEngineServer } from './server.ts';

const BERT = 'bert';
const RANKERS = ['bert-reranker', 'qwen3-reranker'];

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  await ingestFile(server.url, modelPath('zoo/bert-tiny-f32.gguf'), BERT);
  for (const name of RANKERS) await ingestFile(server.url, modelPath(`zoo/${name}-f32.gguf`), name);
  await server.setStored('max_loaded_models', 6);
});

const LONG = 'word '.repeat(700);
const MANY = Array.from({ length: 64 }, (_, i) => `text ${i}`);

const embed = (text: string | null, model: string | null, options: string | null = '{}'): Call => [
  'select hartonomous.embed($1::text, $2, $3::json) as e',
  [text, model, options],
];
const embedAll = (texts: unknown, model: string, options: object = {}): Call => [
  'select * from hartonomous.embed($1::text[], $2, $3::json)',
  [texts, model, JSON.stringify(options)],
];
const similarity = (a: string | null, b: string, options: object = {}, model = BERT): Call => [
  'select hartonomous.similarity($1, $2, $3, $4::json) as s',
  [a, b, model, JSON.stringify(options)],
];
const rerank = (docs: unknown, model: string, options: object = {}, query: string | null = 'A dog'): Call => [
  'select * from hartonomous.rerank($1, $2::text[], $3, $4::json)',
  [query, docs, model, JSON.stringify(options)],
];
const classify = (labels: unknown, model: string, options: object = {}): Call => [
  'select * from hartonomous.classify($1, $2::text[], $3, $4::json)',
  ['Lily smiled', labels, model, JSON.stringify(options)],
];
const generateAll = (prompts: unknown, options: object): Call => [
  'select * from hartonomous.generate($1::text[], $2, $3::json)',
  [prompts, STORIES, JSON.stringify(options)],
];

const stream = (prompt: string | null, options: object): Call => [
  'select * from hartonomous.generate_stream($1, $2, $3::json)',
  [prompt, STORIES, JSON.stringify(options)],
];
/** `by` has its type in SQL. */
const under = (name: string, by: string, value: unknown, options: object = {}): Call => [
  `select hartonomous.generate_${name}($1, $2::${by}, $3, $4::json)::text as text`,
  ['Once', value, STORIES, JSON.stringify({ seed: 4, num_predict: 30, record: true, ...options })],
];
const SCHEMA =
  '{"type": "object", "properties": {"b": {"type": "boolean"}, "a": {"enum": ["x", "\\"y\\""]}}, "required": ["b", "a"]}';

/** Those that the engine answers. */
const ANSWERED: Call[] = [
  embed('A dog', BERT),
  embed('A dog', BERT, null),
  embed('A dog', null),
  embed('', BERT),
  embed('é \u{1F600} "quoted" \\ {a,b}', BERT, '{"normalize": false, "dimensions": 7}'),
  embed('A dog', QWEN, '{"pooling": "mean"}'),
  embedAll(['A dog', null, '', 'A dog', 'a "b", {c}'], BERT),
  embedAll([], BERT),
  embedAll([null, null], BERT),
  embedAll(['a', LONG], BERT, { truncate: false, on_error: 'null' }),
  embedAll(MANY, BERT),
  similarity('A dog', 'A cat'),
  similarity('A dog', 'A dog', { normalize: false }),
  rerank(['cat', null, 'dog', 'A dog', 'A dog', 'a "b", {c}'], BERT),
  ...RANKERS.flatMap((model) => [
    rerank(['cat', null, 'dog', 'A dog'], model),
    rerank(['cat', 'dog'], model, { normalize: true }),
    rerank([], model),
    classify(['happy', 'sad', 'a "b", {c}'], model),
    classify(['happy', 'sad'], model, { instruction: 'Is it {label}?' }),
  ]),
  classify(['happy', 'sad', 'é'], STORIES, { seed: 1 }),
  classify(['happy', 'sad'], STORIES, { seed: 1, record: true, instruction: 'What is she?' }),
  classify(['happy', 'sad'], STORIES, { seed: 1, record: true, instruction: 'What is she?', calibrate: false }),
  generateAll(['Once', null, '', 'A dog\n"and"', 'Once'], { seed: 3, num_predict: 6, record: true }),
  generateAll(['Once', 'Why', LONG], { seed: 3, num_predict: 6, num_ctx: 64, on_error: 'null', record: true }),
  generateAll([], { seed: 3 }),
  stream('Once upon', { seed: 5, num_predict: 12, record: true }),
  stream('Once é', { seed: 6, num_predict: 40, temperature: 1.4, stop: ['a', 'the'] }),
  stream('Once', { num_predict: 0 }),
  under('json', 'text', SCHEMA),
  under('json', 'json', SCHEMA),
  under('json', 'jsonb', SCHEMA, { record: false, logprobs: true }),
  under('json', 'text', '{"type": "boolean", "colour": "red"}'),
  under('regex', 'text', '[a-c]{3}\\d'),
  under('grammar', 'text', 'root ::= "yes" | "no"'),
  under('choice', 'text[]', ['yes', 'no', 'a "b"']),
];

/** Those that need their own functions: they have errors, notices or more than an engine is left with. */
const LEFT: Call[] = [
  embed(null, BERT),
  embed('A dog', 'nobody'),
  embed('A dog', BERT, '{"colour": 1}'),
  embed('A dog', BERT, '[]'),
  embed('A dog', STORIES),
  embed(LONG, BERT),
  embed(LONG, BERT, '{"truncate": false}'),
  embedAll(null, BERT),
  embedAll(
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
    BERT,
  ),
  embedAll([...MANY, 'one more'], BERT),
  embedAll(['a', LONG], BERT, { truncate: false }),
  embedAll(['A dog', LONG], BERT),
  similarity(null, 'A cat'),
  similarity(LONG, 'A cat', { truncate: false, on_error: 'null' }),
  rerank(null, BERT),
  rerank(['a'], BERT, {}, null),
  rerank(['cat', LONG], RANKERS[0]!, { truncate: false }),
  classify(['happy', 'happy'], STORIES),
  classify(['happy', null], STORIES),
  classify(['happy'], RANKERS[0]!),
  classify(['happy', 'sad'], STORIES, { calibrate: 1 }),
  generateAll(['Once', LONG], { seed: 3, num_ctx: 64 }),
  generateAll(null, {}),
  stream(null, {}),
  stream('Once', { bad: 1 }),
  under('json', 'text', 'null'),
  under('json', 'text', '{"type": '),
  under('json', 'text', '{"not": {}}'),
  under('regex', 'text', '('),
  under('regex', 'text', null),
  under('grammar', 'text', 'root = 1'),
  under('choice', 'text[]', ['yes', null]),
  under('choice', 'text[]', []),
  under('choice', 'text[]', ['yes', 'no'], { response_format: { type: 'json_object' } }),
];

/** Without what differs from run to run, and what an engine knows from others before. */
const lasting = (text: string): string => text.replaceAll(/("(?:[a-z_]*duration|prompt_eval_count)":)\d+/g, '$1');

/** Result or error of a call with its notices and lines for the log in a session of its own, and what it recorded. */
async function outcome([sql, args]: Call): Promise<{ seen: unknown; runs: unknown; needsV8: boolean }> {
  const client = await server.open('anna');
  await client.query('set client_min_messages = debug1');
  const heard: unknown[] = [];
  client.on('notice', ({ message }) => {
    const text = String(message);
    if (!/"event":"(load|unload)"/.test(text) && /^(hartonomous|text) /.test(text)) heard.push(lasting(text));
  });
  let seen: unknown;
  try {
    seen = await results(client, [[sql, args]]);
    (seen as { notices?: unknown }[])[0]!.notices = heard;
  } catch (error) {
    const { code, message, detail, hint } = error as pg.DatabaseError;
    seen = { code, message, detail, hint };
  }
  const needsV8 = await hasV8(client);
  await client.end();
  return { seen, runs: await server.takeRuns(), needsV8 };
}

async function compare(calls: readonly Call[], needsV8: boolean): Promise<void> {
  await server.set('engine = off');
  const alone: unknown[] = [];
  for (const call of calls) alone.push({ call, ...(await outcome(call)), needsV8 });
  await server.set('engine = on');
  await generate(await server.open('anna'), 'Once', STORIES, { num_predict: 1 });
  const asking: unknown[] = [];
  for (const call of calls) asking.push({ call, ...(await outcome(call)) });
  expect(asking).toEqual(alone);
}

describe.skipIf(foreign)('a session without JavaScript', () => {
  it('gets what its own function would give, with the same lines of the log and recorded runs', () =>
    compare(ANSWERED, false));

  it('has its own functions where anything is out of the ordinary', () => compare(LEFT, true));

  it('has tokens of texts counted that are cut, which its own function says', async () => {
    const call = embed('many words '.repeat(400), BERT);
    const counted: number[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      await (await server.open('ben')).query(...embed('some', BERT));
      const before = await server.countedTokens('ben', call);
      await (await server.open('ben')).query(...call);
      counted.push((await server.countedTokens('ben', call)) - before);
    }
    expect(counted[0]).toBeGreaterThan(100);
    expect(counted[1]).toBe(counted[0]);
  });

  it('gets rows in the select list, as much as in from', async () => {
    await server.set('engine = on');
    const client = await server.open('anna');
    const sql = `select i, hartonomous.rerank('dog', array['cat', 'dog'], '${BERT}') as r from generate_series(1, 2) i`;
    const { rows } = await client.query(sql);
    expect(await hasV8(client)).toBe(false);
    await server.set('engine = off');
    expect(rows).toEqual((await (await server.open('anna')).query(sql)).rows);
    expect(rows).toHaveLength(4);
  });

  it('embeds the texts of a few calls so, and has JavaScript of its own for a statement of many', async () => {
    const [few, many] = [await server.open('anna'), await server.open('anna')];
    const sql = (count: number): string =>
      `select hartonomous.embed('text ' || i, '${BERT}')::text as e from generate_series(1, ${count}) i`;
    const first = [];
    for (let i = 0; i < 3; i++) first.push((await few.query(sql(4))).rows);
    expect(await hasV8(few)).toBe(false);
    const all = (await many.query(sql(10))).rows;
    expect(await hasV8(many)).toBe(true);
    for (const rows of first) expect(rows).toEqual(all.slice(0, 4));
  });
});
