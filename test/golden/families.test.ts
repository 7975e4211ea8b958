/**
 * Kinds of models beside plain decoders, through SQL: models that embed and rerank against float64 passes, decoders with
 * what is rare against llama.cpp. make-embedding-zoo.py and make-decoder-zoo.py made files and goldens.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { cosine, decodeFloats, maxDifference } from './agreement.ts';
import { modelPath } from './model-files.ts';

interface Embedded {
  mode: 'embed';
  items: { text: string; ids: number[]; embedding: string }[];
}

interface Ranked {
  mode: 'rank';
  items: { query: string; document: string; ids: number[]; score: number }[];
}

function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`models/goldens/${name}.json`, import.meta.url), 'utf8')) as T;
}

const golden = readJson<Record<string, Embedded | Ranked>>('embedding-zoo');
const decoders = readJson<Record<string, { ids: number[]; logits: string }[]>>('decoder-zoo');

const TOLERANCE = 1e-4; // single against double precision
const LOGIT_TOLERANCE = 1e-3;
/** llama.cpp looks GELU up in a table of half floats. */
const GELU_TOLERANCE = 2e-2;
const EXACT = { precision: 'f32', normalize: false };

/** Files in Ollama's form with the model whose weights they hold. */
const OLLAMA = { 'ollama-embeddinggemma-f32': 'gemma-embedding-f32', 'ollama-xlm-roberta-f32': 'xlm-roberta-f32' };
const EMBEDDED = [
  ...Object.entries(golden).flatMap(([name, { mode }]) => (mode === 'embed' ? [[name, name]] : [])),
  ...Object.entries(OLLAMA),
] as [file: string, weights: string][];
const RANKED = Object.entries(golden).flatMap(([name, { mode }]) => (mode === 'rank' ? [name] : []));

let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase();
  for (const name of [...EMBEDDED.map(([file]) => file), ...RANKED, ...Object.keys(decoders)])
    await ingestFile(database.url, modelPath(`zoo/${name}.gguf`), name);
}, 300_000);

afterAll(async () => {
  await database?.drop();
});

async function value<T>(sql: string, parameters: unknown[]): Promise<T> {
  const { rows } = await database.pool.query<{ value: T }>(`select ${sql} as value`, parameters);
  return rows[0].value;
}

function embed(text: string, model: string, options: object): Promise<number[]> {
  return value('hartonomous.embed($1, $2, $3)', [text, model, JSON.stringify(options)]);
}

describe.each(EMBEDDED)('%s', (file, weights) => {
  const { items } = golden[weights] as Embedded;

  it("gives llama.cpp's tokens and the embeddings of a float64 pass", async () => {
    for (const { text, ids, embedding } of items) {
      expect(await value('hartonomous.tokenize($1, $2, add_special => true)', [text, file]), text).toEqual(ids);
      const found = await embed(text, file, EXACT);
      expect(maxDifference(found, decodeFloats(embedding)), text).toBeLessThanOrEqual(TOLERANCE);
    }
    expect(items.length).toBe(5);
  });
});

it.each([
  ['nomic-bert-f32', 'search_query: ', 'search_document: '],
  ['nomic-bert-moe-f32', 'search_query: ', 'search_document: '],
  ['gemma-embedding-f32', 'task: search result | query: ', 'title: none | text: '],
  ['ollama-embeddinggemma-f32', 'task: search result | query: ', 'title: none | text: '],
])('%s puts its prefixes before a query and a document', async (model, query, document) => {
  for (const [kind, prefix] of Object.entries({ query, document })) {
    const found = await embed('the cat', model, { kind });
    expect(found).toEqual(await embed(`${prefix}the cat`, model, {}));
    expect(found).not.toEqual(await embed('the cat', model, {}));
  }
});

it('refuses a kind of text where nobody says what goes before it, and one that is none', async () => {
  await expect(embed('the cat', 'roberta-bpe-f32', { kind: 'query' })).rejects.toThrow(
    'model roberta-bpe-f32 does not say what goes before a query',
  );
  await expect(embed('the cat', 'nomic-bert-f32', { kind: 'question' })).rejects.toThrow(
    'option kind must be one of query, document, got "question"',
  );
});

