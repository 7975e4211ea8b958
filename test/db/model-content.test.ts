/** The model as data: its tokens, merges, tiles and neighbours in SQL, what models share, and copies. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verify } from '../../cli/ingest/verify.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const STORIES = modelPath('llama-260k/llama-260k-q8_0.gguf');
const STORIES_F16 = modelPath('llama-260k/llama-260k-f16.gguf');
const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, STORIES, 'stories');
  await ingestFile(database.url, QWEN, 'qwen');
});
afterAll(() => database.drop());

async function query(sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  return (await database.pool.query(sql, values)).rows as Record<string, unknown>[];
}

async function as(role: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query(`set role ${role}`);
    return (await client.query(sql)).rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}

describe('views', () => {
  test('token_bytes spells every token in order', async () => {
    expect(
      await as(
        'hartonomous_reader',
        `select array_agg(byte order by ordinal) as bytes, count(distinct hilbert)::int as places
         from hartonomous.token_bytes where model = 'qwen' and token = 'Ġthe'`,
      ),
    ).toEqual([{ bytes: [...Buffer.from(' the')], places: 4 }]);
  });

  test.each(['qwen', 'stories'])('token_bytes are those that a token of %s adds to a text', async (model) => {
    const rows = await query(
      `select b.bytes, hartonomous.detokenize(array[b.token_id, b.token_id], $1) as text
       from (select token_id, array_agg(byte order by ordinal) as bytes from hartonomous.token_bytes where model = $1 group by token_id) b
       join hartonomous.models m on m.name = $1
       join hartonomous.tokens t on t.model_id = m.id and t.token_id = b.token_id and t.type in (1, 6)`,
      [model],
    );
    expect(rows.length).toBeGreaterThan(200);
    for (const { bytes, text } of rows as { bytes: number[]; text: string }[]) {
      const twice = Buffer.from([...bytes, ...bytes])
        .toString()
        .replaceAll('\0', '\uFFFD');
      // The space that encoding puts in front is not part of the text.
      expect([twice, twice.replace(/^ /, '')]).toContain(text);
    }
  });

  test('token_merges lists every merge with its rank, and what it makes is a token', async () => {
    const [row] = await as(
      'hartonomous_reader',
      `select count(*)::int as merges, min(rank) as first, max(rank) as last, count(t.token)::int as known
       from hartonomous.token_merges g
       left join (select distinct token from hartonomous.token_bytes where model = 'qwen') t on t.token = g.merged
       where g.model = 'qwen'`,
    );
    expect(row).toEqual({ merges: 253, first: 0, last: 252, known: 253 });
  });

  test('matrix_tiles adds up to the tensors, in the order of the curve', async () => {
    const rows = await as(
      'hartonomous_reader',
      `select sum(t.size_bytes)::int as bytes, (select size_bytes::int from hartonomous.status where model = 'stories') as expected,
         count(*) filter (where t.hilbert is null)::int as unplaced from hartonomous.matrix_tiles t where t.model = 'stories'`,
    );
    expect(rows[0]).toMatchObject({ bytes: rows[0]!.expected, unplaced: 0 });
  });

  test('model_sharing tells own from shared, and with whom', async () => {
    const sharing = (): Promise<Record<string, unknown>[]> =>
      as(
        'hartonomous_reader',
        `select model, own_atoms::int, own_bytes::int, shared_atoms::int, shared_bytes::int, shared_with from hartonomous.model_sharing`,
      );
    const alone = (await sharing()).find((row) => row.model === 'stories')!;
    await ingestFile(database.url, STORIES_F16, 'stories-f16');
    try {
      const [qwen, stories, f16] = await sharing();
      // The vocabulary is the same and norms are F32 in both; matrices differ.
      expect(stories).toMatchObject({
        model: 'stories',
        shared_with: expect.arrayContaining(['stories-f16']) as unknown,
      });
      expect(Number(stories!.shared_atoms)).toBeGreaterThan(512);
      expect(stories!.shared_atoms).toBe(Number(f16!.shared_atoms));
      expect(Number(stories!.own_bytes)).toBeGreaterThan(0);
      for (const key of ['atoms', 'bytes']) {
        const total = (row: Record<string, unknown>): number =>
          Number(row[`own_${key}`]) + Number(row[`shared_${key}`]);
        expect(total(stories!)).toBe(total(alone));
      }
      expect(qwen!.model).toBe('qwen');
      // What is its own is what goes when it goes.
      const [{ removed }] = (await query(`select hartonomous.remove_model('stories-f16')::int as removed`)) as [
        { removed: number },
      ];
      expect(removed).toBe(f16!.own_atoms);
    } finally {
      await query(`select hartonomous.remove_model('stories-f16')`).catch(() => undefined);
    }
  });
});

describe('embedding and nearest_tokens', () => {
  /** Cosines of a token with all others, from embeddings one by one, in double precision. */
  const REFERENCE = `select e.token_id, hartonomous.cosine_similarity(
      hartonomous.embedding(' the', 'qwen'), hartonomous.embedding(a.token, 'qwen')) as cosine
    from hartonomous.token_embeddings e
    join (select distinct token_id, token from hartonomous.token_bytes where model = 'qwen') a using (token_id)
    where e.model_id = (select id from hartonomous.models where name = 'qwen')`;

  test('an embedding has the norm that the index recorded', async () => {
    const rows = await query(
      `select sqrt(hartonomous.dot_product(v, v)) as norm, e.norm as recorded
       from (select hartonomous.embedding(' the', 'qwen') as v) x, hartonomous.token_embeddings e
       join hartonomous.models m on m.id = e.model_id and m.name = 'qwen'
       where e.token_id = (hartonomous.tokenize(' the', 'qwen'))[1]`,
    );
    expect(rows[0]!.norm).toBeCloseTo(Number(rows[0]!.recorded), 5);
  });

  test('the exact neighbours are those of a search one by one', async () => {
    const wanted = await query(`${REFERENCE} and a.token <> 'Ġthe' order by cosine desc limit 12`);
    const found = await as(
      'hartonomous_user',
      `select token_id, cosine from hartonomous.nearest_tokens(' the', 12, 'qwen')`,
    );
    expect(found.map((row) => row.token_id)).toEqual(wanted.map((row) => row.token_id));
    found.forEach((row, i) => expect(row.cosine).toBeCloseTo(Number(wanted[i]!.cosine), 3));
  });

  test('the Hilbert window holds all of a small vocabulary, so its neighbours are the exact ones', async () => {
    const exact = await query(`select token_id from hartonomous.nearest_tokens(' the', 10, 'qwen')`);
    expect(await query(`select token_id from hartonomous.nearest_tokens(' the', 10, 'qwen', 'hilbert')`)).toEqual(
      exact,
    );
  });

  test.each([
    [`nearest_tokens(' the', 0, 'qwen')`, /k must be 1 to 1000, got 0/],
    [`nearest_tokens(' the', 5, 'qwen', 'guess')`, /method guess is not known, methods are exact and hilbert/],
    [`nearest_tokens('the answer', 5, 'qwen')`, /text is \d+ tokens of the model and no entry of its vocabulary/],
    [`nearest_tokens(' the', 5, 'nobody')`, /model nobody does not exist/],
  ])('%s is refused in one line', async (call, message) => {
    await expect(query(`select * from hartonomous.${call}`)).rejects.toThrow(message);
  });

  test('store_nearest makes edges, again changes nothing, and the tokenizer does not mind', async () => {
    const ids = `select hartonomous.tokenize('the answer is that', 'qwen') as ids`;
    const before = await query(ids);
    const edges = `select count(*)::int as n from hartonomous.relations where kind = 'nearest'`;
    expect(
      await as('hartonomous_admin', `select hartonomous.store_nearest('{" the"," and"}', 5, 'qwen')::int as n`),
    ).toEqual([{ n: 10 }]);
    await query(`select hartonomous.store_nearest('{" the"," and"}', 5, 'qwen')`);
    expect(await query(edges)).toEqual([{ n: 10 }]);
    await query(`select hartonomous.unload()`);
    expect(await query(ids)).toEqual(before);
    expect(await query('select * from hartonomous.check_integrity()')).toEqual([]);
    await expect(as('hartonomous_user', `select hartonomous.store_nearest('{" the"}', 5, 'qwen')`)).rejects.toThrow(
      /denied/,
    );
  });
});

