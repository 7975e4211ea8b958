import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { smollm2File } from '../golden/smollm2-file.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, ingestFile } from './harness.ts';

const GOLDEN = new URL('../golden/smollm2-135m-q4_1.json', import.meta.url);

interface Row {
  label: string;
  probability: number;
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), 'stories');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
  const { sha256 } = JSON.parse(readFileSync(GOLDEN, 'utf8')) as { sha256: string };
  await ingestFile(database.url, smollm2File(sha256), 'smollm2');
}, 300_000);

afterAll(async () => {
  await database.drop();
});

async function classify(
  text: unknown,
  labels: unknown,
  model: string,
  options: object = { calibrate: false },
): Promise<Row[]> {
  const { rows } = await database.pool.query<Row>('select * from hartonomous.classify($1, $2::text[], $3, $4)', [
    text,
    labels,
    model,
    JSON.stringify(options),
  ]);
  return rows;
}

async function valueOf<T>(sql: string, parameters: unknown[]): Promise<T> {
  return (await database.pool.query<{ value: T }>(sql, parameters)).rows[0].value;
}

/** Log-probability of ids[at] after those before it, from the logits that SQL shows. */
async function logprobAt(ids: number[], at: number, model: string): Promise<number> {
  const logits = await valueOf<number[]>('select hartonomous.logits($1::int[], $2) as value', [
    ids.slice(0, at),
    model,
  ]);
  const highest = Math.max(...logits);
  return logits[ids[at]] - highest - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
}

/** What classify should find, one logits call a token. */
async function expectedProbabilities(texts: string[], model: string, special: boolean): Promise<number[]> {
  const sequences: number[][] = [];
  for (const text of texts) {
    sequences.push(await valueOf('select hartonomous.tokenize($1, $2, $3, true) as value', [text, model, special]));
  }
  let shared = 0;
  while (sequences.every((ids) => ids.length > shared + 1 && ids[shared] === sequences[0][shared])) shared++;
  const scores: number[] = [];
  for (const ids of sequences) {
    let score = 0;
    for (let at = shared; at < ids.length; at++) score += await logprobAt(ids, at, model);
    scores.push(score);
  }
  const total = scores.reduce((sum, score) => sum + Math.exp(score), 0);
  return scores.map((score) => Math.exp(score) / total);
}

