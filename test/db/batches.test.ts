/** Many prompts in one call, and the key/value caches that calls leave to each other. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { connectAlone, createDatabase, ingestFile, lacksOwn, roleName } from './harness.ts';

const MODEL = 'stories';
const CHAT_MODEL = 'qwen';
const roles = [roleName('anna'), roleName('ben')] as const;

interface Row {
  ord: number;
  text: string | null;
  done_reason: string | null;
  eval_count: number | null;
}
interface Completion {
  text: string;
  prompt_eval_count: number;
  prompt_tokens: number;
  eval_count: number;
}
interface Loaded {
  caches: number;
  cached_tokens: number;
  cache_bytes: number;
  memory_bytes: number;
  cache_hits: number;
  calls: number;
  reused_tokens: number;
}

let database: TestDatabase;
/** A backend of its own for every test. */
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), MODEL);
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), CHAT_MODEL);
  await database.pool.query(`select hartonomous.set_default_model('${MODEL}')`);
  for (const role of roles) await database.createRole(role, 'hartonomous_user');
});

afterAll(async () => {
  await database.drop();
});

beforeEach(async () => {
  client = await connect();
});

afterEach(async () => {
  await client.end();
});

async function connect(): Promise<pg.Client> {
  const connection = new pg.Client({ connectionString: database.url });
  connection.on('error', () => undefined);
  await connection.connect();
  return connection;
}

/** Bytes of a memory for which MODEL has room with the cache of a whole context. */
const SMALL_MEMORY = 6 * 1024 * 1024;

const OPTIONS = { raw: true, num_predict: 12, temperature: 0.8, seed: 42 };

async function batch(prompts: (string | null)[], options: object = OPTIONS, model = MODEL): Promise<Row[]> {
  const { rows } = await client.query<Row>('select * from hartonomous.generate($1::text[], $2, $3)', [
    prompts,
    model,
    JSON.stringify(options),
  ]);
  return rows;
}

async function complete(prompt: string, options: object = OPTIONS, model = MODEL): Promise<Completion> {
  const { rows } = await client.query<{ answer: Completion }>('select hartonomous.complete($1, $2, $3) as answer', [
    prompt,
    model,
    JSON.stringify(options),
  ]);
  return rows[0].answer;
}

/** Of the backend that `client` has. */
async function loaded(model = MODEL): Promise<Loaded> {
  const { rows } = await client.query<Record<keyof Loaded, string>>(
    'select * from hartonomous.loaded_models where model = $1',
    [model],
  );
  return Object.fromEntries(Object.entries(rows[0]).map(([key, value]) => [key, Number(value)])) as unknown as Loaded;
}

/** Run with a stored setting of the operator. */
async function withSetting(name: string, value: number, work: () => Promise<void>): Promise<void> {
  await database.pool.query(
    `insert into hartonomous.settings (name, value) values ($1, to_jsonb($2::bigint))
     on conflict (name) do update set value = excluded.value`,
    [name, value],
  );
  try {
    await work();
  } finally {
    await database.pool.query('delete from hartonomous.settings where name = $1', [name]);
  }
}

const BEGINNINGS = ['Once upon a time', 'Lily', 'The big dog', 'One day, a boy named Tim', 'He was sad because', 'A'];
const PROMPTS = Array.from({ length: 20 }, (_, i) => `${BEGINNINGS[i % BEGINNINGS.length]}${' and'.repeat(i % 5)}`);

