/** JSON keeps its caller's order on the way to the model and back, and every function takes it however it is typed. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url).pathname;

let database: TestDatabase;
let client: pg.PoolClient;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
  client = await database.pool.connect();
});

afterAll(async () => {
  client.release();
  await database.drop();
});

async function text(sql: string, args: unknown[] = []): Promise<string> {
  return (await client.query<{ value: string }>(`select (${sql})::text as value`, args)).rows[0]!.value;
}

const THOUGHT = {
  type: 'object',
  properties: { reasoning: { type: 'string', maxLength: 12 }, answer: { enum: ['yes', 'no'] }, '10': { const: 1 } },
  required: ['reasoning', 'answer', '10'],
  additionalProperties: false,
};
/** The same with a member that JavaScript would put first, and then one that it would put before that. */
const SCHEMA = JSON.stringify(THOUGHT)
  .replace('"10":{"const":1},', '')
  .replace(/"answer":\{[^}]*\}/, '$&,"10":{"const":1},"2":{"const":2}')
  .replace('"10"]', '"10","2"]');
const IN_ORDER = /^\{"reasoning": ?"[^"]*", ?"answer": ?"(yes|no)", ?"10": ?1, ?"2": ?2\}$/;

const MESSAGES = '[{"role": "user", "content": "Weather in Paris?"}]';
const TOOLS =
  '[{"type": "function", "function": {"name": "weather", "description": "by city", "parameters": {"type": "object", "properties": {"unit": {"type": "string"}, "2": {}, "city": {"type": "string"}, "1": {}}}}}]';
const SHOW_TOOLS = `{"template": "{{ tools[0] | tojson }}", "tools": ${TOOLS}}`;

describe('the order of members', () => {
  test('of a schema is that of the answer', async () => {
    expect(await text(`hartonomous.generate_json('Is 17 prime?', $1)`, [SCHEMA])).toMatch(IN_ORDER);
    const options = `{"response_format": {"type": "json_schema", "json_schema": {"name": "thought", "schema": ${SCHEMA}}}}`;
    for (const call of [
      `hartonomous.generate('Is 17 prime?', options => $1)`,
      `hartonomous.complete('Is 17 prime?', options => $1) ->> 'text'`,
      `hartonomous.chat('[{"role": "user", "content": "Is 17 prime?"}]', options => $1) #>> '{message,content}'`,
      `(select string_agg(token, '' order by step) from hartonomous.generate_stream('Is 17 prime?', options => $1))`,
      `(select g.text from hartonomous.generate(array['Is 17 prime?'], options => $1) as g)`,
      `(select string_agg(token, '' order by step) from hartonomous.next_tokens(hartonomous.open_session('"Is 17 prime?"', options => $1), 200))`,
    ]) {
      expect(await text(call, [options]), call).toMatch(IN_ORDER);
    }
  });

  test('of tools is that which the template sees', async () => {
    const seen = TOOLS.slice(1, -1);
    expect(await text('hartonomous.render_chat($1, options => $2)', [MESSAGES, SHOW_TOOLS])).toBe(seen);
  });

  test('of a message is that which the template sees, except in jsonb', async () => {
    const messages = `[{"role": "user", "content": "x", "extra": {"long": 1, "b": 2, "7": 3}}]`;
    const options = '{"template": "{{ messages[0].extra | tojson }}"}';
    const render = (type: string): Promise<string> =>
      text(`hartonomous.render_chat($1::${type}, options => $2)`, [messages, options]);
    expect(await render('text')).toBe('{"long": 1, "b": 2, "7": 3}');
    expect(await render('json')).toBe('{"long": 1, "b": 2, "7": 3}');
    expect(await render('jsonb')).toBe('{"7": 3, "b": 2, "long": 1}');
  });

  test('of a recorded schema is that which an explanation replays', async () => {
    const options = `{"record": true, "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"schema": ${SCHEMA}}}}`;
    const run = await text(`hartonomous.complete('Is 17 prime?', options => $1) ->> 'run_id'`, [options]);
    // The fourth token or so stands in the first member: under another order it would not have been allowed.
    for (const step of [1, 4, 8]) {
      const { rows } = await client.query<{ kept: boolean }>(
        `select cut_by is null and probability > 0 as kept from hartonomous.explain_candidates($1, $2) where chosen`,
        [run, step],
      );
      expect(rows, `step ${step}`).toEqual([{ kept: true }]);
    }
  });
});

