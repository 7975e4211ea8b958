/**
 * Schemas as people write them and random ones, through SQL and over HTTP: every answer, and every argument of a tool, is
 * valid under ajv and under Python's jsonschema. Hostile ones end in one line. npm run schemas tries 500 at random.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { environment, INSTALL_MS, withPip } from '../package-environment.ts';
import { SchemaMaker } from '../unit/sampling/constraint/random-schema.ts';
import { validatorOf, WRITTEN_SCHEMAS } from '../unit/sampling/constraint/written-schemas.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const SCHEMAS = Number(process.env.SCHEMAS ?? 8);
/** A hang guard: docs/sql.md says that a schema which nobody can follow ends in an error within 5 seconds of one core. */
const MOST_SECONDS = 90;
const HELLO = [{ role: 'user' as const, content: 'hello' }];
/** Tokens beyond the fewest that an answer needs. */
const MORE_TOKENS = 20;

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

/** An answer within `budget` tokens. */
type Way = (schema: Record<string, unknown>, budget: number, seed: number) => Promise<string>;

const inSql: Way = async (schema, budget, seed) => {
  const { rows } = await database.pool.query<{ text: string }>(
    `select hartonomous.generate_json('hello', $1::text, null, $2)::text as text`,
    [JSON.stringify(schema), JSON.stringify({ num_predict: budget, temperature: 1.3, seed })],
  );
  return rows[0]!.text;
};

const sampling = (
  budget: number,
  seed: number,
): { model: string; messages: typeof HELLO } & Record<string, unknown> => ({
  model: 'tiny',
  messages: HELLO,
  max_tokens: budget,
  temperature: 1.3,
  seed,
});

const overHttp: Way = async (schema, budget, seed) => {
  const format = { type: 'json_schema' as const, json_schema: { name: 'answer', schema } };
  const { choices } = await openai.chat.completions.create({ ...sampling(budget, seed), response_format: format });
  return choices[0]!.message.content!;
};

const asArguments: Way = async (schema, budget, seed) => {
  const { choices } = await openai.chat.completions.create({
    ...sampling(budget, seed),
    tools: [{ type: 'function', function: { name: 'f', parameters: schema } }],
    tool_choice: 'required',
    parallel_tool_calls: false,
  });
  const [call] = choices[0]!.message.tool_calls!;
  return (call as OpenAI.ChatCompletionMessageFunctionToolCall).function.arguments;
};

/** An answer that may be a little longer than the shortest one, whose tokens the refusal of a budget of none tells. */
async function write(way: Way, schema: Record<string, unknown>, seed: number): Promise<string> {
  const refusal = await way(schema, 0, seed).catch((error: Error) => error.message);
  const fewest = /needs at least (\d+) tokens, 0 may be written/.exec(refusal)?.[1];
  if (fewest === undefined) throw new Error(refusal);
  return way(schema, Number(fewest) + MORE_TOKENS, seed);
}

/** What was answered, for the other validator. */
const answers: { schema: object; text: string }[] = [];

/** Texts that are not valid, by one of the ways. */
async function wrong(schema: Record<string, unknown>, seed: number, sameAs: object = schema): Promise<string[]> {
  const ways = [inSql, overHttp, ...(schema.type === 'object' ? [asArguments] : [])];
  const text = await write(ways[seed % ways.length]!, schema, seed);
  answers.push({ schema: sameAs, text });
  return validatorOf(sameAs)(JSON.parse(text)) ? [] : [text];
}

test.each(WRITTEN_SCHEMAS.map((written, i) => ({ ...written, seed: i + 1 })))(
  'as people write it: $name',
  async ({ schema, sameAs, seed }) => {
    expect(await wrong(schema, seed, sameAs)).toEqual([]);
  },
);

test(`at random, ${SCHEMAS} of them`, { timeout: 60_000 + SCHEMAS * 10_000 }, async () => {
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const schema = new SchemaMaker(seed * 104_729).make();
    expect(await wrong(schema, seed), `seed ${seed}: ${JSON.stringify(schema).slice(0, 300)}`).toEqual([]);
  }
});

test("all of these are valid under Python's jsonschema", { timeout: INSTALL_MS + 60_000 }, async (context) => {
  const folder = await environment(join(packageRoot(), 'test/db/requirements-jsonschema.txt'), withPip);
  if (folder === null) return context.skip();
  const python = spawnSync(join(folder, 'bin/python'), [join(packageRoot(), 'test/db/schemas.py')], {
    input: JSON.stringify(answers),
    encoding: 'utf8',
  });
  expect(python.stderr).toBe('');
  const { wrong: found, unread } = JSON.parse(python.stdout) as {
    wrong: { place: number; message: string }[];
    unread: number;
  };
  expect(found.map(({ place, message }) => ({ message, ...answers[place]! }))).toEqual([]);
  expect(unread).toBeLessThan(answers.length / 10);
  console.log(
    `${answers.length} answers are valid under ajv and jsonschema, but for ${unread} whose patterns Python cannot read`,
  );
});

const numbered = (count: number, each: (i: number) => unknown): Record<string, unknown> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [String(i), each(i)]));
const many = <T>(count: number, each: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => each(i));