describe('generate(prompts)', () => {
  it.each([
    ['drawn', OPTIONS],
    ['greedy', { ...OPTIONS, temperature: 0 }],
    ['drawn without caches', { ...OPTIONS, cache: false }],
    ['as long as the context allows', { ...OPTIONS, num_predict: -1, num_ctx: 40 }],
    ['until a stop string', { ...OPTIONS, num_predict: 40, stop: [' a', '.'] }],
  ])('gives 20 prompts, more than go together, what each gets alone in another session: %s', async (_how, options) => {
    const rows = await batch(PROMPTS, options);
    expect(rows.map((row) => row.ord)).toEqual(PROMPTS.map((_, i) => i + 1));
    const together = client;
    client = await connect();
    for (const [i, prompt] of PROMPTS.entries()) {
      const single = await complete(prompt, { ...options, cache: false });
      expect([rows[i].text, rows[i].eval_count], prompt).toEqual([single.text, single.eval_count]);
    }
    await together.end();
  });

  it('applies the chat template, and evaluates what the prompts begin with once', async () => {
    const prompts = ['hello', 'what is a cat', 'hello there', 'why'];
    const options = { num_predict: 6, seed: 1, record: true };
    const rows = await batch(prompts, options, CHAT_MODEL);
    const { rows: runs } = await client.query<{ prompt_eval_count: number; prompt: number; seed: string }>(
      `select prompt_eval_count, cardinality(prompt_ids) as prompt, seed from hartonomous.runs order by id`,
    );
    expect(new Set(runs.map((run) => run.seed))).toEqual(new Set(['1']));
    const reused = runs.map((run) => run.prompt - run.prompt_eval_count);
    expect(reused).toEqual([0, 5, 5, 5]);
    for (const [i, prompt] of prompts.entries()) {
      expect(rows[i].text).toBe((await complete(prompt, { num_predict: 6, seed: 1 }, CHAT_MODEL)).text);
    }
  });

  it('gives null for null, nothing for an empty array and a null array', async () => {
    const rows = await batch(['Once', null, 'Lily']);
    expect(rows[1]).toEqual({ ord: 2, text: null, done_reason: null, eval_count: null });
    expect([rows[0].eval_count, rows[2].eval_count]).toEqual([12, 12]);
    expect(await batch([])).toEqual([]);
    expect((await client.query('select * from hartonomous.generate(null::text[])')).rows).toEqual([]);
  });

  it('names the prompt that cannot be answered by its place, and never shows it', async () => {
    const long = 'secret '.repeat(200);
    const error = await batch(['Once', long], { ...OPTIONS, num_ctx: 64 }).catch((e: unknown) => e as pg.DatabaseError);
    expect(error).toMatchObject({ code: '54000' });
    expect((error as Error).message).toMatch(/^prompt 2: prompt has \d+ tokens, the context holds 64$/);
    expect(JSON.stringify(error)).not.toContain('secret');
    const rows = await batch(['Once', long, 'Lily'], { ...OPTIONS, num_ctx: 64, on_error: 'null' });
    expect(rows[1]).toEqual({ ord: 2, text: null, done_reason: 'error', eval_count: null });
    expect(rows[2].text).toBe((await complete('Lily')).text);
    await expect(batch(['Once'], { on_error: 'ignore' })).rejects.toThrow('option on_error must be one of error, null');
    await expect(complete('Once', { on_error: 'null' })).rejects.toThrow('unknown option "on_error"');
  });

  it('draws a seed of its own for every prompt where none is given, and records it', async () => {
    await batch(['Once', 'Once', 'Once'], { raw: true, num_predict: 3, record: true });
    const { rows } = await client.query<{ seed: string }>('select seed from hartonomous.runs order by id desc limit 3');
    expect(new Set(rows.map((row) => row.seed)).size).toBe(3);
  });

  it('takes an untyped literal for one prompt and a typed array for many', async () => {
    const { rows } = await client.query<{ generate: string }>(
      `select hartonomous.generate('{Once}', options => '{"raw": true, "num_predict": 1}')`,
    );
    expect(typeof rows[0].generate).toBe('string');
  });

  // PL/V8 hands an array of several dimensions over as one of all its elements.
  it.skipIf(lacksOwn('dimensions of arrays'))('refuses an array of two dimensions', async () => {
    await expect(client.query(`select * from hartonomous.generate('{{Once,Lily},{A,B}}'::text[])`)).rejects.toThrow(
      'prompts must be an array of one dimension',
    );
  });

  it('answers all prompts where memory does not hold what all of them need', async () => {
    const options = { ...OPTIONS, num_predict: 300, logit_bias: { 1: -1000, 2: -1000 } };
    const prompts = PROMPTS.slice(0, 12);
    const alone: string[] = [];
    for (const prompt of prompts) alone.push((await complete(prompt, { ...options, cache: false })).text);
    await client.end();
    // The model, and little more than one sequence as long as its context.
    await withSetting('max_wasm_memory_bytes', SMALL_MEMORY, async () => {
      client = await connectAlone(database.url);
      const rows = await batch(prompts, options);
      expect(rows.map((row) => row.text)).toEqual(alone);
      const { memory_bytes: memory } = await loaded();
      expect(memory).toBeLessThan(SMALL_MEMORY);
    });
  });

  it('leaves memory flat over many calls', async () => {
    await client.end();
    client = await connectAlone(database.url);
    await batch(PROMPTS);
    const before = await loaded();
    for (let i = 0; i < 5; i++) await batch(PROMPTS.map((prompt) => `${i} ${prompt}`));
    const after = await loaded();
    expect(after.calls - before.calls).toBe(5 * PROMPTS.length);
    expect(after.cache_bytes).toBeLessThanOrEqual(before.cache_bytes + 2 * 32 * 1280 * 5);
  });
});

