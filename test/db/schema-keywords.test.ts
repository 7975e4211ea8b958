/**
 * Every keyword of JSON Schema's drafts 4, 6, 7, 2019-09 and 2020-12 and of OpenAPI 3.0 and 3.1, through SQL and HTTP: it decides about
 * values, is passed over as an annotation, or is refused by name and place. What nobody defines is named in a NOTICE or a
 * header, and what is written wrong is said in one line.
 */
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { knownKeywords } from '../unit/sampling/constraint/schema-drafts.ts';
import { connectAs, createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';
import { FORMS } from './schema-forms.ts';

const role = roleName('schemas');

let database: TestDatabase;
let server: RunningServer;
let client: pg.Client;
let notices: string[];

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'tiny');
  await database.createRole(role, 'hartonomous_user');
  client = await connectAs(database.url, role);
  client.on('notice', ({ message }) => notices.push(message ?? ''));
  server = await startTestServer(database.url);
});

afterAll(async () => {
  await server.close();
  await client.end();
  await database.drop();
});

/** What was answered and which notices came along. */
interface Answer {
  value: unknown;
  notices: string[];
}

interface Refusal {
  code: string;
  message: string;
}

type Way = (schema: object) => Promise<Answer | Refusal>;

const inSql: Way = async (schema) => {
  notices = [];
  return client
    .query<{ value: unknown }>(`select hartonomous.generate_json('hello', $1::json, 'tiny', '{"seed": 1}') as value`, [
      JSON.stringify(schema),
    ])
    .then(
      ({ rows }) => ({ value: rows[0]!.value, notices }),
      ({ code, message }: pg.DatabaseError) => ({ code: code!, message }),
    );
};

const overHttp: Way = async (schema) => {
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'hello' }],
      seed: 1,
      max_tokens: 128,
      response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } },
    }),
  });
  const body = (await response.json()) as {
    error?: { message: string };
    choices: [{ message: { content: string } }];
  };
  if (body.error !== undefined) return { code: String(response.status), message: body.error.message };
  const notice = response.headers.get('x-hartonomous-notice');
  return {
    value: JSON.parse(body.choices[0].message.content) as unknown,
    notices: notice === null ? [] : [decodeURIComponent(notice)],
  };
};

const WAYS: [string, Way, (code: string) => string][] = [
  ['SQL', inSql, (code) => code],
  ['HTTP', overHttp, () => '400'],
];

/** Of two values only the first is allowed. */
type Case = [keyword: string, schema: object, good: unknown, bad: unknown];