describe('numbers', () => {
  /** JavaScript would drop points and exponents, and the last digits of the id. */
  const WRITTEN =
    '{"least": 0.0, "most": 1e3, "id": 175928847299117063, "7": [1.0, 2, -0.0, 123456789012345678901234567890]}';
  const SEEN =
    '{"least": 0.0, "most": 1000.0, "id": 175928847299117063, "7": [1.0, 2, -0.0, 123456789012345678901234567890]}';

  test('reach the template as they were written', async () => {
    const tools = `[{"type": "function", "function": {"name": "f", "parameters": ${WRITTEN}}}]`;
    const calling = (given: string): string =>
      `[{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ${given}}}]}]`;
    for (const type of ['text', 'json'])
      for (const [messages, what, given] of [
        [MESSAGES, 'tools[0].function.parameters', tools],
        [calling(WRITTEN), 'messages[1].tool_calls[0].function.arguments', 'null'],
        [calling(JSON.stringify(WRITTEN)), 'messages[1].tool_calls[0].function.arguments', 'null'],
      ]) {
        const options = `{"template": "{{ ${what} | tojson }}", "tools": ${given}}`;
        expect(await text(`hartonomous.render_chat($1::${type}, options => $2)`, [messages, options]), what).toBe(SEEN);
      }
  });

  test('that a schema lists are answered as they were written', async () => {
    // They are told apart though JavaScript's are equal.
    for (const id of ['175928847299117063', '175928847299117065', '1.0'])
      for (const schema of [
        `{"const": ${id}}`,
        `{"enum": [${id}]}`,
        `{"type": "array", "items": {"enum": [${id}]}, "minItems": 1, "maxItems": 1, "uniqueItems": true}`,
      ])
        expect((await text(`hartonomous.generate_json('x', $1)`, [schema])).replace(/[[\]]/g, ''), schema).toBe(id);
  });

  test.each([
    '01.0',
    '1.',
    '.5',
    '+1.0',
    '1.0.0',
    '1e',
    '- 1',
    '[1.0 2.0]',
    '{1.0: 2}',
    '1.0a',
    '12345678901234567890x',
    '"\\u00001.0"',
  ])('%s is no JSON text, as before', async (value) => {
    await expect(
      text('hartonomous.chat($1)', [`[{"role": "user", "content": "x", "extra": ${value}}]`]),
    ).rejects.toMatchObject({ code: expect.stringMatching(/^22P0[25]$/) as string });
  });
});