describe('copy_model', () => {
  test('shares every atom, answers alike, and outlives its source', async () => {
    const answer = (model: string): string =>
      `select hartonomous.generate('Once upon a time', '${model}', '{"raw": true, "temperature": 0, "num_predict": 12}') as text`;
    const bytes = `select sum(octet_length(content))::int as bytes, count(*)::int as atoms from hartonomous.atoms`;
    await ingestFile(database.url, STORIES_F16, 'first');
    const before = await query(bytes);
    await as('hartonomous_admin', `select hartonomous.copy_model('first', 'second')`);
    expect(await query(bytes)).toEqual(before);
    const text = await query(answer('first'));
    expect(await query(answer('second'))).toEqual(text);
    expect(await query('select * from hartonomous.check_integrity()')).toEqual([]);
    await query(`select hartonomous.remove_model('first')`);
    expect(await query(answer('second'))).toEqual(text);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    expect((await verify(client, 'second')).differences).toEqual([]);
    await client.end();
    expect(await query('select * from hartonomous.check_integrity()')).toEqual([]);
    await query(`select hartonomous.remove_model('second')`);
  });

  test.each([
    ['nobody', 'x', /model nobody does not exist/],
    ['qwen', 'stories', /model stories exists/],
    ['qwen', ' x', /model name must have 1 to 200 characters, no space around it and no control characters, got ' x'/],
  ])('of %s as %j is refused in one line', async (from, to, message) => {
    await expect(query('select hartonomous.copy_model($1, $2)', [from, to])).rejects.toThrow(message);
  });
});