describe.each(RANKED)('%s', (model) => {
  const { items } = golden[model] as Ranked;

  it('scores pairs as a float64 pass does and puts the best first', async () => {
    for (const { query, document, score } of items) {
      const found = await value<number>('(hartonomous.rerank($1, array[$2], $3, $4)).score', [
        query,
        document,
        model,
        JSON.stringify({ precision: 'f32' }),
      ]);
      expect(Math.abs(found - score), `${query} / ${document}`).toBeLessThanOrEqual(TOLERANCE);
    }
    const documents = items.map(({ document }) => document);
    const { rows } = await database.pool.query<{ ord: number; score: number }>(
      'select ord, score from hartonomous.rerank($1, $2, $3)',
      [items[0]!.query, [...documents, null], model],
    );
    const scores = rows.slice(0, -1).map(({ score }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(rows.at(-1)).toEqual({ ord: 4, score: null });
  });

  it('gives probabilities of labels, and no embeddings', async () => {
    const { rows } = await database.pool.query<{ label: string; probability: number }>(
      'select label, probability from hartonomous.classify($1, $2, $3)',
      ['the cat sat on the mat', ['animals', 'finance', 'weather'], model],
    );
    expect(rows.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 6);
    expect(new Set(rows.map(({ label }) => label)).size).toBe(3);
    await expect(embed('the cat', model, {})).rejects.toThrow(
      `model ${model} ranks documents for a query and makes no embeddings`,
    );
  });
});

it.each([{ kind: 'query' }, { pooling: 'mean' }, { dimensions: 8 }])('a reranker refuses %j', async (options) => {
  for (const call of [
    'hartonomous.rerank($1, array[$2], $3, $4)',
    'hartonomous.classify($1, array[$2, $2 || $1], $3, $4)',
  ]) {
    const asked = database.pool.query(`select * from ${call}`, [
      'a',
      'b',
      'bert-reranker-f32',
      JSON.stringify(options),
    ]);
    await expect(asked).rejects.toMatchObject({
      code: '22023',
      message: expect.stringContaining(Object.keys(options)[0]!) as string,
    });
  }
});

it('a reranker gives no score to what makes no pair where on_error says so, and scores the others as without it', async () => {
  const long = Array.from({ length: 2000 }, (_, i) => `word${i}`).join(' ');
  const docs = ['the moon', null, long, 'a boat'];
  const scores = async (given: (string | null)[], options: object): Promise<unknown[]> => {
    const { rows } = await database.pool.query<{ score: number | null }>(
      'select score from hartonomous.rerank($1, $2, $3, $4) order by ord',
      ['the moon', given, 'bert-reranker-f32', JSON.stringify(options)],
    );
    return rows.map(({ score }) => score);
  };
  await expect(scores(docs, { truncate: false })).rejects.toMatchObject({
    code: '54000',
    message: expect.stringMatching(/^query and document 3 have \d+ tokens, the model reads \d+$/) as string,
  });
  const [moon, boat] = await scores(['the moon', 'a boat'], {});
  expect(await scores(docs, { truncate: false, on_error: 'null' })).toEqual([moon, null, null, boat]);
});

it('reads special tokens out of the template of a reranker only', async () => {
  const model = 'qwen3-reranker-f32';
  const client = await database.pool.connect();
  /** Tokens that the model reads for a document. */
  const read = async (document: string): Promise<number> => {
    await client.query('select hartonomous.unload()');
    await client.query('select hartonomous.rerank($1, array[$2], $3)', ['a cat', document, model]);
    const { rows } = await client.query<{ n: number }>(
      'select prompt_tokens::int as n from hartonomous.loaded_models where model = $1',
      [model],
    );
    return rows[0].n;
  };
  try {
    const mark = '<|im_end|>';
    const count = (parse: boolean): Promise<number> =>
      value('cardinality(hartonomous.tokenize($1, $2, parse_special => $3))', [mark, model, parse]);
    expect(await count(true)).toBe(1);
    // The mark alone as a document, without the neighbours that it could grow together with.
    expect((await read(`\n${mark}`)) - (await read('\n'))).toBeGreaterThanOrEqual((await count(false)) - 1);
    expect(await count(false)).toBeGreaterThan(4);
  } finally {
    client.release();
  }
});

describe.each(Object.entries(decoders))('%s', (model, prompts) => {
  it("gives llama.cpp's logits after prompts of 5, 33, 257 and 700 tokens", async () => {
    const tolerance = model.includes('gemma') ? GELU_TOLERANCE : LOGIT_TOLERANCE;
    for (const { ids, logits } of prompts) {
      const found = await value<number[]>('hartonomous.logits($1, $2, $3)', [ids, model, '{"precision": "f32"}']);
      const wanted = decodeFloats(logits);
      expect(maxDifference(found, wanted), `${ids.length} tokens`).toBeLessThanOrEqual(tolerance);
      expect(cosine(found, wanted)).toBeGreaterThan(0.9999);
    }
    expect(prompts.map(({ ids }) => ids.length)).toEqual([5, 33, 257, 700]);
  });
});
