/** embed, similarity and rerank through SQL, against llama.cpp's embeddings of the same texts. */
import { readFileSync } from 'node:fs';
import type { PoolClient } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cosine, decodeFloats, maxDifference } from '../golden/agreement.ts';
import { modelPath } from '../golden/model-files.ts';
import { connectAlone, createDatabase, ingestFile, loggedBy } from './harness.ts';
import type { TestDatabase } from './harness.ts';

interface Golden {
  tokenize: { text: string; ids_with_bos_eos: number[] }[];
  embeddings: { items: { text: string; ids: number[]; embedding_f32_base64: string }[]; cosine: number[][] };
}

const golden = JSON.parse(readFileSync(modelPath('goldens/bert-tiny-f32.json'), 'utf8')) as Golden;
const { items } = golden.embeddings;
const RAW = JSON.stringify({ normalize: false });
const MAX_DIFFERENCE = 2e-3;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
});
afterAll(() => database.drop());

/** The column `value` of a one-row query. */
async function value<T>(sql: string, ...parameters: unknown[]): Promise<T> {
  return (await database.pool.query<{ value: T }>(sql, parameters)).rows[0]!.value;
}

describe('embed', () => {
  test("gives llama.cpp's embeddings, each text alone and all together", async () => {
    const { rows } = await database.pool.query<{ ord: number; embedding: number[] }>(
      `select * from hartonomous.embed($1::text[], 'bert', $2)`,
      [items.map(({ text }) => text), RAW],
    );
    expect(rows.map(({ ord }) => ord)).toEqual(items.map((_, i) => i + 1));
    for (const [i, { text, embedding_f32_base64: floats }] of items.entries()) {
      expect(maxDifference(rows[i]!.embedding, decodeFloats(floats))).toBeLessThanOrEqual(MAX_DIFFERENCE);
      const alone = await value<number[]>(`select hartonomous.embed($1, 'bert', $2) as value`, text, RAW);
      expect(alone).toEqual(rows[i]!.embedding);
    }
  });

  test("reads llama.cpp's tokens, with those that begin and end a text", async () => {
    for (const { text, ids_with_bos_eos: ids } of golden.tokenize) {
      if (text.includes('\0')) continue;
      const sql = `select hartonomous.tokenize($1, 'bert', add_special => true) as value`;
      expect(await value(sql, text), JSON.stringify(text)).toEqual(ids);
    }
  });

  test('makes vectors of length one, and of fewer dimensions when asked', async () => {
    const length = (vector: number[]): number => Math.hypot(...vector);
    const whole = await value<number[]>(`select hartonomous.embed('Hello world', 'bert') as value`);
    expect(whole).toHaveLength(64);
    expect(length(whole)).toBeCloseTo(1, 6);
    const part = await value<number[]>(
      `select hartonomous.embed('Hello world', 'bert', '{"dimensions": 16}') as value`,
    );
    expect(part).toHaveLength(16);
    expect(length(part)).toBeCloseTo(1, 6);
    expect(cosine(part, whole.slice(0, 16))).toBeCloseTo(1, 6);
  });

  test('cuts a text that is too long and keeps the token that ends it, or refuses it', async () => {
    const long = 'a '.repeat(1000);
    const exact = 'a '.repeat(254);
    const sql = `select hartonomous.embed($1, 'bert', $2) as value`;
    expect(await value(sql, long, '{}')).toEqual(await value(sql, exact, '{}'));
    await expect(value(sql, long, '{"truncate": false}')).rejects.toMatchObject({
      code: '54000',
      message: 'text 1 has 1002 tokens, the model reads 256',
    });
  });

  test('a cut text is told of in a notice, once a statement', async () => {
    const client = await database.pool.connect();
    const notices: string[] = [];
    const listen = (notice: { message?: string | undefined }): void => void notices.push(notice.message ?? '');
    client.on('notice', listen);
    try {
      const long = 'a '.repeat(1000);
      await client.query(`select hartonomous.embed($1 || i, 'bert') from generate_series(1, 3) i`, [long]);
      expect(notices).toEqual([
        'text 1 has 1003 tokens, the model reads 256: it was cut, and so may others of this statement be',
      ]);
      await client.query(`select * from hartonomous.embed(array['short', $1], 'bert')`, [long]);
      await client.query(`select hartonomous.similarity('short', $1, 'bert')`, [long]);
      await client.query(`select hartonomous.embed('short', 'bert')`);
      expect(notices.slice(1).map((notice) => notice.slice(0, 20))).toEqual([
        'text 2 has 1002 toke',
        'text 2 has 1002 toke',
      ]);
    } finally {
      client.off('notice', listen);
      client.release();
    }
  });

  test('a text that cannot be embedded ends the call, or is null beside the others', async () => {
    await database.pool.query(`select hartonomous.copy_model('qwen', 'plain')`);
    const texts = ['Hello', '', null, 'a '.repeat(1000)];
    const all = (options: object): Promise<{ rows: Record<string, unknown>[] }> =>
      database.pool.query(
        `select ord, embedding is null as missing, prompt_eval_count as tokens, error from hartonomous.embed($1::text[], 'plain', $2)`,
        [texts, JSON.stringify({ pooling: 'mean', truncate: false, ...options })],
      );
    await expect(all({})).rejects.toMatchObject({ code: '22023', message: 'text 2 has no tokens' });
    await expect(all({ on_error: 'skip' })).rejects.toThrow('option on_error must be one of error, null, got "skip"');
    const { rows } = await all({ on_error: 'null' });
    const [hello] = await value<number[]>(`select array[hartonomous.token_count('Hello', 'plain')] as value`);
    expect(rows).toEqual([
      { ord: 1, missing: false, tokens: hello, error: null },
      { ord: 2, missing: true, tokens: null, error: 'text 2 has no tokens' },
      { ord: 3, missing: true, tokens: null, error: null },
      {
        ord: 4,
        missing: true,
        tokens: null,
        error: expect.stringMatching(/^text 4 has \d+ tokens, the model reads \d+$/) as string,
      },
    ]);
    const scores = await database.pool.query<{ score: number | null }>(
      `select score from hartonomous.rerank('Hello', array['', 'Hello'], 'plain', '{"pooling": "mean", "on_error": "null"}')`,
    );
    expect(scores.rows.map(({ score }) => score === null)).toEqual([false, true]);
    await database.pool.query(`select hartonomous.remove_model('plain')`);
  });

  test('null gives null, alone and in its place', async () => {
    expect(await value(`select hartonomous.embed(null::text, 'bert') as value`)).toBeNull();
    const { rows } = await database.pool.query(
      `select ord, embedding is null as missing from hartonomous.embed(array['a', null, 'b'], 'bert')`,
    );
    expect(rows.map(({ missing }) => missing as boolean)).toEqual([false, true, false]);
  });

  test('a decoder embeds by the pooling that is asked for, and says so where none is', async () => {
    const sql = `select hartonomous.embed('Hello world', 'qwen', $1) as value`;
    await expect(value(sql, '{}')).rejects.toMatchObject({
      code: '55000',
      message: 'model qwen does not say how it makes embeddings',
    });
    const states = await value<number[]>(sql, '{"pooling": "last", "normalize": false}');
    const mean = await value<number[]>(sql, '{"pooling": "mean", "normalize": false}');
    const first = await value<number[]>(sql, '{"pooling": "cls", "normalize": false}');
    expect(states).toHaveLength(64);
    expect(mean).not.toEqual(states);
    // A decoder's first token sees itself only.
    const other = await value<number[]>(
      `select hartonomous.embed('Hello there, you', 'qwen', '{"pooling": "cls", "normalize": false}') as value`,
    );
    const tokens = await value<number[][]>(
      `select jsonb_build_array(hartonomous.tokenize('Hello world', 'qwen'), hartonomous.tokenize('Hello there, you', 'qwen')) as value`,
    );
    expect(tokens[0]![0]).toBe(tokens[1]![0]);
    expect(maxDifference(first, Float32Array.from(other))).toBeLessThan(1e-5);
  });

  test.each([
    ['{"pool": "mean"}', 'unknown option "pool"'],
    ['{"pooling": "sum"}', 'option pooling must be one of mean, cls, last, got "sum"'],
    ['{"normalize": 1}', 'option normalize must be true or false, got 1'],
    ['{"dimensions": 0}', 'option dimensions must be a positive integer, got 0'],
    ['{"dimensions": 65}', "option dimensions is 65, the model's embeddings have 64"],
    ['{"precision": "f8"}', 'option precision must be one of auto, f32, q8, got "f8"'],
    ['[]', 'options must be a JSON object, got []'],
  ])('options %s are refused by name', async (options, message) => {
    const call = value(`select hartonomous.embed('a', 'bert', $1) as value`, options);
    await expect(call).rejects.toMatchObject({ code: '22023', message });
  });

  test('an encoder neither writes nor has logits', async () => {
    for (const call of [
      `generate('Hello', 'bert')`,
      `complete('Hello', 'bert', '{"raw": true}')`,
      `logits(array[5], 'bert')`,
    ]) {
      await expect(value(`select hartonomous.${call} as value`)).rejects.toMatchObject({
        code: '0A000',
        message: 'a model of architecture bert reads text and writes none',
        hint: 'use it with hartonomous.embed',
      });
    }
  });
});