const LONG = 'Once upon a time there was a little girl who had a red ball and a blue hat and';

describe('caches between calls', () => {
  it('serve only the role for which they were filled', async () => {
    const counts: number[] = [];
    for (const role of [roles[0], roles[1], roles[0], roles[1]]) {
      await client.query(`set role ${role}`);
      counts.push((await complete(LONG)).prompt_eval_count);
      counts.push((await batch([`${LONG} a`, `${LONG} b`], { ...OPTIONS, num_predict: 1 })).length);
      await client.query('reset role');
    }
    const full = (await complete(LONG, { ...OPTIONS, cache: false })).prompt_tokens;
    expect(counts).toEqual([full, 2, full, 2, 1, 2, 1, 2]);
  });
});

describe('caches of a backend between calls', () => {
  beforeEach(async () => {
    await client.end();
    client = await connectAlone(database.url);
  });

  it('evaluate the new part of a conversation, of several that alternate, and of rows with one instruction', async () => {
    const first = await complete(LONG);
    expect(first.prompt_eval_count).toBe(first.prompt_tokens);
    const other = await complete('A big brown bear walked into the forest to look for honey');
    expect(other.prompt_eval_count).toBeGreaterThan(other.prompt_tokens - 3);
    const again = await complete(`${LONG}${first.text}`);
    // No more than what was added, whose characters may be cut into other tokens than those that were generated.
    expect(again.prompt_eval_count).toBeLessThan(again.prompt_tokens - first.prompt_tokens + 3);
    for (const tail of [' the dog', ' her mom', ' the sun']) {
      const row = await complete(`${LONG}${tail}`);
      expect(row.prompt_eval_count).toBeLessThanOrEqual(6);
      expect(row.text).toBe((await complete(`${LONG}${tail}`, { ...OPTIONS, cache: false })).text);
    }
    const facts = await loaded();
    expect(facts.caches).toBeGreaterThanOrEqual(2);
    expect(facts.cache_hits).toBeGreaterThanOrEqual(4);
    expect(facts.reused_tokens).toBeGreaterThan(60);
  });

  it('are not used and not left where an option says so', async () => {
    await complete(LONG, { ...OPTIONS, cache: false });
    expect((await loaded()).caches).toBe(0);
    await complete(LONG);
    const second = await complete(LONG, { ...OPTIONS, cache: false });
    expect(second.prompt_eval_count).toBe(second.prompt_tokens);
    expect((await loaded()).caches).toBe(1);
  });

  it('stay within max_cache_bytes, the least recently used going first, and within 16', async () => {
    const starts = Array.from({ length: 20 }, (_, i) => `${String.fromCharCode(65 + i)}${i} ${LONG}`);
    for (const start of starts) await complete(start);
    const free = await loaded();
    expect(free.caches).toBe(16);
    const one = free.cache_bytes / free.caches;
    await withSetting('max_cache_bytes', Math.floor(3.5 * one), async () => {
      expect((await loaded()).caches).toBe(3);
      expect((await complete(starts[19])).prompt_eval_count).toBe(1);
      expect((await complete(starts[10])).prompt_eval_count).toBeGreaterThan(10);
      expect((await complete(starts[19])).prompt_eval_count).toBe(1);
      expect((await loaded()).cache_bytes).toBeLessThanOrEqual(3.5 * one);
    });
    await withSetting('max_cache_bytes', 0, async () => {
      const answer = await complete(LONG);
      expect(answer.text).toBe((await complete(LONG, { ...OPTIONS, cache: false })).text);
      expect(await loaded()).toMatchObject({ caches: 0, cache_bytes: 0 });
    });
  });

  it('leave nothing behind and stay right when a call is cancelled', async () => {
    const expected = await complete(LONG, { ...OPTIONS, cache: false });
    const { memory_bytes: empty } = await loaded();
    for (const sql of [
      `select hartonomous.generate('${LONG}', null, '{"raw": true, "num_predict": -1, "logit_bias": {"2": -1000, "1": -1000}}')`,
      `select * from hartonomous.generate(array_fill('${LONG}'::text, array[1000]), null, '{"raw": true, "num_predict": 100}')`,
    ]) {
      for (const ms of [5, 20, 60, 150]) {
        await client.query(`set statement_timeout = ${ms}`);
        await client.query(sql).catch((error: unknown) => expect((error as pg.DatabaseError).code).toBe('57014'));
        await client.query('reset statement_timeout');
        const { memory_bytes: memory, cache_bytes: caches } = await loaded();
        expect(memory - caches, `after ${ms} ms`).toBe(empty);
        expect((await complete(LONG)).text).toBe(expected.text);
      }
    }
  });
});