const ASSERTING: Case[] = [
  ['type', { type: 'string' }, 'a', 1],
  ['type', { type: ['array', 'null'] }, [], {}],
  ['enum', { enum: ['a', 'c'] }, 'a', 'b'],
  ['const', { const: 'a' }, 'a', 'b'],
  ['$ref', { $defs: { vowel: { enum: ['a', 'e'] } }, $ref: '#/$defs/vowel' }, 'a', 'b'],
  ['$ref', { definitions: { vowel: { $id: '#v', const: 'a' } }, $ref: '#v' }, 'a', 'b'],
  ['$ref', { $defs: { vowel: { $anchor: 'v', const: 'a' } }, $ref: '#v' }, 'a', 'b'],
  ['allOf', { allOf: [{ minLength: 2 }, { maxLength: 3 }] }, 'ab', 'abcd'],
  ['anyOf', { anyOf: [{ const: 1 }, { const: 2 }] }, 2, 3],
  ['oneOf', { oneOf: [{ minimum: 1 }, { maximum: 2 }] }, 3, 2],
  ['not', { not: { type: 'null' } }, 'a', null],
  ['if', { if: { type: 'string' }, then: { minLength: 2 }, else: { minimum: 5 } }, 'ab', 'a'],
  ['then', { if: { type: 'string' }, then: { minLength: 2 } }, 'ab', 'a'],
  ['else', { if: { type: 'string' }, else: { minimum: 5 } }, 5, 4],
  ['minimum', { minimum: 2 }, 2, 1],
  ['maximum', { maximum: 2 }, 2, 3],
  ['exclusiveMinimum', { exclusiveMinimum: 2 }, 3, 2],
  ['exclusiveMaximum', { exclusiveMaximum: 2 }, 1, 2],
  ['exclusiveMinimum', { minimum: 2, exclusiveMinimum: true }, 3, 2],
  ['exclusiveMaximum', { maximum: 2, exclusiveMaximum: true }, 1, 2],
  ['multipleOf', { multipleOf: 3 }, 6, 7],
  ['multipleOf', { multipleOf: 0.01 }, 1.25, 1.255],
  ['minLength', { minLength: 2 }, 'aé', 'é'],
  ['maxLength', { maxLength: 1 }, '🎈', 'ab'],
  ['pattern', { pattern: '^a.$' }, 'ab', 'ba'],
  ['items', { items: { type: 'integer' } }, [1], ['a']],
  ['items', { items: [{ const: 1 }] }, [1], [2]],
  ['additionalItems', { items: [true], additionalItems: { const: 1 } }, ['a', 1], ['a', 2]],
  ['prefixItems', { prefixItems: [{ const: 1 }] }, [1], [2]],
  ['minItems', { minItems: 2 }, [1, 2], [1]],
  ['maxItems', { maxItems: 1 }, [1], [1, 2]],
  ['uniqueItems', { uniqueItems: true }, [1, '1'], [1, 1]],
  ['contains', { contains: { const: 1 } }, [2, 1], [2]],
  ['minContains', { contains: { const: 1 }, minContains: 2 }, [1, 1], [1]],
  ['maxContains', { contains: { const: 1 }, maxContains: 1 }, [1, 2], [1, 1]],
  ['unevaluatedItems', { prefixItems: [true], unevaluatedItems: false }, [1], [1, 2]],
  ['unevaluatedItems', { allOf: [{ items: [true, true] }], unevaluatedItems: false }, [1, 2], [1, 2, 3]],
  ['properties', { properties: { a: { const: 1 } } }, { a: 1 }, { a: 2 }],
  ['required', { required: ['a'] }, { a: 1 }, { b: 1 }],
  ['additionalProperties', { properties: { a: true }, additionalProperties: false }, { a: 1 }, { b: 1 }],
  ['patternProperties', { patternProperties: { '^x': { const: 1 } } }, { x: 1 }, { x1: 2 }],
  ['propertyNames', { propertyNames: { maxLength: 1 } }, { a: 1 }, { ab: 1 }],
  ['minProperties', { minProperties: 1 }, { a: 1 }, {}],
  ['maxProperties', { maxProperties: 1 }, { a: 1 }, { a: 1, b: 1 }],
  ['dependentRequired', { dependentRequired: { a: ['b'] } }, { a: 1, b: 1 }, { a: 1 }],
  ['dependentSchemas', { dependentSchemas: { a: { maxProperties: 1 } } }, { a: 1 }, { a: 1, b: 1 }],
  ['dependencies', { dependencies: { a: ['b'], c: { maxProperties: 1 } } }, { a: 1, b: 1 }, { c: 1, d: 1 }],
  ['unevaluatedProperties', { properties: { a: true }, unevaluatedProperties: false }, { a: 1 }, { b: 1 }],
  [
    'unevaluatedProperties',
    { anyOf: [{ properties: { a: { const: 1 } }, required: ['a'] }, true], unevaluatedProperties: false },
    { a: 1 },
    { a: 2 },
  ],
];

const ANNOTATIONS: Record<string, unknown> = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'https://example.com/one',
  id: 'https://example.com/one',
  $anchor: 'one',
  $dynamicAnchor: 'one',
  $recursiveAnchor: true,
  $vocabulary: { 'https://json-schema.org/draft/2020-12/vocab/core': true },
  $comment: 'one',
  $defs: { a: { $ref: 'elsewhere.json' } },
  definitions: { a: { $ref: 'elsewhere.json' } },
  title: 'One',
  description: 'one',
  default: 2,
  example: 2,
  examples: [2],
  deprecated: true,
  readOnly: true,
  writeOnly: true,
  contentMediaType: 'image/png',
  contentSchema: { type: 'string' },
  discriminator: { propertyName: 'kind' },
  xml: { name: 'one' },
  externalDocs: { url: 'https://example.com' },
};

const REFUSED: Record<string, unknown> = {
  $dynamicRef: '#node',
  $recursiveRef: '#',
  extends: { type: 'string' },
  disallow: ['string'],
  divisibleBy: 2,
};