describe('classify', () => {
  const LABELS = ['happy', 'sad', 'the dog was very big', 'red', 'a', 'happy and red'];
  const QUESTION = `Say which of these fits the text best: ${LABELS.join(', ')}.\n\nText: Lily smiled.\n\nAnswer:`;

  it.each([{ calibrate: false }, { calibrate: false, cache: false }, { calibrate: false, raw: true }])(
    'gives the labels the shares that the likelihoods of their tokens have, continuing a text: %o',
    async (options) => {
      const rows = await classify('Lily smiled.', LABELS, 'stories', options);
      const expected = await expectedProbabilities(
        LABELS.map((label) => `${QUESTION} ${label}`),
        'stories',
        true,
      );
      expect(rows.map((row) => row.label).sort()).toEqual([...LABELS].sort());
      for (const { label, probability } of rows) expect(probability).toBeCloseTo(expected[LABELS.indexOf(label)], 6);
      const shares = rows.map((row) => row.probability);
      expect(shares).toEqual([...shares].sort((a, b) => b - a));
      expect(shares.reduce((a, b) => a + b)).toBeCloseTo(1, 9);
    },
  );

  it('asks in a user turn where the model has a chat template', async () => {
    const prompt = await valueOf<string>('select hartonomous.render_chat($1, $2) as value', [
      JSON.stringify([{ role: 'user', content: QUESTION }]),
      'qwen',
    ]);
    const expected = await expectedProbabilities(
      LABELS.map((label) => prompt + label),
      'qwen',
      false,
    );
    for (const { label, probability } of await classify('Lily smiled.', LABELS, 'qwen')) {
      expect(probability).toBeCloseTo(expected[LABELS.indexOf(label)], 5);
    }
  });

  it('divides by the likelihood that a label has for a text that says nothing', async () => {
    const plain = new Map((await classify('Lily smiled.', LABELS, 'stories')).map((r) => [r.label, r.probability]));
    const neutral = new Map((await classify('N/A', LABELS, 'stories')).map((r) => [r.label, r.probability]));
    const ratio = (label: string): number => plain.get(label)! / neutral.get(label)!;
    const sum = LABELS.reduce((total, label) => total + ratio(label), 0);
    for (let i = 0; i < 2; i++) {
      for (const { label, probability } of await classify('Lily smiled.', LABELS, 'stories', {})) {
        expect(probability).toBeCloseTo(ratio(label) / sum, 6);
      }
    }
  });

  it('evaluates an instruction once for many texts', async () => {
    const client = await database.pool.connect();
    try {
      await client.query('select hartonomous.unload()');
      const texts = ['The dog barked.', 'A red ball.', 'She cried all day.'];
      const { rows } = await client.query<Row & { n: number }>(
        `select t.n, c.* from unnest($1::text[]) with ordinality as t (text, n),
           lateral hartonomous.classify(t.text, '{joy,grief}', 'stories', '{"instruction": "Once upon a time there was a feeling", "calibrate": false}') as c`,
        [texts],
      );
      expect(rows).toHaveLength(6);
      const loaded = await client.query<{ cache_hits: string; calls: string; reused_tokens: string }>(
        `select calls, cache_hits, reused_tokens from hartonomous.loaded_models where model = 'stories'`,
      );
      expect(loaded.rows[0]).toMatchObject({ calls: '3', cache_hits: '2' });
      expect(Number(loaded.rows[0].reused_tokens)).toBeGreaterThan(20);
    } finally {
      client.release();
    }
  });

  it('tells praise from complaint with SmolLM2-135M', async () => {
    const REVIEWS: [string, string][] = [
      ['I love this phone, it is wonderful and works perfectly.', 'positive'],
      ['Terrible. It broke after one day and nobody helped me.', 'negative'],
      ['The best meal I have had in years, friendly staff.', 'positive'],
      ['A waste of money, I hate it.', 'negative'],
      ['Great quality and fast delivery, very happy.', 'positive'],
      ['The room was dirty and the food was awful.', 'negative'],
    ];
    let right = 0;
    for (const [text, label] of REVIEWS) {
      const rows = await classify(text, ['positive', 'negative'], 'smollm2', {
        instruction: 'Is the sentiment of this review positive or negative?',
      });
      if (rows[0].label === label) right++;
    }
    console.log(`SmolLM2-135M: ${right} of ${REVIEWS.length} reviews right`);
    expect(right).toBeGreaterThanOrEqual(5);
  });

  it.each([
    [['a'], {}, 'classify takes 2 to 1000 labels, 1 were given'],
    [['a', null], {}, 'label 2 is null'],
    [['a', ''], {}, 'label 2 is not a text with characters'],
    [['a', 'b', 'a'], {}, 'label 3 is the same as label 1'],
    [['a', 'b'], { instruction: 7 }, 'option instruction must be a text, got 7'],
    [['a', 'b'], { calibrate: 1 }, 'option calibrate must be true or false, got 1'],
    [['a', 'b'], { num_ctx: 4 }, 'the context holds 4'],
    [['a', 'b'], { instructions: 'x' }, 'unknown option "instructions"'],
  ])('refuses labels %j with options %j', async (labels, options, message) => {
    await expect(classify('secret', labels, 'stories', options)).rejects.toThrow(message);
  });

  it('gives no rows for null', async () => {
    expect(await classify(null, ['a', 'b'], 'stories')).toEqual([]);
    expect(await classify('x', null, 'stories')).toEqual([]);
  });
});
