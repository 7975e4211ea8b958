/** Embeddings that an engine computes: those that a session computes itself, to the bit, in pieces beside everybody's answers. */
import { describe, expect, it } from 'vitest';
import { ingestFile, loggedBy } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import type { Call, EngineServer } from './server.ts';
import { QWEN, errorOf, foreign, generate, loaded, results, useEngineServer } from './server.ts';

const BERT = 'bert';
/** Known by its name for what it wants before a query and before a document. */
const E5 = 'e5-small';
/** An encoder and a decoder that have classifiers. */
const RANKERS = ['bert-reranker', 'qwen3-reranker'];

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  for (const name of [BERT, E5]) await ingestFile(server.url, modelPath('zoo/bert-tiny-f32.gguf'), name);
  for (const name of RANKERS) await ingestFile(server.url, modelPath(`zoo/${name}-f32.gguf`), name);
  await server.setStored('max_loaded_models', 7);
});

const TEXTS = ['Hello world', null, 'A dog and a cat', '', 'Hello world', 'word '.repeat(300), 'é'];
const json = (options: object): string => JSON.stringify(options);

const CALLS: Call[] = [
  ...[{}, { normalize: false }, { dimensions: 7, pooling: 'mean' }, { pooling: 'last' }].flatMap((options): Call[] =>
    [BERT, QWEN].flatMap((model): Call[] => {
      const all = json(model === QWEN ? { pooling: 'mean', ...options } : options);
      return [
        ['select hartonomous.embed($1::text, $2, $3::json) as e', ['A dog', model, all]],
        [
          'select * from hartonomous.embed($1::text[], $2, $3::json)',
          [TEXTS.filter((text) => text !== ''), model, all],
        ],
      ];
    }),
  ),
  [
    'select * from hartonomous.embed($1::text[], $2, $3::json)',
    [TEXTS, QWEN, json({ pooling: 'mean', on_error: 'null' })],
  ],
  [
    'select * from hartonomous.embed($1::text[], $2, $3::json)',
    [['a', 'word '.repeat(999), 'word '.repeat(999), 'b'], BERT, json({ truncate: false, on_error: 'null' })],
  ],
  ['select hartonomous.similarity($1, $2, $3) as s', ['A dog', 'A cat', BERT]],
  ['select * from hartonomous.rerank($1, $2::text[], $3)', ['A dog', ['cat', null, 'dog', 'A dog', 'horse'], BERT]],
  ...RANKERS.flatMap((model) =>
    [{}, { normalize: true }].map((options): Call => {
      const docs = ['cat', null, 'dog', 'A dog', 'word '.repeat(700)];
      return ['select * from hartonomous.rerank($1, $2::text[], $3, $4::json)', ['A dog', docs, model, json(options)]];
    }),
  ),
  [`select ord, hartonomous.embed('the same', $1) as e from generate_series(1, 5) as ord`, [BERT]],
  // As many as go through it in many pieces.
  [
    'select * from hartonomous.embed($1::text[], $2)',
    [Array.from({ length: 200 }, (_, i) => `word ${i} `.repeat(1 + (i % 40))), BERT],
  ],
];

/** With nothing to compute, which the session finds out by itself. */
const EMPTY_CALLS: Call[] = [
  ['select hartonomous.similarity($1, $2, $3) as s', [null, null, BERT]],
  ['select * from hartonomous.embed($1::text[], $2)', [[], BERT]],
  ['select * from hartonomous.embed($1::text[], $2)', [[null, null], BERT]],
];

async function counts(): Promise<{ answers: number; promptTokens: number }> {
  const [row] = await server.asAdmin<Record<string, string>>(
    'select answers, prompt_tokens from hartonomous.engine_list',
  );
  return { answers: Number(row?.answers ?? 0), promptTokens: Number(row?.prompt_tokens ?? 0) };
}

