/**
 * Several prompts in one call against one prompt, tokens per second, alternating in one backend.
 *   npx tsx bench/batch.ts [--prompts 8] [--rounds 5] [MODEL ...]
 * The models are there already, as bench/run.ts ingests them. Decode is the time of a call that writes 65 tokens a prompt
 * less that of one that writes 1; prefill the latter.
 */
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { median, spread } from './statistics.ts';

const PROMPT_WORDS = 16;
const DECODE = 64;
const FIRST_WORDS = [
  'One',
  'Two',
  'A',
  'The',
  'Once',
  'We',
  'I',
  'No',
  'All',
  'My',
  'It',
  'He',
  'She',
  'You',
  'But',
  'So',
];

interface Timing {
  prefill: number; // ms
  decode: number; // ms
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { prompts: { type: 'string', default: '8' }, rounds: { type: 'string', default: '5' } },
});
const count = Number(values.prompts);
const url = process.env.DATABASE_URL ?? (await new Cluster().up()).url;

/** Milliseconds of one call. */
async function timed(client: pg.Client, model: string, n: number, tokens: number, bias: object): Promise<number> {
  const prompts = FIRST_WORDS.slice(0, n).map((word) => word + ' a'.repeat(PROMPT_WORDS - 1));
  const options = { raw: true, cache: false, record: false, temperature: 0, repeat_penalty: 1, num_predict: tokens };
  const started = performance.now();
  const { rows } = await client.query<{ eval_count: number }>(
    'select eval_count from hartonomous.generate($1::text[], $2, $3)',
    [prompts, model, JSON.stringify({ ...options, logit_bias: bias })],
  );
  const elapsed = performance.now() - started;
  if (rows.length !== n || rows.some((row) => row.eval_count !== tokens)) {
    throw new Error(`${model} wrote ${rows.map((row) => row.eval_count).join(', ')} tokens, expected ${tokens} each`);
  }
  return elapsed;
}

async function measure(client: pg.Client, model: string, n: number, bias: object): Promise<Timing> {
  const prefill = await timed(client, model, n, 1, bias);
  const decode = (await timed(client, model, n, 1 + DECODE, bias)) - prefill;
  return { prefill, decode };
}

async function compare(model: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const pid = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0].pid;
    execFileSync('taskset', ['-a', '-p', '-c', '0', String(pid)], { stdio: 'ignore' });
    const { rows } = await client.query<{ bias: object | null }>(
      `select jsonb_object_agg(t.token_id, -1000) as bias
       from hartonomous.tokens t join hartonomous.models m on m.id = t.model_id where m.name = $1 and t.type = 3`,
      [model],
    );
    const bias = rows[0].bias ?? {};
    await measure(client, model, count, bias); // warm-up
    const one: Timing[] = [];
    const many: Timing[] = [];
    for (let i = 0; i < Number(values.rounds); i++) {
      one.push(await measure(client, model, 1, bias));
      many.push(await measure(client, model, count, bias));
    }
    const table = new Table({
      head: [model, 'one prompt', 'spread', `${count} prompts`, 'spread', 'ratio'],
      style: { head: [], border: [] },
    });
    for (const [what, key, tokens] of [
      ['prefill 16, tok/s', 'prefill', PROMPT_WORDS],
      ['decode 64, tok/s', 'decode', DECODE],
    ] as const) {
      const alone = one.map((timing) => (1000 * tokens) / timing[key]);
      const together = many.map((timing) => (1000 * tokens * count) / timing[key]);
      const percent = (all: number[]): string => `${Math.round(spread(all) * 100)} %`;
      table.push([
        what,
        median(alone).toFixed(1),
        percent(alone),
        median(together).toFixed(1),
        percent(together),
        median(together.map((value, i) => value / alone[i])).toFixed(2),
      ]);
    }
    console.log(table.toString());
  } finally {
    await client.end();
  }
}

for (const model of positionals.length > 0 ? positionals : ['bench-smollm2-135m-q4_1']) await compare(model);