describe('similarity and rerank', () => {
  test("similarity is the cosine of llama.cpp's embeddings", async () => {
    for (let i = 0; i < items.length; i++) {
      for (let j = 0; j < i; j++) {
        const sql = `select hartonomous.similarity($1, $2, 'bert') as value`;
        const found = await value<number>(sql, items[i]!.text, items[j]!.text);
        expect(Math.abs(found - golden.embeddings.cosine[i]![j]!)).toBeLessThan(1e-4);
      }
    }
  });

  test('rerank orders texts by it, null last', async () => {
    const docs = [...items.slice(1).map(({ text }) => text), null];
    const { rows } = await database.pool.query<{ ord: number; doc: string | null; score: number | null }>(
      `select * from hartonomous.rerank($1, $2::text[], 'bert')`,
      [items[0]!.text, docs],
    );
    const expected = items
      .slice(1)
      .map((_, i) => ({ ord: i + 1, score: golden.embeddings.cosine[0]![i + 1]! }))
      .sort((a, b) => b.score - a.score);
    expect(rows.map(({ ord }) => ord)).toEqual([...expected.map(({ ord }) => ord), docs.length]);
    expect(rows.map(({ doc }) => doc)).toEqual(rows.map(({ ord }) => docs[ord - 1]));
    expect(rows.at(-1)!.score).toBeNull();
  });

  test('explain_similarity gives what pairs of tokens add to the cosine', async () => {
    const { rows } = await database.pool.query<{ n: number; sum: number; cosine: number; seen: boolean }>(
      `select count(*)::integer as n, sum(contribution) as sum, hartonomous.similarity('a red house', 'the house is red', 'bert') as cosine,
         bool_or(abs(contribution) > 0.001) as seen
       from hartonomous.explain_similarity('a red house', 'the house is red', 'bert')`,
    );
    expect(rows[0]!.n).toBeGreaterThan(10);
    expect(rows[0]!.sum).toBeCloseTo(rows[0]!.cosine, 5);
    expect(rows[0]!.seen).toBe(true);
  });

  test('explain_similarity is near a separate computation in float64, pair by pair', async () => {
    const pairs = JSON.parse(readFileSync(new URL('../golden/similarity.json', import.meta.url), 'utf8')) as {
      a: string;
      b: string;
      contributions: number[][];
    }[];
    expect(pairs).toHaveLength(3);
    for (const { a, b, contributions } of pairs) {
      const { rows } = await database.pool.query<{ a_position: number; b_position: number; contribution: number }>(
        `select * from hartonomous.explain_similarity($1, $2, 'bert')`,
        [a, b],
      );
      expect(rows).toHaveLength(contributions.flat().length);
      const most = Math.max(...contributions.flat().map(Math.abs));
      for (const row of rows) {
        const expected = contributions[row.a_position]![row.b_position]!;
        expect(Math.abs(row.contribution - expected) / most, `${a} ${b}`).toBeLessThan(1e-3);
      }
    }
  });

  test('rerank without a model takes the one for embeddings, and loads no other', async () => {
    const client = await connectAlone(database.url);
    try {
      await client.query(`select * from hartonomous.rerank('the moon', array['the moon', 'a boat'])`);
      const { rows } = await client.query('select model from hartonomous.loaded_models');
      expect(rows).toEqual([{ model: 'bert' }]);
    } finally {
      await client.end();
    }
  });
});