describe('every function takes JSON', () => {
  const options = '{"num_predict": 2, "seed": 1}';
  /** Functions over JSON in their first argument. */
  const OVER_JSON: [call: (first: string) => string, first: string][] = [
    [(first) => `hartonomous.chat(messages => ${first}, options => '${options}')`, MESSAGES],
    [(first) => `hartonomous.chat(${first}, null, '${options}')`, MESSAGES],
    [(first) => `hartonomous.render_chat(messages => ${first})`, MESSAGES],
    [(first) => `hartonomous.render_chat(${first})`, MESSAGES],
    [(first) => `hartonomous.generate_json('x', ${first})`, '{"const": "é"}'],
    [(first) => `hartonomous.generate_json(prompt => 'x', schema => ${first}, model => 'tiny')`, '{"const": "é"}'],
    [(first) => `hartonomous.open_session(${first}, 'tiny', '${options}') > 0`, MESSAGES],
    [(first) => `hartonomous.open_session(prompt => ${first}) > 0`, '"Hello"'],
  ];
  const CLOSE = `select hartonomous.close_session(session_id) from hartonomous.sessions`;
  const timeless = (value: string): string => value.replace(/"(created_at|\w+_duration|run_id|\w+_count)":[^,}]*/g, '');

  test.each(OVER_JSON)('%s, a literal, an untyped parameter, text, json and jsonb alike', async (call, first) => {
    const literal = await text(call(`'${first}'`));
    expect(literal).toMatch(/\S/);
    for (const shown of ['$1', '$1::text', '$1::json', '$1::jsonb'])
      expect(timeless(await text(call(shown), [first])), shown).toBe(timeless(literal));
    await client.query(CLOSE);
  });

  /** Functions with options, their other arguments given by position. */
  const WITH_OPTIONS: [before: string, options: string][] = [
    [`select hartonomous.generate('Hello', 'tiny'`, options],
    [`select text from hartonomous.generate(array['Hello', 'Hi'], 'tiny'`, options],
    [`select hartonomous.complete('Hello', 'tiny'`, options],
    [`select hartonomous.chat('${MESSAGES}', 'tiny'`, options],
    [`select token from hartonomous.generate_stream('Hello', 'tiny'`, options],
    [`select hartonomous.generate_json('Hello', '{"type": "boolean"}', 'tiny'`, '{"seed": 1}'],
    [`select hartonomous.generate_regex('Hello', '[ab]{3}', 'tiny'`, '{"seed": 1}'],
    [`select hartonomous.generate_choice('Hello', array['a', 'b'], 'tiny'`, '{"seed": 1}'],
    [`select label from hartonomous.classify('Hello', array['a', 'b'], 'tiny'`, '{"calibrate": false}'],
    [`select hartonomous.open_session('"Hello"', 'tiny'`, options],
    [`select hartonomous.render_chat('${MESSAGES}', 'tiny'`, '{"template": "chatml"}'],
    [`select hartonomous.logits(array[1, 2], 'tiny'`, '{"precision": "q8"}'],
    [`select hartonomous.embed('Hello', 'tiny'`, '{"pooling": "mean"}'],
    [`select embedding from hartonomous.embed(array['Hello'], 'tiny'`, '{"pooling": "mean"}'],
    [`select hartonomous.similarity('Hello', 'Hi', 'tiny'`, '{"pooling": "mean"}'],
    [`select doc from hartonomous.rerank('Hello', array['Hi', 'Bye'], 'tiny'`, '{"pooling": "mean"}'],
  ];
  test.each(WITH_OPTIONS)(
    '%s, options): a literal, an untyped parameter and json; jsonb is refused',
    async (before, given) => {
      const rows = async (last: string, args: unknown[] = []): Promise<string> => {
        const { rows: found } = await client.query(`${before}, ${last})`, args);
        await client.query(CLOSE);
        return timeless(JSON.stringify(found)).replace(/"open_session":"\d+"/, '');
      };
      const literal = await rows(`'${given}'`);
      expect(await rows('$1', [given])).toBe(literal);
      expect(await rows('$1::json', [given])).toBe(literal);
      expect(await rows('options => $1', [given])).toBe(literal);
      await expect(rows('$1::jsonb', [given])).rejects.toMatchObject({ code: '42883' });
    },
  );

  test('and gives json', async () => {
    const { rows } = await client.query(
      `select p.oid::regprocedure::text as name, p.prorettype::regtype::text as type from pg_proc p
       where p.pronamespace = 'hartonomous'::regnamespace and p.proname in ('generate_json', 'chat', 'complete', 'close_session')`,
    );
    expect(rows).toHaveLength(3 + 3 + 1 + 1);
    for (const row of rows) expect(row).toMatchObject({ type: 'json' });
  });

  test.each([
    [`hartonomous.chat('[{')`, '22P02', 'invalid input syntax for type json'],
    [`hartonomous.open_session('Hello')`, '22P02', 'invalid input syntax for type json'],
    [`hartonomous.generate_json('x', '{"type": ')`, '22P02', 'invalid input syntax for type json'],
    [
      `hartonomous.chat('[{"role": "user", "content": "\\u0000"}]')`,
      '22P05',
      'JSON cannot be read: a string holds \\u0000 or half a surrogate pair, which is no text',
    ],
    [
      `hartonomous.generate('x', options => '{"stop": "\\ud800"}')`,
      '22P05',
      'JSON cannot be read: a string holds \\u0000 or half a surrogate pair, which is no text',
    ],
  ])('%s is refused', async (call, code, message) => {
    await expect(text(call)).rejects.toMatchObject({ code, message });
  });
});

test('answers in JSON do not begin with a space, though the model may', async () => {
  // Token ids of " {" and the like are made likely: nothing else decides.
  const spaced = await text(`hartonomous.tokenize(' ', 'tiny')`);
  const bias = Object.fromEntries(
    spaced
      .slice(1, -1)
      .split(',')
      .map((id) => [id, 100]),
  );
  const options = JSON.stringify({ response_format: { type: 'json_object' }, logit_bias: bias, num_predict: 40 });
  const { rows } = await client.query<{ token: string; step: number }>(
    `select step, token from hartonomous.generate_stream('x', 'tiny', $1) order by step`,
    [options],
  );
  expect(rows[0]).toEqual({ step: 0, token: '' });
  expect(rows.map((row) => row.token).join('')).toMatch(/^\{/);
  expect(
    await text(`hartonomous.generate_json('x', '{"type": "object"}', 'tiny', $1)`, [
      JSON.stringify({ logit_bias: bias, num_predict: 40 }),
    ]),
  ).toMatch(/^\{/);
});