test('the table has every keyword of every draft', () => {
  const known = new Set([
    ...ASSERTING.map(([keyword]) => keyword),
    ...['format', 'contentEncoding', 'nullable'], // of FORMS
    ...Object.keys(ANNOTATIONS),
    ...Object.keys(REFUSED),
  ]);
  const all = knownKeywords();
  expect(all.size).toBeGreaterThan(60);
  expect([...all].filter((keyword) => !known.has(keyword))).toEqual([]);
});

const WRONG: [schema: object, code: string, message: string][] = [
  [{ type: 'str' }, '22023', 'schema at #: type must be one of'],
  [{ type: [] }, '22023', 'no finite text satisfies the json schema'],
  [{ enum: 'a' }, '22023', 'schema at #: enum must be an array that is not empty, got "a"'],
  [{ properties: ['a'] }, '22023', 'schema at #: properties must be an object, got ["a"]'],
  [{ properties: { a: 3 } }, '22023', 'schema at #/properties/a: a schema must be an object or a boolean, got 3'],
  [{ properties: { a: null } }, '22023', 'schema at #/properties/a: a schema must be an object or a boolean, got null'],
  [{ type: 'object', required: 'a' }, '22023', 'schema at #: required must be an array of texts, got "a"'],
  [{ type: 'object', required: [1] }, '22023', 'schema at #: required must be an array of texts, got [1]'],
  [{ additionalProperties: 'no' }, '22023', 'schema at #/additionalProperties: a schema must be'],
  [{ patternProperties: { '(': true } }, '22023', 'schema at #/patternProperties: pattern is not valid: '],
  [{ propertyNames: 3 }, '22023', 'schema at #/propertyNames: a schema must be'],
  [{ minProperties: -1 }, '22023', 'schema at #: minProperties must be an integer that is not negative, got -1'],
  [{ minProperties: 3, maxProperties: 2 }, '22023', 'schema at #: minProperties is 3, maxProperties is 2'],
  [{ items: 3 }, '22023', 'schema at #/items: a schema must be'],
  [{ prefixItems: {} }, '22023', 'schema at #: prefixItems must be an array, got {}'],
  [{ uniqueItems: 'yes' }, '22023', 'schema at #: uniqueItems must be true or false, got "yes"'],
  [{ contains: 3 }, '22023', 'schema at #/contains: a schema must be'],
  [{ contains: true, minContains: 'a' }, '22023', 'schema at #: minContains must be an integer'],
  [{ minItems: 1.5 }, '22023', 'schema at #: minItems must be an integer that is not negative, got 1.5'],
  [{ minLength: '3' }, '22023', 'schema at #: minLength must be an integer that is not negative, got "3"'],
  [{ pattern: 3 }, '22023', 'schema at #: pattern must be a text, got 3'],
  [{ properties: { a: { pattern: '(a' } } }, '22023', 'schema at #/properties/a: pattern is not valid: '],
  [{ pattern: '(a)\\1' }, '0A000', 'schema at #: pattern has a back reference, which is not supported'],
  [{ pattern: '(?<=a)b' }, '0A000', 'schema at #: pattern has a lookbehind, which is not supported'],
  [{ format: 3, type: 'string' }, '22023', 'schema at #: format must be a text, got 3'],
  [{ minimum: '1' }, '22023', 'schema at #: minimum must be a number, got "1"'],
  [{ multipleOf: 0 }, '22023', 'schema at #: multipleOf must be a number greater than 0, got 0'],
  [{ anyOf: {} }, '22023', 'schema at #: anyOf must be an array that is not empty, got {}'],
  [{ allOf: [] }, '22023', 'schema at #: allOf must be an array that is not empty, got []'],
  [{ oneOf: [3] }, '22023', 'schema at #/oneOf/0: a schema must be'],
  [{ not: 3 }, '22023', 'schema at #/not: a schema must be'],
  [{ if: 3, then: {} }, '22023', 'schema at #/if: a schema must be'],
  [{ dependentRequired: [] }, '22023', 'schema at #: dependentRequired must be an object, got []'],
  [{ dependentRequired: { a: [1] } }, '22023', 'schema at #/dependentRequired/a: required must be an array of texts'],
  [{ $ref: 3 }, '22023', 'schema at #: $ref must be a text, got 3'],
  [{ $ref: '#/$defs/no' }, '22023', 'schema at #/$defs/no: the reference leads nowhere'],
  [{ $ref: '#no' }, '22023', 'schema at #no: the reference leads nowhere'],
  [
    {
      $ref: '#/$defs/a',
      $defs: { b: { type: 'integer' }, a: { $id: 'a.json', $ref: '#/$defs/b', $defs: { b: { type: 'string' } } } },
    },
    '0A000',
    'schema $id at #/$defs/a with references to its own parts is not supported',
  ],
  [
    {
      $ref: '#/$defs/default',
      $defs: { b: true, default: { $id: 'a.json', $ref: '#/$defs/b', $defs: { b: { type: 'string' } } } },
    },
    '0A000',
    'schema $id at #/$defs/default with references to its own parts is not supported',
  ],
  [{ $ref: 'https://example.com/a' }, '0A000', 'schema $ref "https://example.com/a" at # is not supported'],
  [
    { $defs: { a: { $ref: '#/$defs/b' }, b: { anyOf: [{ $ref: '#/$defs/a' }] } }, $ref: '#/$defs/a' },
    '22023',
    'schema at #/$defs/a: the schema refers to itself without an object or array between',
  ],
];

