/**
 * What constrained decoding costs: nanoseconds a token with a schema beside nanoseconds a token without, in one backend,
 * alternating, another seed each round. The same sampler options on both sides. `first call` is the first with a schema.
 *   npx tsx bench/constrained.ts [--models smollm2,qwen] [--rounds 5]
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

async function measure(client: pg.Client, model: string, ends: number[], rounds: number): Promise<string[][]> {
  const perToken = async (schema: unknown, seed: number): Promise<number> => {
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
    return facts.eval_duration / (facts.eval_count - 1); // the first token comes out of the prompt's logits
  };
  await perToken({ type: 'array', items: {}, minItems: 200 }, 0); // the tree of the vocabulary, once a backend
  const table: string[][] = [];
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    const cold = await perToken(schema, 0);
    await perToken(null, 0);
    const free: number[] = [];
    const constrained: number[] = [];
    for (let i = 0; i < rounds; i++) {
      free.push(await perToken(null, i + 1));
      constrained.push(await perToken(schema, i + 1));
    }
    const ms = (ns: number): string => (ns / 1e6).toFixed(2);
    const cost = (median(constrained) / median(free) - 1) * 100;
    table.push([model, name, ms(median(free)), ms(median(constrained)), ms(cold), `${cost.toFixed(1)} %`]);
  }
  return table;
}

const { values } = parseArgs({
  options: { models: { type: 'string', default: 'smollm2' }, rounds: { type: 'string', default: '5' } },
});
const url = process.env.DATABASE_URL ?? (await new Cluster().up()).url;
const client = new pg.Client({ connectionString: url });
await client.connect();
await install(client);
const table = new Table({
  head: ['model', 'schema', 'free ms/token', 'constrained', 'first call', 'cost'],
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