test('ingest_progress shows what is committed of an ingest that goes on, and of one that was left', async () => {
  const progress = `select model, is_running, tokens::int, tensors::int, bytes_stored::int, bytes_total::int, percent::float8
    from hartonomous.ingest_progress`;
  let during: Record<string, unknown>[] = [];
  const stop = new AbortController();
  let looked: Promise<unknown> | null = null;
  const broken = ingestFile(database.url, STORIES_F16, 'slow', {
    batchBytes: 10_000,
    signal: stop.signal,
    onProgress: (phase, done) => {
      if (phase !== 'tensors' || done < 100_000 || looked !== null) return;
      looked = as('hartonomous_reader', progress).then((rows) => {
        during = rows;
        stop.abort();
      });
    },
  });
  // A small ingest may be through before anybody has looked.
  await broken.catch(() => undefined);
  await looked;
  if (during.length > 0) {
    expect(during[0]).toMatchObject({ model: 'slow', is_running: true, tokens: 512 });
    expect(Number(during[0]!.bytes_stored)).toBeGreaterThanOrEqual(100_000);
    expect(Number(during[0]!.bytes_stored)).toBeLessThanOrEqual(Number(during[0]!.bytes_total));
  }
  await query(`select hartonomous.remove_model('slow')`);
  const dead = new AbortController();
  await expect(
    ingestFile(database.url, STORIES_F16, 'left', {
      batchBytes: 10_000,
      signal: dead.signal,
      onProgress: (phase, done) => void (phase === 'tensors' && done > 100_000 && dead.abort()),
    }),
  ).rejects.toThrow();
  const [left] = await query(progress);
  expect(left).toMatchObject({ model: 'left', is_running: false, tokens: 512 });
  expect(Number(left!.percent)).toBeGreaterThan(10);
  expect(Number(left!.percent)).toBeLessThan(100);
  await query(`select hartonomous._abandon_ingest('left')`);
  expect(await query(progress)).toEqual([]);
});