/** Schemas as text, since the deep ones cannot be made by JSON.stringify. */
const HOSTILE: [string, string, RegExp][] = [
  ['deep', `${'{"items":'.repeat(5000)}true${'}'.repeat(5000)}`, /nests/],
  ['huge', JSON.stringify({ enum: many(60_000, (i) => `v${i}`) }), /at most 262144 are read/],
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
  [
    'doubling without a bracket',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(40, (i) => (i === 39 ? {} : { allOf: many(2, () => ({ $ref: `#/$defs/${i + 1}` })) })),
    }),
    /needs more than \d+ steps/,
  ],
  [
    'doubling beside a value',
    JSON.stringify({
      enum: [1],
      not: { not: { $ref: '#/$defs/0' } },
      $defs: numbered(40, (i) => (i === 39 ? {} : { allOf: many(2, () => ({ $ref: `#/$defs/${i + 1}` })) })),
    }),
    /needs more than \d+ steps/,
  ],
  [
    'alternatives of alternatives',
    JSON.stringify({ allOf: many(30, (i) => ({ anyOf: many(3, (j) => ({ required: [`a${i}_${j}`] })) })) }),
    /has more than 400 alternatives/,
  ],
  [
    'alternatives that exclude each other',
    JSON.stringify({ allOf: many(20, () => ({ anyOf: many(390, (i) => ({ const: i })) })) }),
    /needs more than \d+ steps/,
  ],
  [
    'members that exclude each other',
    JSON.stringify({ oneOf: many(60, (i) => ({ properties: numbered(9, (j) => ({ minLength: i + j })) })) }),
    /has more than 400 alternatives|needs more than \d+ steps/,
  ],
  [
    'patterns of names',
    JSON.stringify({ patternProperties: Object.fromEntries(many(40, (i) => [`^.*a.{${i}}$`, {}])) }),
    /"patternProperties" at # is not supported with more than 4 patterns/,
  ],
  [
    'a circle of references',
    JSON.stringify({ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, {}] } }, $ref: '#/$defs/a' }),
    /refers to itself/,
  ],
];

/** Those that take seconds until they are found out; npm test tries one of them. */
const SLOW: [string, string, RegExp][] = [
  ['wide', JSON.stringify({ type: 'object', properties: numbered(3000, () => ({})) }), /needs more than 300000 states/],
  [
    'patterns of names that need all subsets',
    JSON.stringify({ patternProperties: Object.fromEntries(many(4, (i) => [`a.{${20 + i}}$`, {}])) }),
    /needs more than \d+ states/,
  ],
  [
    'a pattern with a count of counts',
    JSON.stringify({ pattern: '^((((a?){99}){99}){99}){99}b$', minLength: 3 }),
    /needs more than \d+ states/,
  ],
  [
    'a pattern whose automaton doubles with each letter',
    JSON.stringify({ pattern: 'a.{40}$', minLength: 41 }),
    /needs more than \d+ states/,
  ],
  [
    'look-aheads that double',
    JSON.stringify({ pattern: `^${many(24, (i) => `(?=.*${String.fromCharCode(97 + i)})`).join('')}.*$` }),
    /needs more than \d+ states/,
  ],
  [
    'many large patterns',
    JSON.stringify({
      properties: numbered(60, (i) => ({ pattern: `^[a-z]+${i}$`, minLength: 9000 })),
      required: many(60, (i) => String(i)),
    }),
    /needs more than \d+ states|tokens/,
  ],
  [
    'a chain of references through members',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(3500, (i) =>
        i === 3499 ? {} : { required: ['a'], properties: { a: { $ref: `#/$defs/${i + 1}` } } },
      ),
    }),
    /nests too deep|needs at least \d+ tokens/,
  ],
  [
    'sets of values',
    JSON.stringify({ type: 'array', uniqueItems: true, minItems: 1000, items: { enum: many(2000, (i) => i) } }),
    /needs more than 300000 states/,
  ],
  [
    'contained items',
    JSON.stringify({ allOf: many(6, (i) => ({ contains: { const: i }, minContains: 60 })), type: 'array' }),
    /needs more than \d+ (states|steps)/,
  ],
];

/** What is said of a schema over HTTP, and the status of a question of somebody else that comes right after it. */
async function overHttpAtOnce(schema: string): Promise<{ status: number; message: string; other: number }> {
  const post = (body: string): Promise<Response> =>
    fetch(`${server.url}/v1/chat/completions`, { method: 'POST', body });
  const format = `{"type": "json_schema", "json_schema": {"name": "x", "schema": ${schema}}}`;
  const [refused, answered] = await Promise.all([
    post(`{"model": "tiny", "messages": ${JSON.stringify(HELLO)}, "response_format": ${format}}`),
    post(JSON.stringify({ model: 'tiny', messages: HELLO, max_tokens: 2 })),
  ]);
  const { error } = (await refused.json()) as { error: { message: string } };
  return { status: refused.status, message: error.message, other: answered.status };
}

test.each([...HOSTILE, ...SLOW.slice(0, SCHEMAS > 100 ? SLOW.length : 1)])(
  'a hostile schema ends in one line: %s',
  async (_, schema, message) => {
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
    const http = await overHttpAtOnce(schema);
    expect(http.message).toMatch(message);
    expect(http.message).not.toContain('\n');
    expect([http.status, http.other]).toEqual([400, 200]);
  },
);

test('keywords that nobody defines are named in a header', async () => {
  const schema = { properties: { a: { const: 1, 'x-ä': 1 } }, required: ['a'], 'x-order': 1 };
  for (const stream of [false, true]) {
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({
        model: 'tiny',
        messages: HELLO,
        stream,
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
      }),
    });
    await response.text();
    expect(decodeURIComponent(response.headers.get('x-hartonomous-notice')!)).toBe(
      'schema keywords that nobody defines are ignored: "x-order" at #, "x-ä" at #/properties/a',
    );
  }
});
