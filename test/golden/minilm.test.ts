/**
 * all-MiniLM-L6-v2 through SQL against Hugging Face transformers (make-embedding-golden.py made minilm.json). Where the
 * Python package cannot be fetched, CI fails and others are told.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { startTestServer } from '../cli/test-server.ts';
import type { TestDatabase } from '../db/harness.ts';
import { cosine, decodeFloats } from './agreement.ts';
import { minilmF16, minilmFolder } from './minilm-file.ts';

interface Golden {
  sha256: string;
  texts: { text: string; ids: number[]; embedding_f32_base64: string }[];
  pairs: [number, number][];
}

const golden = JSON.parse(readFileSync(new URL('minilm.json', import.meta.url), 'utf8')) as Golden;
const texts = golden.texts.map(({ text }) => text);
const expected = golden.texts.map((entry) => decodeFloats(entry.embedding_f32_base64));
const MIN_COSINE = 0.9999;

function fetched(): string | null {
  try {
    return minilmFolder(golden.sha256);
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`skipped all-MiniLM-L6-v2: it cannot be fetched (${String(error).split('\n')[0]})`);
    return null;
  }
}

const folder = fetched();

/** Places of the pairs from most to least similar. */
function ranking(embeddings: readonly ArrayLike<number>[]): number[] {
  const scores = golden.pairs.map(([a, b]) => cosine(embeddings[a]!, embeddings[b]!));
  return scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
}

describe.skipIf(folder === null)('all-MiniLM-L6-v2', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    await ingestFile(database.url, folder!, 'safetensors');
    await ingestFile(database.url, await minilmF16(folder!), 'gguf-f16');
  });
  afterAll(() => database?.drop());

  it("reads transformers' tokens, those of a text that is too long apart from its end", async () => {
    for (const { text, ids } of golden.texts) {
      const sql = `select hartonomous.tokenize($1, 'safetensors', add_special => true) as ids`;
      const { rows } = await database.pool.query<{ ids: number[] }>(sql, [text]);
      if (ids.length < 256) expect(rows[0]!.ids, text).toEqual(ids);
      else expect(rows[0]!.ids.slice(0, 255)).toEqual(ids.slice(0, 255));
    }
  });

  it('reads texts of many scripts as the model’s own tokenizer does', async () => {
    const { texts: all } = JSON.parse(readFileSync(new URL('minilm-tokens.json', import.meta.url), 'utf8')) as {
      texts: { text: string; ids: number[] }[];
    };
    const many = all.filter(({ text }) => !text.includes('\0')); // which PostgreSQL does not hold
    const { rows } = await database.pool.query<{ ids: number[] }>(
      `select hartonomous.tokenize(text, 'safetensors', add_special => true) as ids
       from unnest($1::text[]) with ordinality as given (text, n) order by n`,
      [many.map(({ text }) => text)],
    );
    const differing = many.filter(({ ids }, i) => ids.join() !== rows[i]!.ids.join());
    expect(differing).toEqual([]);
    expect(many.filter(({ text }) => /\p{Script=Devanagari}/u.test(text)).length).toBeGreaterThan(3);
  });

  it('tells apart words of scripts whose letters are composed', async () => {
    // transformers: 0.908; both words were unknown tokens before.
    const { rows } = await database.pool.query<{ similarity: number }>(
      `select hartonomous.similarity('한국', '학교', 'safetensors') as similarity`,
    );
    expect(rows[0]!.similarity).toBeCloseTo(0.908, 3);
    // Words of Hindi differ in letters and in marks that have a width.
    const { rows: hindi } = await database.pool.query<{ similarity: number }>(
      `select hartonomous.similarity('पानी', 'किताब', 'safetensors') as similarity`,
    );
    expect(hindi[0]!.similarity).toBeLessThan(0.99);
    const server = await startTestServer(database.url);
    const response = await fetch(`${server.url}/v1/embeddings`, {
      method: 'POST',
      body: JSON.stringify({ model: 'safetensors', input: ['한국', '학교'] }),
    });
    const { data } = (await response.json()) as { data: { embedding: number[] }[] };
    await server.close();
    expect(cosine(data[0]!.embedding, data[1]!.embedding)).toBeCloseTo(0.908, 3);
  });

  it.each(['safetensors', 'gguf-f16'])(
    "%s gives transformers' embeddings and ranks 20 pairs as they do",
    async (model) => {
      // Only the folder says that the model reads 256 tokens, so the long text is left to it.
      const { rows } = await database.pool.query<{ embedding: number[] }>(
        'select embedding from hartonomous.embed($1::text[], $2) order by ord',
        [texts, model],
      );
      const found = rows.map(({ embedding }) => embedding);
      const similar = found.map((embedding, i) => cosine(embedding, expected[i]!));
      const compared = similar.filter((_, i) => model === 'safetensors' || golden.texts[i]!.ids.length < 256);
      console.log(`${model}: lowest cosine of ${compared.length} embeddings ${Math.min(...compared).toFixed(7)}`);
      expect(Math.min(...compared)).toBeGreaterThanOrEqual(MIN_COSINE);
      expect(golden.pairs).toHaveLength(20);
      expect(ranking(found)).toEqual(ranking(expected));
    },
  );
});
