import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectAs, createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url).pathname;
const role = roleName('user');

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
  await database.createRole(role, 'hartonomous_user');
  client = await connectAs(database.url, role);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

async function value(sql: string, args: unknown[] = []): Promise<unknown> {
  return (await client.query<{ value: unknown }>(`select ${sql} as value`, args)).rows[0]!.value;
}

const PERSON = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 12 }, age: { type: 'integer', minimum: 0, maximum: 130 } },
  required: ['name', 'age'],
  additionalProperties: false,
};

describe('generate_json', () => {
  test('gives JSON that follows the schema', async () => {
    for (let seed = 0; seed < 5; seed++) {
      const person = (await value(
        `hartonomous.generate_json('Who are you?', $1, options => json_build_object('seed', $2::integer))`,
        [JSON.stringify(PERSON), seed],
      )) as { name: string; age: number };
      expect(Object.keys(person).sort()).toEqual(['age', 'name']);
      expect([...person.name].length).toBeLessThanOrEqual(12);
      expect(person.age).toBeGreaterThanOrEqual(0);
      expect(person.age).toBeLessThanOrEqual(130);
    }
  });

  test('gives SQL null for no prompt, and JSON null where the schema says null', async () => {
    expect(await value(`hartonomous.generate_json(null, '{}')`)).toBeNull();
    expect(await value(`hartonomous.generate_json('x', '{"type": "null"}')::text`)).toBe('null');
    expect(await value(`hartonomous.generate_json('x', '{"const": "é"}')::text`)).toBe('"é"');
    expect(await value(`hartonomous.generate_json('x', '{"const": 1.50}')::text`)).toBe('1.5');
  });

  test.each([
    [`'{"$dynamicRef": "#x"}'`, '0A000', 'schema keyword "$dynamicRef" at # is not supported'],
    [
      `'{"type": "array", "items": {}, "minItems": 9999}'`,
      '22023',
      /^json schema needs at least \d+ tokens, 128 may be written$/,
    ],
  ])('refuses %s', async (schema, code, message) => {
    await expect(value(`hartonomous.generate_json('x', ${schema})`)).rejects.toMatchObject({
      code,
      message: typeof message === 'string' ? message : (expect.stringMatching(message) as string),
    });
  });
});

test('generate_choice gives one of the texts', async () => {
  const choices = ['yes', 'no', 'it depends'];
  expect(choices).toContain(await value(`hartonomous.generate_choice('Is it raining?', $1)`, [choices]));
  await expect(value(`hartonomous.generate_choice('x', array['a', null])`)).rejects.toThrow('choice 2 is null');
  await expect(value(`hartonomous.generate_choice('x', '{}')`)).rejects.toThrow('choices must not be empty');
});

test('keywords that nobody defines are named in a notice, those of other programs that assert are not passed over', async () => {
  const notices: string[] = [];
  const listen = ({ message }: { message?: string | undefined }): number => notices.push(message ?? '');
  client.on('notice', listen);
  try {
    await value(`hartonomous.generate_json('x', '{"type": "null", "x-order": 1}')`);
    expect(await value(`hartonomous.generate_json('x', '{"oneOf": [{"const": 1}, {"enum": [1, 2]}]}')`)).toBe(2);
  } finally {
    client.off('notice', listen);
  }
  expect(notices).toEqual(['schema keywords that nobody defines are ignored: "x-order" at #']);
});

test('generate_grammar and option grammar give a text of the grammar', async () => {
  const grammar = 'root ::= item{2}\nitem ::= "- " [a-z]{1,5} "\\n"';
  expect(await value(`hartonomous.generate_grammar('A list:', $1)`, [grammar])).toMatch(/^(- [a-z]{1,5}\n){2}$/);
  expect(await value(`hartonomous.generate('A list:', options => $1)`, [JSON.stringify({ grammar })])).toMatch(
    /^(- [a-z]{1,5}\n){2}$/,
  );
  await expect(value(`hartonomous.generate_grammar('x', 'root ::= other')`)).rejects.toMatchObject({
    code: '22023',
    message: 'grammar line 1: there is no rule other',
  });
  await expect(
    value(`hartonomous.generate_regex('x', 'a', options => '{"grammar": "root ::= \\"a\\""}')`),
  ).rejects.toMatchObject({ code: '22023', message: 'option grammar cannot stand beside a regex' });
});

test('generate_regex gives a text that matches', async () => {
  expect(await value(`hartonomous.generate_regex('A date, please', '20\\d\\d-[01]\\d')`)).toMatch(/^20\d\d-[01]\d$/);
});

describe('response_format', () => {
  const format = { response_format: { type: 'json_schema', json_schema: { name: 'person', schema: PERSON } } };

  test('makes chat, complete, generate_stream and sessions answer in JSON', async () => {
    const options = JSON.stringify({ ...format, seed: 4 });
    const chat = (await value(`hartonomous.chat('[{"role": "user", "content": "Who are you?"}]', options => $1)`, [
      options,
    ])) as { message: { content: string }; done_reason: string };
    expect(chat.done_reason).toBe('stop');
    expect(JSON.parse(chat.message.content)).toHaveProperty('age');
    const streamed = await value(
      `(select string_agg(token, '' order by step) from hartonomous.generate_stream('Who are you?', options => $1))`,
      [options],
    );
    expect(streamed).toBe(chat.message.content);
    const session = await value(`hartonomous.open_session('"Who are you?"', options => $1)`, [options]);
    const taken = await value(`(select string_agg(token, '' order by step) from hartonomous.next_tokens($1, 200))`, [
      session,
    ]);
    expect(taken).toBe(chat.message.content);
  });

  test('survives a session that is rolled back', async () => {
    const session = await value(`hartonomous.open_session('"Who are you?"', options => $1)`, [
      JSON.stringify({ ...format, seed: 9 }),
    ]);
    const take = (n: number): Promise<unknown> =>
      value(`(select string_agg(token, '' order by step) from hartonomous.next_tokens($1, ${n}))`, [session]);
    let text = String(await take(3));
    await client.query('begin');
    await take(4);
    await client.query('rollback');
    text += String(await take(200));
    expect(JSON.parse(text)).toHaveProperty('age');
  });
});
