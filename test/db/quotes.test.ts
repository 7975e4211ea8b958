/** Whatever a caller sends, an error quotes at most 200 characters of it. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MOST_QUOTED } from '../../plv8/src/format/visible-text.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const LETTER = 'q';
const LONG = LETTER.repeat(3000);

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'tiny');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(`set statement_timeout = 20000; set search_path = hartonomous`);
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

/** What an error says, part by part; null where there was none. */
async function refusal(sql: string, args: unknown[]): Promise<pg.DatabaseError | null> {
  await client.query('begin');
  try {
    await client.query(sql, args);
    return null;
  } catch (error) {
    return error as pg.DatabaseError;
  } finally {
    await client.query('rollback');
  }
}

/** Calls that each of these errors may come from. */
async function check(calls: Iterable<[string, unknown[]]>): Promise<{ refused: number; tooLong: string[] }> {
  const found = { refused: 0, tooLong: [] as string[] };
  for (const [sql, args] of calls) {
    const error = await refusal(sql, args);
    if (error === null) continue;
    found.refused++;
    for (const part of ['message', 'detail', 'hint', 'where', 'internalQuery'] as const) {
      const text = error[part] ?? '';
      const letters = text.split(LETTER).length - 1;
      if (letters > MOST_QUOTED)
        found.tooLong.push(
          `${sql} ${JSON.stringify(args).slice(0, 80)}: ${letters} in the ${part} ${text.slice(0, 60)}`,
        );
    }
  }
  return found;
}

const PLAIN: Readonly<Record<string, unknown>> = {
  text: 'tiny',
  'text[]': ['tiny', 'b'],
  json: '{}',
  jsonb: '{}',
  integer: 1,
  bigint: 1,
  smallint: 1,
  real: 0.5,
  'double precision': 0.5,
  boolean: true,
  interval: '1 day',
  'integer[]': [1, 2],
  'real[]': [1, 2],
  bytea: Buffer.from('a'),
};
const message = (fields: Record<string, unknown>): unknown[] => [{ role: 'user', content: 'a', ...fields }];
const VALUES: unknown[] = [LONG, [LONG], { [LONG]: LONG }, { a: { [LONG]: [LONG] } }];
const CONVERSATIONS = [
  message({ role: LONG }),
  message({ content: { type: LONG } }),
  message({ content: [{ type: LONG, text: 'a' }] }),
  message({ [LONG]: 1 }),
  message({ role: 'tool', tool_call_id: LONG }),
  message({ role: 'assistant', tool_calls: [{ function: { name: LONG, arguments: LONG } }] }),
  message({ role: 'assistant', tool_calls: LONG }),
];
const JSONS = VALUES.map((value) => JSON.stringify(value));
const HOSTILE: Readonly<Record<string, unknown[]>> = {
  text: [LONG, `[${LONG}`, `["${LONG}`, JSON.stringify(CONVERSATIONS[0])],
  'text[]': [[LONG, LONG], [LONG], [LONG, null]],
  json: JSONS,
  jsonb: JSONS.slice(0, 2),
};