describe('recent embeddings', () => {
  /** Tokens of the texts that calls embed, and those among them that were computed. */
  async function tokensOf(
    client: PoolClient,
    work: () => Promise<unknown>,
  ): Promise<{ prompt: number; computed: number }> {
    const logged = (await loggedBy(client, work)).filter(({ event }) => event === 'embed');
    const sum = (name: string): number => logged.reduce((all, each) => all + Number(each[name]), 0);
    return { prompt: sum('prompt_tokens'), computed: sum('prompt_eval_count') };
  }

  test('a constant is embedded once for all rows, alone, in similarity and in rerank', async () => {
    const client = await database.pool.connect();
    try {
      await client.query(`select hartonomous.embed('warm', 'bert')`);
      const tokens = await value<number>(
        `select cardinality(hartonomous.tokenize('the moon', 'bert', add_special => true)) as value`,
      );
      for (const [call, computed] of [
        [`cardinality(hartonomous.embed('the moon', 'bert'))`, tokens],
        [`hartonomous.similarity('the moon', 'the moon', 'bert')`, 0],
        [`(select score from hartonomous.rerank('the moon', array['the moon', null]::text[], 'bert') limit 1)`, 0],
        [`cardinality(hartonomous.embed('the moon', 'bert', '{"dimensions": 4}'))`, tokens],
      ] as const) {
        const ask = (): Promise<unknown> =>
          client.query(`select count(*) from generate_series(1, 50) i where i + ${call} > 0`);
        const asked = call.includes('rerank') ? 1 : 50; // whose arguments are the same in every row
        // The first of all these calls computes it, and so does one with other options.
        expect(await tokensOf(client, ask), call).toEqual({ prompt: asked * tokens, computed });
        expect(await tokensOf(client, ask), call).toEqual({ prompt: asked * tokens, computed: 0 });
      }
    } finally {
      client.release();
    }
  });

  test('are the same bits, and no other role meets them', async () => {
    const client = await database.pool.connect();
    try {
      await client.query('create role embed_other; grant hartonomous_user to embed_other');
      const ask = async (): Promise<{ embedding: number[]; computed: number }> => {
        let embedding: number[] = [];
        const { computed } = await tokensOf(client, async () => {
          const { rows } = await client.query<{ e: number[] }>(`select hartonomous.embed('a secret', 'bert') as e`);
          embedding = rows[0]!.e;
        });
        return { embedding, computed };
      };
      await client.query(`select hartonomous.embed('warm', 'bert')`);
      const first = await ask();
      expect(first.computed).toBeGreaterThan(0);
      expect(await ask()).toEqual({ embedding: first.embedding, computed: 0 });
      await client.query('set role embed_other');
      expect(await ask()).toEqual(first);
    } finally {
      await client.query('reset role; drop role embed_other');
      client.release();
    }
  });
});

