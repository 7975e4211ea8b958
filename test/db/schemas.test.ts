/**
 * Schemas as people write them and random ones, through SQL and over HTTP: every answer, and every argument of a tool, is
 * valid under ajv. Some at random; SCHEMAS=500 tries more. Hostile ones end in one line.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { SchemaMaker } from '../unit/sampling/constraint/random-schema.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const SCHEMAS = Number(process.env.SCHEMAS ?? 8);
/** Documented in docs/sql.md: a schema that nobody can follow ends in an error by then. */
const MOST_SECONDS = 20;
const HELLO = [{ role: 'user' as const, content: 'hello' }];

const WRITTEN = JSON.parse(
  readFileSync(join(packageRoot(), 'test/unit/sampling/constraint/written-schemas.json'), 'utf8'),
) as { name: string; schema: Record<string, unknown> }[];

let database: TestDatabase;
let server: RunningServer;
let openai: OpenAI;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'tiny');
  // Tools are not shown, so that the largest schema leaves room for an answer.
  await database.pool.query(
    `update hartonomous.models set chat_template = '{% if false %}{{ tools }}{% endif %}{{ messages[0].content }}'`,
  );
  server = await startTestServer(database.url);
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

type Way = (schema: Record<string, unknown>, seed: number) => Promise<string>;

const inSql: Way = async (schema, seed) => {
  const { rows } = await database.pool.query<{ text: string }>(
    `select hartonomous.generate_json('hello', $1::text, null, $2)::text as text`,
    [JSON.stringify(schema), JSON.stringify({ num_predict: 160, temperature: 1.3, seed })],
  );
  return rows[0]!.text;
};

const sampling = (seed: number): { model: string; messages: typeof HELLO } & Record<string, unknown> => ({
  model: 'tiny',
  messages: HELLO,
  max_tokens: 160,
  temperature: 1.3,
  seed,
});

const overHttp: Way = async (schema, seed) => {
  const format = { type: 'json_schema' as const, json_schema: { name: 'answer', schema } };
  const { choices } = await openai.chat.completions.create({ ...sampling(seed), response_format: format });
  return choices[0]!.message.content!;
};

const asArguments: Way = async (schema, seed) => {
  const { choices } = await openai.chat.completions.create({
    ...sampling(seed),
    tools: [{ type: 'function', function: { name: 'f', parameters: schema } }],
    tool_choice: 'required',
    parallel_tool_calls: false,
  });
  const [call] = choices[0]!.message.tool_calls!;
  return (call as OpenAI.ChatCompletionMessageFunctionToolCall).function.arguments;
};

/** Texts that are not valid, by one way after the other; by all of them where many schemas are tried. */
async function wrong(schema: Record<string, unknown>, seed: number): Promise<string[]> {
  const ways = [inSql, overHttp, ...(schema.type === 'object' ? [asArguments] : [])];
  // ownProperties: `toString` and its like are no members of an empty object.
  const valid = new Ajv2020({ strict: false, validateFormats: false, ownProperties: true }).compile(schema);
  const found: string[] = [];
  for (const way of SCHEMAS > 100 ? ways : [ways[seed % ways.length]!]) {
    const text = await way(schema, seed);
    if (!valid(JSON.parse(text))) found.push(text);
  }
  return found;
}

test.each(WRITTEN.map(({ name, schema }, i) => ({ name, schema, seed: i + 1 })))(
  'as people write it: $name',
  async ({ schema, seed }) => {
    expect(await wrong(schema, seed)).toEqual([]);
  },
);

test(`at random, ${SCHEMAS} of them`, { timeout: 60_000 + SCHEMAS * 10_000 }, async () => {
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const schema = new SchemaMaker(seed * 104_729).make();
    expect(await wrong(schema, seed), `seed ${seed}: ${JSON.stringify(schema).slice(0, 300)}`).toEqual([]);
  }
});

const numbered = (count: number, each: (i: number) => unknown): Record<string, unknown> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [String(i), each(i)]));

/** Schemas as text, since the deep ones cannot be made by JSON.stringify. */
const HOSTILE: [string, string, RegExp][] = [
  ['deep', `${'{"items":'.repeat(5000)}true${'}'.repeat(5000)}`, /nests/],
  ['huge', JSON.stringify({ enum: Array.from({ length: 60_000 }, (_, i) => `v${i}`) }), /at most 262144 are read/],
  [
    'exponential',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(60, (i) =>
        i === 59 ? { type: 'null' } : { items: { $ref: `#/$defs/${i + 1}` }, type: 'array', minItems: 2, maxItems: 2 },
      ),
    }),
    /needs at least \d+(e\+\d+)? tokens/,
  ],
  ['wide', JSON.stringify({ type: 'object', properties: numbered(3000, () => ({})) }), /needs more than 300000 states/],
];

test.each(HOSTILE)('a hostile schema ends in one line: %s', async (_, schema, message) => {
  const client = await database.pool.connect();
  try {
    await client.query(`set statement_timeout = '${MOST_SECONDS}s'`);
    const error = await client.query(`select hartonomous.generate_json('hello', $1::text)`, [schema]).then(
      () => new Error('nothing was wrong'),
      (found: Error) => found,
    );
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    await client.query('reset statement_timeout');
  } finally {
    client.release();
  }
  const format = `{"type": "json_schema", "json_schema": {"name": "x", "schema": ${schema}}}`;
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    body: `{"model": "tiny", "messages": ${JSON.stringify(HELLO)}, "response_format": ${format}}`,
  });
  const { error } = (await response.json()) as { error: { message: string } };
  expect(response.status).toBe(400);
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('\n');
});
