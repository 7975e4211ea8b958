/**
 * What constrained decoding costs.
 * First calls: in each of several fresh backends that have loaded the model and written without a schema, how much longer the
 * first call with the schema takes than the median of the later ones (another seed each) in the same backend; of those
 * differences the median, the least and the most are shown, and the median of the time on a processor that the backend's
 * main thread had more, which other processes move less. Calls write few tokens, so that decoding does not drown it.
 * Each token: time with a schema beside time without, in alternating pairs in one backend on one core, another seed each,
 * with the same sampler options.
 *   npx tsx bench/constrained.ts [--models smollm2,qwen] [--backends 5] [--rounds 21]      0 leaves a table out
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
/** Of the calls that are first, and of those after them. */
const FIRST_TOKENS = 24;
const LATER_CALLS = 5;

interface Completion {
  eval_count: number;
  eval_duration: number; // ns
}

/** Of one call: milliseconds in all and on a processor, and for each token after the first. */
interface Times {
  whole: number;
  processor: number;
  token: number;
}

interface Backend {
  client: pg.Client;
  pid: number;
  model: string;
  ends: number[];
}

/** Milliseconds that the backend's main thread has had on a processor. */
function processorTime(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

async function call(backend: Backend, schema: unknown, seed: number, tokens: number): Promise<Times> {
  const { client, pid, model, ends } = backend;
  const started = performance.now();
  const before = processorTime(pid);
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
  const { rows } = await client.query('select step from hartonomous.next_tokens($1, $2)', [id, tokens]);
  if (rows.length !== tokens) throw new Error(`${model} wrote ${rows.length} tokens, expected ${tokens}`);
  const facts = (await client.query<{ facts: Completion }>('select hartonomous.close_session($1) as facts', [id]))
    .rows[0].facts;
  return {
    whole: performance.now() - started,
    processor: processorTime(pid) - before,
    // The first token comes out of the prompt's logits.
    token: facts.eval_duration / 1e6 / (facts.eval_count - 1),
  };
}

async function connect(): Promise<{ client: pg.Client; pid: number }> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { client, pid: rows[0].pid };
}

/** How much longer than the later ones the first call with the schema takes in a fresh backend. */
async function firstCall(model: string, ends: number[], schema: unknown, run: number): Promise<Times> {
  const backend = { ...(await connect()), model, ends };
  for (let seed = 0; seed < 2; seed++) await call(backend, null, seed, FIRST_TOKENS);
  const first = await call(backend, schema, run * 100, FIRST_TOKENS);
  const later: Times[] = [];
  for (let i = 1; i <= LATER_CALLS; i++) later.push(await call(backend, schema, run * 100 + i, FIRST_TOKENS));
  await backend.client.end();
  const more = (key: keyof Times): number => first[key] - median(later.map((times) => times[key]));
  return { whole: more('whole'), processor: more('processor'), token: more('token') };
}

async function firstCalls(model: string, ends: number[], backends: number): Promise<string[][]> {
  const table: string[][] = [];
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    const found: Times[] = [];
    for (let run = 0; run < backends; run++) found.push(await firstCall(model, ends, schema, run));
    const wholes = found.map(({ whole }) => whole);
    const shown = [median(wholes), Math.min(...wholes), Math.max(...wholes), median(found.map((t) => t.processor))];
    table.push([model, name, ...shown.map((ms) => `${ms.toFixed(0)} ms`)]);
  }
  return table;
}

async function eachToken(model: string, ends: number[], rounds: number): Promise<string[][]> {
  const backend = { ...(await connect()), model, ends };
  execFileSync('taskset', ['-a', '-p', '-c', '0', String(backend.pid)], { stdio: 'ignore' });
  await call(backend, null, 0, TOKENS); // the model is loaded
  const table: string[][] = [];
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    await call(backend, schema, 0, TOKENS);
    const free: number[] = [];
    const constrained: number[] = [];
    for (let i = 0; i < rounds; i++) {
      free.push((await call(backend, null, i + 1, TOKENS)).token);
      constrained.push((await call(backend, schema, i + 1, TOKENS)).token);
    }
    const cost = (median(constrained) / median(free) - 1) * 100;
    table.push([model, name, median(free).toFixed(2), median(constrained).toFixed(2), `${cost.toFixed(1)} %`]);
  }
  await backend.client.end();
  return table;
}

function show(head: string[], rows: string[][]): void {
  const table = new Table({ head, style: { head: [], border: [] } });
  table.push(...rows);
  if (rows.length > 0) console.log(table.toString());
}

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: 'smollm2' },
    backends: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '21' },
  },
});
// As its superuser, who may install.
const cluster = new Cluster();
if (process.env.DATABASE_URL === undefined) await cluster.up();
const url = process.env.DATABASE_URL ?? cluster.url();
const client = new pg.Client({ connectionString: url });
await client.connect();
await install(client);
const first: string[][] = [];
const tokens: string[][] = [];
for (const key of values.models.split(',')) {
  const subject = SUBJECTS[key];
  if (subject === undefined) throw new Error(`unknown model ${key}, known: ${Object.keys(SUBJECTS).join(', ')}`);
  const name = `bench-constrained-${key}`;
  await ingest(client, subject.file(), { name, replace: true });
  if (values.backends !== '0') first.push(...(await firstCalls(name, subject.ends, Number(values.backends))));
  if (values.rounds !== '0') tokens.push(...(await eachToken(name, subject.ends, Number(values.rounds))));
}
show(['model', 'first call with schema minus later ones', 'median', 'least', 'most', 'on a processor'], first);
show(['model', 'schema', 'free ms/token', 'constrained', 'cost'], tokens);
await client.end();