test('a hartonomous_user embeds, in a read-only transaction too; PUBLIC does not', async () => {
  const client = await database.pool.connect();
  try {
    await client.query('create role embed_user; create role embed_nobody; grant hartonomous_user to embed_user');
    await client.query('begin read only');
    await client.query('set local role embed_user');
    const { rows } = await client.query(
      `select cardinality(hartonomous.embed('a', 'bert')) as n, hartonomous.similarity('a', 'b', 'bert') as s`,
    );
    expect(rows[0]).toMatchObject({ n: 64 });
    await client.query('set local role embed_nobody');
    await expect(client.query(`select hartonomous.embed('a', 'bert')`)).rejects.toMatchObject({ code: '42501' });
    await client.query('rollback');
  } finally {
    await client.query('drop role if exists embed_user, embed_nobody').catch(() => undefined);
    client.release();
  }
});

test('embed is computed once a query, so that an index on embeddings answers `order by`', async () => {
  await database.pool.query(`
    create extension cube;
    create table places (note text, place cube);
    insert into places select u.note, cube(e.embedding::float8[])
      from unnest(array['a cat', 'a dog', 'the moon', '12345']) with ordinality as u (note, n)
      join hartonomous.embed(array['a cat', 'a dog', 'the moon', '12345'], 'bert') e on e.ord = u.n;
    create index on places using gist (place)`);
  const nearest = `select note as value from places order by place <-> cube(hartonomous.embed('the moon', 'bert')::float8[]) limit 1`;
  const client = await database.pool.connect();
  try {
    await client.query('begin; set local enable_seqscan = off');
    expect((await client.query<{ value: string }>(nearest)).rows[0]!.value).toBe('the moon');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${nearest}`);
    expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Index Scan using places_place_idx/);
    await client.query('rollback');
  } finally {
    client.release();
  }
});

test('an embedding becomes a vector of pgvector, and an index on vectors answers `order by`', async (context) => {
  const available = await value<boolean>(
    `select exists (select from pg_available_extensions where name = 'vector') as value`,
  );
  if (!available) {
    console.log(
      'skipped the cast to vector: this PostgreSQL has no extension vector (Debian: postgresql-MAJOR-pgvector)',
    );
    context.skip();
  }
  await database.pool.query(`
    create extension vector;
    create table notes (note text, embedding vector(64));
    insert into notes select t, e.embedding::vector from unnest(array['a cat', 'a dog', 'the moon', '12345']) with ordinality as u (t, n)
      join hartonomous.embed(array['a cat', 'a dog', 'the moon', '12345'], 'bert') e on e.ord = u.n;
    create index on notes using ivfflat (embedding vector_cosine_ops) with (lists = 1)`);
  const nearest = `select note as value from notes order by embedding <=> hartonomous.embed('the moon', 'bert')::vector limit 1`;
  expect(await value(nearest)).toBe('the moon');
  const client = await database.pool.connect();
  try {
    await client.query('set enable_seqscan = off');
    const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain ${nearest}`);
    expect(rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Index Scan using notes_embedding_idx/);
  } finally {
    client.release();
  }
});
