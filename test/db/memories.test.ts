/** Models spread over several WebAssembly memories, through SQL: every answer as out of one. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelPath, ZOO_DECODERS } from '../golden/model-files.ts';
import { SpreadModel } from '../unit/spread-model.ts';
import type { TestDatabase } from './harness.ts';
import { connectAlone, createDatabase, ingestFile } from './harness.ts';

const DECODERS = ['llama-260k/llama-260k-q8_0', ...ZOO_DECODERS, 'quants/qwen2-256-q4_k_m-mix'];
const ENCODER = 'zoo/bert-tiny-f32';
const PROMPTS = ['Once upon a time', 'The cat', 'Lily and Tom went to the park, and'];
/** The same for all, since few of the models have one. */
const TEMPLATE = '{% for message in messages %}{{ message.content }} {% endfor %}';
const OPTIONS = JSON.stringify({ raw: true, num_predict: 12, temperature: 0.9, seed: 4, record: false });

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  for (const name of [...DECODERS, ENCODER]) await ingestFile(database.url, modelPath(`${name}.gguf`), name);
});
afterAll(() => database.drop());

/** What `use` gets from a backend of its own where a memory holds at most `limit` bytes. */
async function under<T>(limit: number | null, use: (client: pg.Client) => Promise<T>): Promise<T> {
  await database.pool.query(`delete from hartonomous.settings where name = 'max_wasm_memory_bytes'`);
  if (limit !== null) {
    await database.pool.query(
      `insert into hartonomous.settings (name, value) values ('max_wasm_memory_bytes', to_jsonb($1::bigint))`,
      [limit],
    );
  }
  const client = await connectAlone(database.url);
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

async function column<T>(client: pg.Client, sql: string, values: unknown[]): Promise<T[]> {
  return (await client.query<{ value: T }>(sql, values)).rows.map(({ value }) => value);
}

interface Loaded {
  memories: number;
  memory_bytes: number;
}

async function loaded(client: pg.Client): Promise<Loaded[]> {
  return (await client.query<Loaded>('select memories, memory_bytes::float8 from hartonomous.loaded_models')).rows;
}

interface Chat {
  message: { content: string };
  prompt_eval_count: number;
}

/** One conversation of two turns; the second begins in the cache of the first. */
async function converse(client: pg.Client, model: string): Promise<Pick<Chat, 'message' | 'prompt_eval_count'>[]> {
  const messages = [{ role: 'user', content: PROMPTS[0] }];
  const answers: Chat[] = [];
  for (let turn = 0; turn < 2; turn++) {
    const [answer] = await column<Chat>(client, 'select hartonomous.chat($1, $2, $3) as value', [
      JSON.stringify(messages),
      model,
      JSON.stringify({ template: TEMPLATE, num_predict: 8, temperature: 0, record: false }),
    ]);
    answers.push(answer!);
    messages.push({ role: 'assistant', content: answer!.message.content }, { role: 'user', content: PROMPTS[1]! });
  }
  return answers.map(({ message, prompt_eval_count }) => ({ message, prompt_eval_count }));
}

/** An explanation of a recorded run without what names or times the run. */
async function explain(client: pg.Client, model: string): Promise<unknown> {
  const [run] = await column<number>(
    client,
    `select (hartonomous.complete($1, $2, '{"raw": true, "num_predict": 3, "temperature": 0, "record": true}') ->> 'run_id')::integer as value`,
    [PROMPTS[2], model],
  );
  const [explanation] = await column<Record<string, unknown>>(client, 'select hartonomous.explain($1, 2) as value', [
    run,
  ]);
  delete explanation!.run_id;
  return explanation;
}

/** Everything that a decoder answers, on one connection. */
async function answers(client: pg.Client, model: string): Promise<Record<string, unknown>> {
  const ids = await column<number[]>(client, 'select hartonomous.tokenize($1, $2) as value', [PROMPTS[2], model]);
  return {
    generate: await column(client, 'select hartonomous.generate($1::text, $2, $3) as value', [
      PROMPTS[0],
      model,
      OPTIONS,
    ]),
    logits: await column(client, 'select hartonomous.logits($1, $2) as value', [ids[0], model]),
    batch: await column(client, 'select text as value from hartonomous.generate($1::text[], $2, $3) order by ord', [
      PROMPTS,
      model,
      OPTIONS,
    ]),
    chat: await converse(client, model),
    explain: await explain(client, model),
    embed: await column(client, `select hartonomous.embed($1, $2, '{"pooling": "mean"}') as value`, [
      PROMPTS[2],
      model,
    ]),
    nearest: await column(client, `select n as value from hartonomous.nearest_tokens('a', 3, $1) n`, [model]),
    classify: await column(client, 'select c as value from hartonomous.classify($1, $2, $3) c', [
      PROMPTS[0],
      [' red', ' blue'],
      model,
    ]),
  };
}

describe.each(DECODERS)('%s', (model) => {
  test('answers in several memories as in one', async () => {
    const spread = new SpreadModel(model);
    const alone = await under(null, async (client) => {
      const all = await answers(client, model);
      const [{ memories, memory_bytes: bytes }] = (await loaded(client)) as [Loaded];
      expect(memories).toBe(1);
      return { all, bytes };
    });
    const most = spread.limits()[0]!;
    await under(most, async (client) => {
      const found = await answers(client, model);
      for (const [what, expected] of Object.entries(alone.all)) expect(found[what], what).toEqual(expected);
      const [{ memories, memory_bytes: bytes }] = (await loaded(client)) as [Loaded];
      expect(memories).toBe(spread.plan(most).memories.length);
      expect(memories).toBeGreaterThan(2);
      expect(bytes).toBeGreaterThan(alone.bytes);
    });
  });
});

describe('memories', () => {
  test('of an encoder give the same embeddings', async () => {
    const embed = (client: pg.Client): Promise<unknown[]> =>
      column(client, 'select embedding as value from hartonomous.embed($1::text[], $2) order by ord', [
        PROMPTS,
        ENCODER,
      ]);
    const expected = await under(null, embed);
    await under(new SpreadModel(ENCODER).limits()[0]!, async (client) => {
      expect(await embed(client)).toEqual(expected);
      expect((await loaded(client))[0]!.memories).toBeGreaterThan(2);
    });
  });

  test('that a layer does not fit are refused with the name of the model and both sizes, and nothing is loaded', async () => {
    const model = DECODERS.at(-1)!;
    await under(1_000_000, async (client) => {
      await expect(column(client, 'select hartonomous.logits(array[1], $1)', [model])).rejects.toMatchObject({
        code: '54000',
        message: expect.stringMatching(
          new RegExp(
            `^model ${model} needs \\d{7} bytes of WebAssembly memory for its embedding, one memory holds 1000000$`,
          ),
        ) as string,
      });
      expect(await loaded(client)).toEqual([]);
    });
  });

  test('count together against the limit on the bytes of models', async () => {
    const model = DECODERS.at(-2)!;
    const use = (client: pg.Client, precision: string): Promise<unknown> =>
      column(client, 'select hartonomous.generate($1::text, $2, $3) as value', [
        PROMPTS[0],
        model,
        JSON.stringify({ raw: true, num_predict: 1, precision, record: false }),
      ]);
    await under(new SpreadModel(model).limits()[0]!, async (client) => {
      await use(client, 'auto');
      const [{ memories, memory_bytes: bytes }] = (await loaded(client)) as [Loaded];
      expect(memories).toBeGreaterThan(2);
      await database.pool.query(`select hartonomous.set_limit('max_model_bytes', $1)`, [bytes + 100_000]);
      await use(client, 'q8');
      await database.pool.query(`select hartonomous.set_limit('max_model_bytes', null)`);
      expect(await loaded(client)).toHaveLength(1);
    });
  });
});