describe('an error quotes at most 200 characters', () => {
  test('of any argument of any function', async () => {
    const { rows } = await database.pool.query<{ name: string; types: string[] }>(
      `select p.proname::text as name,
         array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as u(t, i) order by i) as types
       from pg_proc p where p.pronamespace = 'hartonomous'::regnamespace and p.prorettype <> 'trigger'::regtype and p.pronargs > 0
         -- PostgreSQL itself shows the statements that parts of searches make of a caller's texts, with the caller's rights.
         and (p.prosecdef or p.proname not like '\\_%')`,
    );
    const calls = rows.flatMap(({ name, types }) =>
      types.flatMap((type, i) =>
        (HOSTILE[type] ?? []).map((value): [string, unknown[]] => [
          `select * from hartonomous.${name}(${types.map((each, j) => `$${j + 1}::${each}`).join(', ')})`,
          types.map((each, j) => (j === i ? value : PLAIN[each])),
        ]),
      ),
    );
    const { refused, tooLong } = await check(calls);
    expect(tooLong).toEqual([]);
    expect(refused).toBeGreaterThan(300);
  });

  test('of what nests deeper than it can be shown', async () => {
    const stop = '['.repeat(200_000) + ']'.repeat(200_000);
    // As text: the type json has a depth of its own.
    await expect(
      database.pool.query(`select hartonomous._generate('a', 'tiny', $1)`, [`{"stop": ${stop}}`]),
    ).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(/^option stop must be .*, got what nests too deep to be shown$/) as string,
    });
  });

  test.each([
    ['generate', `select hartonomous.generate('a', 'tiny', $1)`],
    ['open_session', `select * from hartonomous.open_session('"a"'::json, 'tiny', $1)`],
    ['logits', `select hartonomous.logits(array[1], 'tiny', $1)`],
    ['embed', `select hartonomous.embed('a', 'bert', $1)`],
    ['chunk', `select * from hartonomous.chunk('a', 'tiny', $1)`],
    ['classify', `select * from hartonomous.classify('a', array['a', 'b'], 'tiny', $1)`],
    ['similarity', `select hartonomous.similarity('a', 'b', 'bert', $1)`],
  ])('of any option of %s', async (_name, sql) => {
    const unknown = await refusal(sql, [JSON.stringify({ nothing: 1 })]);
    const names = unknown!.hint!.replace(/^options: /, '').split(', ');
    const options = [...names, LONG].flatMap((name) => VALUES.map((value) => ({ [name]: value, num_predict: 1 })));
    const { refused, tooLong } = await check(options.map((given) => [sql, [JSON.stringify(given)]]));
    expect(tooLong).toEqual([]);
    expect(refused).toBeGreaterThanOrEqual(names.length);
  });

  const WORDS = [
    ...[
      '$ref',
      '$defs',
      'type',
      'enum',
      'const',
      'properties',
      'required',
      'additionalProperties',
      'items',
      'prefixItems',
    ],
    ...[
      'pattern',
      'format',
      'minLength',
      'minimum',
      'multipleOf',
      'anyOf',
      'allOf',
      'oneOf',
      'not',
      'if',
      'then',
      'else',
    ],
    ...[
      'dependentRequired',
      'dependentSchemas',
      'propertyNames',
      'patternProperties',
      'contains',
      'minItems',
      'uniqueItems',
    ],
  ];
  test('of a schema', async () => {
    const sql = `select hartonomous.generate_json('a', $1::json, 'tiny', '{"num_predict": 1}')`;
    const inner = [...WORDS, LONG].flatMap((word) =>
      [LONG, { [LONG]: LONG }, `${LONG}(`, `#/${LONG}`].map((value) => ({ [word]: value })),
    );
    const deep = { type: 'object', properties: { [LONG]: { type: 'object', properties: { [LONG]: { type: 'x' } } } } };
    const schemas = [
      ...inner,
      ...inner.slice(0, 15).map((schema) => ({ type: 'object', properties: { [LONG]: schema } })),
      deep,
    ];
    const { refused, tooLong } = await check(schemas.map((schema) => [sql, [JSON.stringify(schema)]]));
    expect(tooLong).toEqual([]);
    expect(refused).toBeGreaterThan(100);
  });

  test.each([
    [
      'a conversation',
      'select hartonomous.render_chat($1::json, $2)',
      CONVERSATIONS.map((messages) => JSON.stringify(messages)),
    ],
    [
      'a pattern',
      'select hartonomous.generate_regex($2, $1, $2)',
      ['(?<X>a', '[X', '\\p{X}', '(?X)', '\\k<X>', 'X{2,1}', '(X', '{X'],
    ],
    [
      'a grammar',
      'select hartonomous.generate_grammar($2, $1, $2)',
      [
        'X',
        'root ::= X',
        'root ::= "X',
        'root ::= [X',
        'root ::= qX',
        'root ::= <X>',
        'root ::= "a" {X}',
        'root ::= "a" # X',
        'root ::= (X',
      ],
    ],
    [
      'a template',
      `select hartonomous.render_chat('[{"role": "user", "content": "a"}]'::json, $2, json_build_object('template', $1))`,
      [
        ...[
          'X',
          '{{ X',
          '{{ X }}',
          '{{ X() }}',
          '{{ "a" | X }}',
          '{{ "a" is X }}',
          '{% X %}',
          '{{ raise_exception("X") }}',
        ],
        ...[
          '{{ "X" | int + {} }}',
          '{{ "X".foo() }}',
          '{{ {}["X"].a.b }}',
          '{{ namespace(X=1).a.b }}',
          '{% macro X() %}',
          '{{ "X" + 1 }}',
        ],
        ...[
          '{{ "a".X() }}',
          '{{ 1 / "X" }}',
          '{% set X.a = 1 %}',
          '{% for X %}',
          '{{ strftime_now("X" * 2, 3, 4) }}',
          '{{ "X" < 1 }}',
        ],
      ],
    ],
  ])('of %s', async (_what, sql, texts) => {
    const { refused, tooLong } = await check(texts.map((text) => [sql, [text.replaceAll('X', LONG), 'tiny']]));
    expect(tooLong).toEqual([]);
    expect(refused).toBeGreaterThan(texts.length / 3);
  });
});
