/**
 * What leave-one-out costs: explanations of one token after a prompt of a given length, in seconds, and in passes over the
 * prompt beside the (n + 1) / 2 that n deletions must cost when they share their prefixes. The deletion check is among them.
 *   npx tsx bench/deletions.ts [--tokens 100] [--rounds 3] [MODEL]
 * The model is there already. Every explanation runs in a read-only transaction, so that none is stored.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { median } from './statistics.ts';

const WORDS =
  'Lily went to the park with her old red kite and saw a small dog that could not find its way home .'.split(' ');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tokens: { type: 'string', default: '100' }, rounds: { type: 'string', default: '3' } },
});
const wanted = Number(values.tokens);
const rounds = Number(values.rounds);
const model = positionals[0] ?? 'smollm2';
const client = new pg.Client({ connectionString: process.env.DATABASE_URL ?? (await new Cluster().up()).url });
await client.connect();

/** Words whose tokens are as many as wanted. */
async function promptOf(tokens: number): Promise<string> {
  let prompt = '';
  for (let word = 0; ; word++) {
    const longer = `${prompt} ${WORDS[word % WORDS.length]!}`.trim();
    const { rows } = await client.query<{ n: number }>('select hartonomous.token_count($1, $2) as n', [longer, model]);
    if (rows[0]!.n > tokens) return prompt;
    prompt = longer;
  }
}

async function seconds(sql: string, args: unknown[]): Promise<number> {
  const started = performance.now();
  await client.query('begin read only');
  await client.query(sql, args);
  await client.query('commit');
  return (performance.now() - started) / 1000;
}

const prompt = await promptOf(wanted);
const options = { raw: true, temperature: 0, num_predict: 2, cache: false };
const complete = async (
  more: object,
): Promise<{ run_id: number; prompt_eval_count: number; prompt_eval_duration: number }> =>
  (
    await client.query<{ answer: { run_id: number; prompt_eval_count: number; prompt_eval_duration: number } }>(
      'select hartonomous.complete($1, $2, $3) as answer',
      [prompt, model, JSON.stringify({ ...options, ...more })],
    )
  ).rows[0]!.answer;
const { run_id: run, prompt_eval_count: n } = await complete({ record: true });
try {
  const of: Record<string, number[]> = { pass: [], none: [], spans: [], tokens: [] };
  for (let round = 0; round < rounds; round++) {
    of.pass!.push((await complete({ record: false })).prompt_eval_duration / 1e9);
    for (const inputs of ['none', 'spans', 'tokens']) {
      of[inputs]!.push(await seconds('select hartonomous.explain($1, 1, inputs => $2)', [run, inputs]));
    }
  }
  const { pass, none, spans, tokens } = Object.fromEntries(
    Object.entries(of).map(([name, times]) => [name, median(times)]),
  ) as { pass: number; none: number; spans: number; tokens: number };
  const passes = (tokens - none) / pass;
  const least = (n + 1) / 2;
  console.log(
    `${model}, ${n} prompt tokens, median of ${rounds}: one pass ${pass.toFixed(2)} s, explained without inputs ${none.toFixed(1)} s, ` +
      `spans ${spans.toFixed(1)} s, tokens ${tokens.toFixed(1)} s`,
  );
  console.log(
    `${n} deletions and the check: ${passes.toFixed(1)} passes = ${(passes / least).toFixed(2)} x (n + 1) / 2`,
  );
} finally {
  await client.query('delete from hartonomous.runs where id = $1', [run]);
  await client.end();
}
