/** Labels that an engine tells apart: as a session does itself, to the bit, recorded alike, beside everybody's answers. */
import { describe, expect, it } from 'vitest';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import type { Call, EngineServer } from './server.ts';
import { ENGINE, QWEN, STORIES, TINY, errorOf, foreign, loaded, results, useEngineServer } from './server.ts';

/** An encoder and a decoder that rank labels, and one that has labels of its own. */
const RANKERS = ['bert-reranker', 'qwen3-reranker'];
const OWN = 'own-labels';

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  for (const name of RANKERS) await ingestFile(server.url, modelPath(`zoo/${name}-f32.gguf`), name);
  await ingestFile(server.url, modelPath('zoo/bert-reranker-f32.gguf'), OWN);
  await server.asAdmin(
    `update hartonomous.models set hyperparameters = hyperparameters || '{"bert.classifier.output_labels": ["good", "bad"]}'
     where name = '${OWN}'`,
  );
  await server.setStored('max_loaded_models', 6);
});

const LABELS = ['happy', 'sad', 'the dog was very big and ran through all of the garden', 'red', 'a', 'é'];

const classify = (text: string, labels: readonly unknown[], model: string, options: object = {}): Call => [
  'select * from hartonomous.classify($1, $2::text[], $3, $4::json)',
  [text, labels, model, JSON.stringify(options)],
];

const LONG = 'One day a little girl found a ball. '.repeat(20);

const CALLS: Call[] = [
  ...[STORIES, QWEN, TINY].flatMap((model) =>
    [{}, { calibrate: false }, { cache: false }, { raw: true, instruction: 'Once' }, { stop: ['a'] }].map((options) =>
      classify('Lily smiled.', LABELS, model, { ...options, seed: 1, record: true }),
    ),
  ),
  classify(LONG, LABELS, QWEN, { seed: 2, record: true }),
  classify('', ['one', 'two'], STORIES, { numa: true, record: false }),
  // As many as go through it in many pieces.
  classify(
    'A dog',
    Array.from({ length: 60 }, (_, i) => `word ${i} `.repeat(1 + (i % 9))),
    STORIES,
    { instruction: 'What?' },
  ),
  ...RANKERS.flatMap((model) => [
    classify('A dog', LABELS, model),
    classify(LONG, LABELS, model, { instruction: 'Is it {label}?' }),
  ]),
];

/** As often as it is recorded. */
const RUNS = 16;

/** Labels of which each takes a pass. */
const manyLabels = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `label ${i} ${'of some words '.repeat(12)}`);
const MANY = manyLabels(120);
/** As many as take longer than it takes to look that they are read, and to end the engine. */
const MORE = manyLabels(900);
const many = (text: string, labels = MANY): Call => [
  `select count(*) as n from hartonomous.classify($1, $2::text[], $3, '{"instruction": "What?"}')`,
  [text, labels, TINY],
];