describe.each(WAYS)('through %s', (_, answer, codeOf) => {
  test.each(FORMS)('a value is written so: %s', async (_, schema, holds) => {
    const { value, notices: said } = (await answer(schema)) as Answer;
    expect(holds(value as never), JSON.stringify(value)).toBe(true);
    expect(said).toEqual([]);
  });

  test.each(Object.entries(REFUSED))('%s is refused by name and place', async (keyword, value) => {
    const schema = { properties: { a: { items: { [keyword]: value } } } };
    expect(await answer(schema)).toEqual({
      code: codeOf('0A000'),
      message: `schema keyword "${keyword}" at #/properties/a/items is not supported`,
    });
  });

  test('what nobody defines is ignored and named, the first ten', async () => {
    const unknown = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`x-${i}`, i]));
    const said = 'schema keywords that nobody defines are ignored: ';
    const named = { properties: { a: { const: 1, propertyOrdering: ['a'], required: true } }, required: ['a'] };
    expect(await answer(named)).toEqual({
      value: { a: 1 },
      notices: [`${said}"propertyOrdering" at #/properties/a, "required" at #/properties/a`],
    });
    const coloured = (await answer({ type: 'string', format: 'colour', maxLength: 2, minLength: 2 })) as Answer;
    expect(coloured.notices).toEqual([`${said}"format" "colour" at #`]);
    const { notices: many } = (await answer({ const: 1, ...unknown })) as Answer;
    expect(many[0]).toMatch(/"x-9" at # and 2 more$/);
  });

  test.each(ASSERTING)('%s decides about values: %j', async (_, schema, good, bad) => {
    const { $defs = {}, definitions = {} } = schema as Record<string, unknown>;
    const among = (values: unknown[]): object => ({ $defs, definitions, allOf: [schema, { enum: values }] });
    expect(await answer(among([bad, good]))).toEqual({ value: good, notices: [] });
    expect(await answer(among([bad]))).toEqual({
      code: codeOf('22023'),
      message: 'no finite text satisfies the json schema',
    });
  });

  test.each(Object.entries(ANNOTATIONS))('%s says nothing about values', async (keyword, value) => {
    expect(await answer({ [keyword]: value, const: 1 })).toEqual({ value: 1, notices: [] });
    const within = { properties: { a: { [keyword]: value, const: 1 } }, required: ['a'] };
    expect(await answer(within)).toEqual({ value: { a: 1 }, notices: [] });
  });

  test.each(WRONG)('what is written wrong is said in one line: %j', async (schema, code, message) => {
    const error = (await answer(schema)) as Refusal;
    expect(error.message.startsWith(message), error.message).toBe(true);
    expect(error.message).not.toContain('\n');
    expect(error.code).toBe(codeOf(code));
  });
});

test.each(FORMS)("a value is written so by Ollama's format: %s", async (_, format, holds) => {
  const response = await fetch(`${server.url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'hello' }],
      stream: false,
      options: { seed: 2, num_predict: 128 },
      format,
    }),
  });
  const { message } = (await response.json()) as { message: { content: string } };
  expect(holds(JSON.parse(message.content) as never), message.content).toBe(true);
  expect(response.headers.get('x-hartonomous-notice')).toBeNull();
});
