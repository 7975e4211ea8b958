/**
 * Every model of the zoo over texts of 5, 33, 257, 700 and 2,000 tokens, past every chunk, window and original context,
 * through SQL against float64 passes (npm run test:long). make-long-goldens.py made the goldens, and compared them with llama.cpp's numbers.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { LONG } from '../long.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { cosine, decodeFloats, maxDifference } from './agreement.ts';
import { zooFile } from './zoo-file.ts';
import { zooPrompt } from './zoo-prompt.ts';

interface Item {
  /** Of a text, and of a pair with what stands before and between. */
  tokens: number;
  /** Of a text: its words, and how often the last one is repeated behind them. */
  words: number;
  more: number;
  ids: string;
  /** Every eighth logit, an embedding, or a score. */
  values: string;
  best: number;
}

interface Case {
  file: string;
  keys: Record<string, string | number>;
  mode: 'logits' | 'embed' | 'rank';
  items: (Item | Order)[];
}

/** Documents of 1, 2, ... words by their scores, best first, from 0. */
interface Order {
  ranked: number[];
}

const golden = JSON.parse(readFileSync(new URL('models/goldens/long-texts.json', import.meta.url), 'utf8')) as Record<
  string,
  Case
>;
const LENGTHS = [5, 33, 257, 700, 2000];
const WORDS =
  'the cat dog saw a red ball on grass and we can play with it one day small big went to park hello model reads text'.split(
    ' ',
  );
const QUERY = 'What did the cat see?';
const TOLERANCE = 1e-3;

const folder = new FileFolder();
let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(async () => {
  await database?.drop();
  folder.remove();
});

async function value<T>(sql: string, parameters: unknown[]): Promise<T> {
  const { rows } = await database.pool.query<{ value: T }>(`select ${sql} as value`, parameters);
  return rows[0].value;
}

function textOf({ words, more }: Pick<Item, 'words' | 'more'>): string {
  const written = Array.from({ length: words }, (_, i) => WORDS[(7 * i * i + 11 * i) % WORDS.length]!);
  return [...written, ...new Array<string>(more).fill('a')].join(' ');
}

/** The numbers that a golden keeps. */
async function numbersOf(model: string, mode: Case['mode'], item: Item): Promise<number[]> {
  const exact = { precision: 'f32' };
  if (mode === 'logits') {
    const logits = await value<number[]>('hartonomous.logits($1, $2, $3)', [zooPrompt(item.tokens), model, exact]);
    expect(logits.indexOf(Math.max(...logits))).toBe(item.best);
    return logits.filter((_, i) => i % 8 === item.tokens % 8);
  }
  const text = textOf(item);
  if (mode === 'rank')
    return [await value<number>('(hartonomous.rerank($1, array[$2], $3, $4)).score', [QUERY, text, model, exact])];
  const ids = await value<number[]>('hartonomous.tokenize($1, $2, add_special => true)', [text, model]);
  expect(ids.length).toBe(item.tokens);
  expect(createHash('sha256').update(ids.join(',')).digest('hex').slice(0, 16)).toBe(item.ids);
  return value('hartonomous.embed($1, $2, $3)', [text, model, { ...exact, normalize: false }]);
}

describe.runIf(LONG).each(Object.entries(golden))(
  '%s (npm run test:long)',
  (name, { file, keys, mode, items: all }) => {
    const items = all.filter((item) => 'tokens' in item);

    it('gives the numbers of a float64 pass for texts of up to 2,000 tokens', async () => {
      await ingestFile(database.url, folder.write(zooFile(file, keys, true)), name);
      for (const item of items) {
        const found = await numbersOf(name, mode, item);
        const wanted = decodeFloats(item.values);
        expect(maxDifference(found, wanted), `${item.tokens} tokens`).toBeLessThanOrEqual(TOLERANCE);
        if (mode !== 'rank') expect(cosine(found, wanted)).toBeGreaterThan(0.9999);
      }
      const lengths = mode === 'rank' ? LENGTHS.slice(2) : LENGTHS;
      expect(items.map(({ tokens }) => tokens)).toEqual(lengths);
    });

    it.runIf(mode === 'rank')('puts 20 documents in the order of a float64 pass', async () => {
      const documents = Array.from({ length: 20 }, (_, i) => textOf({ words: i + 1, more: 0 }));
      const { rows } = await database.pool.query<{ ord: number }>('select ord from hartonomous.rerank($1, $2, $3)', [
        QUERY,
        documents,
        name,
      ]);
      const { ranked } = all.find((item) => 'ranked' in item)!;
      expect(rows.map(({ ord }) => ord - 1)).toEqual(ranked);
    });
  },
);

/** Case and words of a prompt that ends just before the window or the original context. */
const CROSSINGS = [
  ['phi3, LongRoPE', 256],
  ["llama, Mistral's window", 48],
  ['phi3, window', 40],
  ['gemma2', 16],
  ['gemma3', 16],
] as const;

it.runIf(LONG).each(CROSSINGS)(
  '%s goes on past %d tokens as from the beginning (npm run test:long)',
  async (model, bound) => {
    const idsOf = (text: string): Promise<number[]> =>
      value('hartonomous.tokenize($1, $2, add_special => true)', [text, model]);
    let words = 1;
    while ((await idsOf(textOf({ words: words + 1, more: 0 }))).length < bound) words++;
    const text = textOf({ words, more: 0 });
    const ids = await idsOf(text);
    const options = { precision: 'f32', raw: true, temperature: 0, repeat_penalty: 1, num_predict: 12, logprobs: true };
    const { logprobs } = await value<{ logprobs: { token_id: number }[] }>('hartonomous.complete($1, $2, $3)', [
      text,
      model,
      JSON.stringify({ ...options, record: false }),
    ]);
    for (const { token_id: id } of logprobs) {
      const logits = await value<number[]>('hartonomous.logits($1, $2, $3)', [ids, model, { precision: 'f32' }]);
      expect(logits.indexOf(Math.max(...logits)), `after ${ids.length} tokens`).toBe(id);
      ids.push(id);
    }
    expect(ids.length).toBeGreaterThan(bound);
  },
);