describe.skipIf(foreign)('labels of an engine', () => {
  it('are those of a session without it, recorded alike, which loads nothing', async () => {
    const evaluated = (): Promise<unknown[]> =>
      server.asAdmin('select prompt_eval_count as n from hartonomous.runs order by id');
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), CALLS);
    const counts = await evaluated();
    const runs = await server.takeRuns();
    expect(runs.runs).toHaveLength(RUNS);
    expect(JSON.stringify(alone)).toContain('change nothing here');
    await server.set('engine = on');
    await server.startAnew();
    const client = await server.open('anna');
    expect(await results(client, CALLS)).toEqual(alone);
    expect(await evaluated()).toEqual(counts);
    expect(await server.takeRuns()).toEqual(runs);
    expect(await loaded(client)).toEqual([]);
    expect(await server.answers()).toBe(CALLS.length);
    // And many at once, of two roles.
    expect(await server.resultsAtOnce(CALLS)).toEqual(alone);
    expect(await server.answers()).toBe(2 * CALLS.length);
  });

  it('end in the same errors', async () => {
    const bad: Call[] = [
      classify('Hello', ['a', 'b'], 'nobody'),
      classify('Hello', ['a'], QWEN),
      classify('Hello', ['a', 'a'], QWEN),
      classify('Hello', ['a', null], QWEN),
      classify('Hello', ['a', 'b'], QWEN, { wrong: 1 }),
      classify('Hello', ['a', 'b'], QWEN, { instruction: 1 }),
      classify('Hello', ['a', 'b'], QWEN, { num_ctx: 1_000_000 }),
      classify('word '.repeat(100), ['a', 'b'], STORIES, { num_ctx: 16, raw: true }),
      classify('Hello', ['a', 'word '.repeat(100)], STORIES, { num_ctx: 100, raw: true }),
      classify('Hello', ['a', 'b'], QWEN, { template: '{{ nothing( }}' }),
      classify('Hello', ['a', 'b'], QWEN, { tool_choice: 'required' }),
      classify('Hello', ['a', 'b'], QWEN, { ablate: { heads: [[0, 0]] } }),
      classify('Hello', ['a', 'b'], OWN),
      ...RANKERS.flatMap((model) => [
        classify('Hello', ['a', 'a'], model),
        classify('Hello', ['a', 'b'], model, { kind: 'query' }),
        classify('Hello', ['a', 'b'], model, { temperature: 1 }),
        classify('word '.repeat(9999), ['a', 'b'], model, { truncate: false }),
      ]),
    ];
    const [alone, asked] = await server.errorsWithoutAndWith(bad);
    expect(asked).toEqual(alone);
    const [facts] = await server.asAdmin<{ failures: string }>('select failures from hartonomous.engine_list');
    expect(Number(facts!.failures)).toBeGreaterThan(4); // some of them are its own
  });

  it('count for hourly limits as without it, and the question that a session asked last is not read again', async () => {
    const question = { instruction: 'Which?', cache: false };
    const costs: number[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      await server.startAnew();
      for (const role of ['anna', 'ben']) {
        const client = await server.open(role);
        await results(client, [classify('x', ['y', 'z'], STORIES)]);
        for (const text of ['Some text', 'Another one', 'A third']) {
          const before = await server.countedTokens(role, CALLS[0]!);
          await results(client, [classify(text, LABELS, STORIES, question)]);
          costs.push((await server.countedTokens(role, CALLS[0]!)) - before);
        }
        expect(await loaded(client)).toEqual(engine === 'on' ? [] : [{ model: STORIES }]);
      }
    }
    // What one role asked saves another nothing.
    expect(costs.slice(6)).toEqual(costs.slice(0, 6));
    expect(costs.slice(3, 6)).toEqual(costs.slice(0, 3));
    expect(costs[1]).toBeLessThan(0.7 * costs[0]!);
    expect(costs[1]).toBeGreaterThan(LABELS.length);
  });

  it('of many hold up nobody: tokens of others come between, and another question', async () => {
    const next = await server.openEndless(await server.open('ben'));
    await next();
    const short = classify('Lily smiled.', ['happy', 'sad'], STORIES);
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), [short]);
    await server.set('engine = on');
    const [client, quick] = await Promise.all([server.open('anna'), server.open('ben')]);
    const state = { done: false, tokens: 0, shorts: 0 };
    const asked = results(client, [many('A dog')]).finally(() => (state.done = true));
    const shorts = (async (): Promise<void> => {
      while (!state.done) {
        expect(await results(quick, [short])).toEqual(alone);
        state.shorts++;
      }
    })();
    while (!state.done) {
      await next();
      state.tokens++;
    }
    await shorts;
    expect((await asked)[0]!.rows).toEqual([{ n: String(MANY.length) }]);
    expect(await loaded(client)).toEqual([]);
    expect(state.tokens).toBeGreaterThan(5);
    expect(state.shorts).toBeGreaterThan(1);
  });

  it('are let go of where the caller is cancelled, and computed by the session where the engine is ended', async () => {
    const client = await server.open('anna');
    const reading = (): Promise<void> =>
      server.until(
        'it is read',
        `exists (select from hartonomous.engine_requests where state = 'reading')`,
        'hartonomous',
      );
    const cut = errorOf(results(client, [many('A cat', MORE)]));
    await reading();
    await server.cancel('anna');
    expect(await cut).toMatchObject({ code: '57014' });
    await server.untilIdle();
    const asked = results(client, [many('A cat', MORE)]);
    await reading();
    await server.asAdmin(`select pg_terminate_backend(pid) from pg_stat_activity where backend_type = '${ENGINE}'`);
    expect((await asked)[0]!.rows).toEqual([{ n: String(MORE.length) }]);
    expect(await loaded(client)).toEqual([{ model: TINY }]);
  });

  it('of more text than the engine takes at once are told apart by the session', async () => {
    const client = await server.open('anna');
    const labels = Array.from({ length: 1000 }, (_, i) => `label ${i}`);
    const call = (text: string): Call => [
      'select count(*) as n from hartonomous.classify($1, $2::text[], $3)',
      [text, labels, RANKERS[0]],
    ];
    const before = await server.answers();
    for (const [text, taken] of [
      ['A dog', 1],
      ['A dog '.repeat(170), 1],
    ] as const) {
      expect((await results(client, [call(text)]))[0]!.rows).toEqual([{ n: '1000' }]);
      expect((await server.answers()) - before).toBe(taken);
    }
  });
});
