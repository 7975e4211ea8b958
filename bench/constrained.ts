/**
 * What constrained decoding costs, in one backend: time a token with a schema beside time a token without, in alternating
 * pairs, another seed each, with the same sampler options. `first` is how much longer than the median of the later ones the
 * first call with a schema takes as a whole; the first row has the first schema of the backend, for which the vocabulary is read.
 *   npx tsx bench/constrained.ts [--models smollm2,qwen] [--rounds 21]
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { smollm2File } from '../test/golden/smollm2-file.ts';
import { randomModel } from './random-model.ts';
import { median } from './statistics.ts';

const GOLDEN = new URL('../test/golden/smollm2-135m-q4_1.json', import.meta.url);
const SUBJECTS: Record<string, { file: () => string; ends: number[] }> = {
  smollm2: {
    file: () => smollm2File((JSON.parse(readFileSync(GOLDEN, 'utf8')) as { sha256: string }).sha256),
    ends: [0, 2],
  },
  qwen: { file: () => randomModel('qwen2.5-0.5b-q8_0'), ends: [151643, 151645] },
};

/** Schemas whose answers are long enough: free text, counted text, a record of several kinds of value. */
const SCHEMAS: Record<string, unknown> = {
  'long text': { type: 'string', minLength: 2000 },
  'counted text': { type: 'array', items: { type: 'string', minLength: 5, maxLength: 60 }, minItems: 400 },
  records: {
    type: 'array',
    minItems: 100,
    items: {
      type: 'object',
      properties: {
        name: { type: 'string' },
        colour: { enum: ['red', 'green', 'blue'] },
        age: { type: 'integer', minimum: 0, maximum: 130 },
        tags: { type: 'array', items: { type: 'string', pattern: '^[a-z]+$' } },
      },
      required: ['name', 'colour', 'age', 'tags'],
      additionalProperties: false,
    },
  },
};
const TOKENS = 64;

interface Completion {
  eval_count: number;
  eval_duration: number; // ns
}

/** Of one call: milliseconds in all, and for each token after the first. */
interface Times {
  whole: number;
  token: number;
}

async function measure(client: pg.Client, model: string, ends: number[], rounds: number): Promise<string[][]> {
  const call = async (schema: unknown, seed: number): Promise<Times> => {
    const started = performance.now();
    const options = {
      raw: true,
      record: false,
      seed,
      temperature: 0.8,
      num_ctx: 4096,
      logit_bias: Object.fromEntries(ends.map((id) => [id, -1000])),
      ...(schema === null ? {} : { response_format: { type: 'json_schema', schema } }),
    };
    // A budget that the shortest answer needs; the session takes its first tokens only.
    const session = await client.query<{ id: string }>('select hartonomous.open_session($1, $2, $3) as id', [
      '"Here is a list of people as JSON:"',
      model,
      JSON.stringify({ ...options, num_predict: 4000 }),
    ]);
    const { id } = session.rows[0];
    const { rows } = await client.query('select step from hartonomous.next_tokens($1, $2)', [id, TOKENS]);
    if (rows.length !== TOKENS) throw new Error(`${model} wrote ${rows.length} tokens, expected ${TOKENS}`);
    const facts = (await client.query<{ facts: Completion }>('select hartonomous.close_session($1) as facts', [id]))
      .rows[0].facts;
    // The first token comes out of the prompt's logits.
    return { whole: performance.now() - started, token: facts.eval_duration / 1e6 / (facts.eval_count - 1) };
  };
  await call(null, 0); // the model is loaded
  const table: string[][] = [];
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    const first = await call(schema, 0);
    const free: Times[] = [];
    const constrained: Times[] = [];
    for (let i = 0; i < rounds; i++) {
      free.push(await call(null, i + 1));
      constrained.push(await call(schema, i + 1));
    }
    const tokens = (times: readonly Times[]): number => median(times.map(({ token }) => token));
    const cost = (tokens(constrained) / tokens(free) - 1) * 100;
    const later = median(constrained.map(({ whole }) => whole));
    table.push([
      model,
      name,
      tokens(free).toFixed(2),
      tokens(constrained).toFixed(2),
      `${cost.toFixed(1)} %`,
      `${(first.whole - later).toFixed(0)} ms`,
    ]);
  }
  return table;
}

const { values } = parseArgs({
  options: { models: { type: 'string', default: 'smollm2' }, rounds: { type: 'string', default: '21' } },
});
// As its superuser, who may install.
const cluster = new Cluster();
if (process.env.DATABASE_URL === undefined) await cluster.up();
const url = process.env.DATABASE_URL ?? cluster.url();
const client = new pg.Client({ connectionString: url });
await client.connect();
await install(client);
const table = new Table({
  head: ['model', 'schema', 'free ms/token', 'constrained', 'cost', 'first'],
  style: { head: [], border: [] },
});
const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
execFileSync('taskset', ['-a', '-p', '-c', '0', String(rows[0].pid)], { stdio: 'ignore' });
for (const key of values.models.split(',')) {
  const subject = SUBJECTS[key];
  if (subject === undefined) throw new Error(`unknown model ${key}, known: ${Object.keys(SUBJECTS).join(', ')}`);
  const name = `bench-constrained-${key}`;
  await ingest(client, subject.file(), { name, replace: true });
  table.push(...(await measure(client, name, subject.ends, Number(values.rounds))));
}
console.log(table.toString());
await client.end();
