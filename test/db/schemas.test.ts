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
import { HOSTILE, SLOW } from '../unit/sampling/constraint/hostile-schemas.ts';
import { SchemaMaker } from '../unit/sampling/constraint/random-schema.ts';
import { validatorOf, WRITTEN_SCHEMAS } from '../unit/sampling/constraint/written-schemas.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';
import { processorTime } from './processor-time.ts';

const SCHEMAS = Number(process.env.SCHEMAS ?? 8);
/** npm run schemas: written schemas in all ways, all hostile ones, and how long these take. */
const ALL = SCHEMAS > 100;
/** A hang guard: docs/sql.md says that a schema which nobody can follow ends in an error within 60 seconds. */
const MOST_SECONDS = 150;
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

/** Texts that are not valid, by one of the ways or all of them. */
async function wrong(
  schema: Record<string, unknown>,
  seed: number,
  { sameAs = schema, all = false }: { sameAs?: object; all?: boolean } = {},
): Promise<string[]> {
  const ways = [inSql, overHttp, ...(schema.type === 'object' ? [asArguments] : [])];
  const valid = validatorOf(sameAs);
  const invalid: string[] = [];
  for (const way of all ? ways : [ways[seed % ways.length]!]) {
    const text = await write(way, schema, seed);
    answers.push({ schema: sameAs, text });
    if (!valid(JSON.parse(text))) invalid.push(text);
  }
  return invalid;
}

test.each(WRITTEN_SCHEMAS.map((written, i) => ({ ...written, seed: i + 1 })))(
  'as people write it: $name',
  async ({ schema, sameAs, seed }) => {
    expect(await wrong(schema, seed, { ...(sameAs === undefined ? {} : { sameAs }), all: ALL })).toEqual([]);
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

/** On a busy machine its time may be over before. */
const orLate = (message: RegExp): RegExp =>
  new RegExp(`${message.source}|json schema takes more than 60 seconds to be prepared`);

test.each([...HOSTILE, ...SLOW.slice(0, ALL ? SLOW.length : 1)])(
  'a hostile schema ends in one line: %s',
  async (name, schema, message) => {
    const client = await database.pool.connect();
    try {
      await client.query(`set statement_timeout = '${MOST_SECONDS}s'`);
      await client.query(`select hartonomous.generate_json('hello', '{"type": "null"}')`);
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      const before = ALL ? processorTime(rows[0]!.pid) : 0;
      const error = await client.query(`select hartonomous.generate_json('hello', $1::text)`, [schema]).then(
        () => new Error('nothing was wrong'),
        (found: Error) => found,
      );
      if (ALL)
        console.log(
          `${name}: ${((processorTime(rows[0]!.pid) - before) / 1000).toFixed(1)} s of the backend, ${error.message}`,
        );
      expect(error.message).toMatch(orLate(message));
      expect(error.message).not.toContain('\n');
      await client.query('reset statement_timeout');
    } finally {
      client.release();
    }
    const http = await overHttpAtOnce(schema);
    expect(http.message).toMatch(orLate(message));
    expect(http.message).not.toContain('\n');
    expect([http.status, http.other]).toEqual([400, 200]);
  },
);

test('keywords that nobody defines are named in a header', async () => {
  const schema = { type: 'object', properties: { a: { const: 1, 'x-ä': 1 } }, required: ['a'], 'x-order': 1 };
  const tool = { type: 'function', function: { name: 'f', parameters: schema } };
  const requests: [path: string, body: object, of?: string][] = [
    ['/v1/chat/completions', { response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } }],
    ['/v1/chat/completions', { tools: [tool], tool_choice: 'required' }, ' of tool f'],
    ['/api/chat', { format: schema }],
    ['/api/generate', { prompt: 'hello', format: schema }],
  ];
  for (const [path, body, of = ''] of requests) {
    for (const stream of [false, true]) {
      const response = await fetch(server.url + path, {
        method: 'POST',
        body: JSON.stringify({
          model: 'tiny',
          ...(path === '/api/generate' ? {} : { messages: HELLO }),
          stream,
          ...body,
        }),
      });
      await response.text();
      const notice = response.headers.get('x-hartonomous-notice');
      expect([path, stream, decodeURIComponent(notice ?? '')]).toEqual([
        path,
        stream,
        `schema keywords that nobody defines are ignored: "x-order" at #${of}, "x-ä" at #/properties/a${of}`,
      ]);
    }
  }
});