describe.skipIf(foreign)('embeddings of an engine', () => {
  it('are those of a session without it, which loads nothing', async () => {
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), CALLS);
    const empty = await results(await server.open('anna'), EMPTY_CALLS);
    expect(JSON.stringify(alone)).toContain('it was cut');
    await server.set('engine = on');
    const before = await counts();
    const client = await server.open('anna');
    expect(await results(client, CALLS)).toEqual(alone);
    expect(await loaded(client)).toEqual([]);
    const after = await counts();
    // An answer a call, but for those that are remembered or have no text: one of two, and four of five rows.
    expect(after.answers - before.answers).toBeGreaterThan(CALLS.length - 4);
    expect(after.promptTokens).toBeGreaterThan(before.promptTokens);
    expect(await results(client, EMPTY_CALLS)).toEqual(empty);
    // And many at once, of two roles, whose sessions remember none.
    const clients = await Promise.all(CALLS.map((_, i) => server.open(i % 2 === 0 ? 'anna' : 'ben')));
    const together = await Promise.all(CALLS.map((call, i) => results(clients[i]!, [call])));
    expect(together.flat()).toEqual(alone);
  });

  it('of more texts than the engine takes at once are computed by the session, be they null', async () => {
    const call: Call = [
      `select count(score) as n from hartonomous.rerank('A dog', array['A cat'] || array_fill(null::text, array[100000]), $1)`,
      [RANKERS[0]],
    ];
    const client = await server.open('anna');
    await results(client, [['select hartonomous.embed($1, $2) as e', ['A dog', BERT]]]);
    const before = await counts();
    expect((await results(client, [call]))[0]!.rows).toEqual([{ n: '1' }]);
    expect(await counts()).toEqual(before);
  });

  it('are logged with the tokens that they are logged with without it, as often as they are asked for', async () => {
    const rerank = (model: string, query: string, ...docs: (string | null)[]): Call => [
      'select * from hartonomous.rerank($1, $2::text[], $3)',
      [query, docs, model],
    ];
    // Of a model that does not tell queries from documents, of one that does, and of a classifier.
    const calls = [BERT, E5, RANKERS[0]!].flatMap((model): Call[] => [
      rerank(model, 'a red boat', 'a red boat', null, 'a blue one', 'a blue one'),
      rerank(model, 'a blue one', 'a red boat'),
      rerank(model, 'a blue one', 'a blue one', 'a red boat'),
      rerank(model, 'a green one', null),
      rerank(model, 'a green one', 'a green one'),
    ]);
    for (const model of [BERT, E5])
      calls.push(['select * from hartonomous.embed($1::text[], $2)', [['a black one', 'a black one'], model]]);
    const seen: Record<string, unknown>[][] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      const logged: Record<string, unknown>[] = [];
      for (const call of calls) {
        for (let i = 0; i < 3; i++) logged.push(...(await loggedBy(client, () => results(client, [call]))));
      }
      for (const event of logged) delete event.prompt_eval_duration;
      seen.push(logged.filter(({ event }) => event === 'embed' || event === 'rank'));
      expect(await loaded(client)).toHaveLength(engine === 'off' ? 3 : 0);
    }
    expect(seen[0]).toHaveLength(3 * calls.length);
    expect(seen[1]).toEqual(seen[0]);
  });

  it('end in the same errors', async () => {
    const bad: Call[] = [
      ['select hartonomous.embed($1, $2)', ['Hello', 'nobody']],
      ['select hartonomous.embed($1, $2, $3::json)', ['Hello', BERT, json({ wrong: 1 })]],
      ['select hartonomous.embed($1, $2, $3::json)', ['Hello', BERT, json({ dimensions: 100_000 })]],
      ['select hartonomous.embed($1, $2, $3::json)', ['Hello', BERT, json({ kind: 'query' })]],
      ['select hartonomous.embed($1, $2)', ['Hello', QWEN]],
      ['select hartonomous.embed($1, $2, $3::json)', ['Hello', QWEN, json({ pooling: 'rank' })]],
      ['select * from hartonomous.embed($1::text[], $2, $3::json)', [['a', ''], QWEN, json({ pooling: 'mean' })]],
      [
        'select * from hartonomous.embed($1::text[], $2, $3::json)',
        [['a', null, 'word '.repeat(999)], BERT, json({ truncate: false })],
      ],
      [`select * from hartonomous.embed(array[array['a'], array['b']], $1)`, [BERT]],
      ...RANKERS.flatMap((model): Call[] => [
        [`select * from hartonomous.rerank('a', array['b'], $1, '{"kind": "query"}')`, [model]],
        [
          `select * from hartonomous.rerank('a', array['b', $2], $1, '{"truncate": false}')`,
          [model, 'word '.repeat(9999)],
        ],
        ['select hartonomous.embed($1, $2)', ['Hello', model]],
      ]),
    ];
    const seen: unknown[][] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      const errors: unknown[] = [];
      for (const [sql, args] of bad) errors.push(await errorOf(client.query(sql, args)));
      seen.push(errors);
    }
    expect(seen[1]).toEqual(seen[0]);
  });

  it('count for hourly limits as without it', async () => {
    const used = (): Promise<number> => server.countedTokens('anna', CALLS[0]!);
    const texts = Array.from({ length: 40 }, (_, i) => `some text ${i} ${'and more '.repeat(i)}`);
    await results(await server.open('anna'), [CALLS[0]!]);
    const costs: number[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      for (const model of [BERT, QWEN]) {
        const before = await used();
        const call: Call = [
          'select * from hartonomous.embed($1::text[], $2, $3::json)',
          [texts, model, json({ pooling: 'mean' })],
        ];
        await results(await server.open('anna'), [call]);
        costs.push((await used()) - before);
      }
    }
    expect(costs.slice(2)).toEqual(costs.slice(0, 2));
    expect(Math.min(...costs)).toBeGreaterThan(texts.length);
  });

  it('of many texts hold up nobody: tokens of others come between, and another embedding', async () => {
    const next = await server.openEndless(await server.open('ben'));
    await next();
    // Of a decoder and of an encoder.
    const texts = Array.from({ length: 400 }, (_, i) => `text ${i} ${'of some words '.repeat(18)}`);
    const many = (model: string): Call => [
      'select count(embedding) as n from hartonomous.embed($1::text[], $2, $3::json)',
      [texts, model, json({ pooling: 'mean' })],
    ];
    const short: Call = ['select hartonomous.embed($1, $2) as e', ['A dog', BERT]];
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), [short]);
    await server.set('engine = on');
    for (const model of [BERT, QWEN]) {
      const client = await server.open('anna');
      const state = { done: false, tokens: 0, shorts: 0 };
      const asked = results(client, [many(model)]).finally(() => (state.done = true));
      const shorts = (async (): Promise<void> => {
        for (;;) {
          const quick = await server.open('ben');
          if (state.done) return;
          expect(await results(quick, [short])).toEqual(alone);
          state.shorts++;
          await quick.end();
        }
      })();
      while (!state.done) {
        await next();
        state.tokens++;
      }
      await shorts;
      expect((await asked)[0]!.rows).toEqual([{ n: String(texts.length) }]);
      expect(await loaded(client)).toEqual([]);
      expect(state.tokens, model).toBeGreaterThan(5);
      expect(state.shorts, model).toBeGreaterThan(1);
    }
  });

  it('are let go of where the caller is cancelled, and computed by the session where the engine is ended', async () => {
    const texts = Array.from({ length: 400 }, (_, i) => `other ${i} ${'of some words '.repeat(18)}`);
    const call: Call = ['select count(embedding) as n from hartonomous.embed($1::text[], $2)', [texts, BERT]];
    const client = await server.open('anna');
    const reading = (): Promise<void> =>
      server.until(
        'it is read',
        `exists (select from hartonomous.engine_requests where state = 'reading')`,
        'hartonomous',
      );
    const cut = errorOf(results(client, [call]));
    await reading();
    await server.cancel('anna');
    expect(await cut).toMatchObject({ code: '57014' });
    await server.untilIdle();
    const asked = results(client, [call]);
    await reading();
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    expect((await asked)[0]!.rows).toEqual([{ n: String(texts.length) }]);
    expect(await loaded(client)).toEqual([{ model: BERT }]);
  });

  it('are made by a worker itself where the engine has as many requests as it may have, and refused to others', async () => {
    await server.asAdmin('create schema app authorization anna');
    await server.set('engine_requests = 1');
    const client = await server.open('anna');
    await client.query(`set search_path = app; create table notes (id bigint primary key, body text);
      insert into notes select i, 'note ' || i from generate_series(1, 40) i`);
    await client.query(
      `select hartonomous.create_search('notes', '{body}', model => '${BERT}', options => '{"vector": "bytea"}')`,
    );
    const done = [{ waiting: '0', failed: '0', error: null }];
    const state = 'select waiting, failed, error from hartonomous.search_list';
    const chunks = 'select text, md5(embedding) as embedding from app.notes_search_chunks order by text';
    await client.query('call hartonomous.work()');
    expect((await client.query(state)).rows).toEqual(done);
    expect(await loaded(client)).toEqual([]);
    const { rows: expected } = await client.query(chunks);
    expect(expected).toHaveLength(40);

    await client.query('delete from notes');
    await client.query('call hartonomous.work()');
    const { prompt, model, options } = server.endless;
    const endless = errorOf(generate(await server.open('ben'), prompt, model, options));
    await server.until('it is full', 'exists (select from hartonomous.engine_requests)', 'hartonomous');
    const worker = await server.open('anna'); // which remembers no embeddings
    await worker.query(`insert into app.notes select i, 'note ' || i from generate_series(1, 40) i`);
    expect(await errorOf(worker.query(`select hartonomous.embed('A note', '${BERT}')`))).toMatchObject({
      code: '53300',
    });
    await worker.query('call hartonomous.work()');
    expect((await worker.query(state)).rows).toEqual(done);
    expect((await worker.query(chunks)).rows).toEqual(expected);
    expect(await loaded(worker)).toEqual([{ model: BERT }]);
    await server.cancel('ben');
    expect(await endless).toMatchObject({ code: '57014' });
  });
});
