/**
 * nearest_tokens on an ingested model: time of a warm exact call, and what share of the exact neighbours the Hilbert
 * window finds, over common words of the vocabulary.
 *   DATABASE_URL=... npx tsx bench/nearest.ts MODEL [words]
 */
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { median } from './statistics.ts';

const K = 10;
const [model, words = '60'] = process.argv.slice(2);
if (model === undefined) throw new Error('usage: npx tsx bench/nearest.ts MODEL [words]');

const client = new pg.Client({ connectionString: process.env.DATABASE_URL ?? new Cluster().url() });
await client.connect();
// Words that begin a vocabulary's words: byte-level BPE marks them with Ġ, SentencePiece with U+2581.
const { rows } = await client.query<{ token: string }>(
  `select token from (select distinct token from hartonomous.token_bytes where model = $1 and token ~ '^[Ġ▁][a-z]{3,}$') t
   order by md5(token) limit $2`,
  [model, Number(words)],
);
if (rows.length === 0) throw new Error(`model ${model} has no tokens that begin words`);
const times: Record<string, number[]> = { exact: [], hilbert: [] };
let hits = 0;
for (const { token } of [rows[0]!, ...rows]) {
  const found: Record<string, Set<number>> = {};
  for (const method of ['exact', 'hilbert']) {
    const started = performance.now();
    const neighbours = await client.query<{ token_id: number }>(
      'select token_id from hartonomous.nearest_tokens($1, $2, $3, $4)',
      [token, K, model, method],
    );
    times[method]!.push(performance.now() - started);
    found[method] = new Set(neighbours.rows.map((row) => row.token_id));
  }
  hits += [...found.exact!].filter((id) => found.hilbert!.has(id)).length;
}
await client.end();
// The first word is asked twice: its first calls load what later ones find.
console.log(
  JSON.stringify({
    model,
    words: rows.length,
    exactMilliseconds: median(times.exact!.slice(1)),
    hilbertMilliseconds: median(times.hilbert!.slice(1)),
    [`recallAt${K}`]: hits / (K * (rows.length + 1)),
  }),
);
