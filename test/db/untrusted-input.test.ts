/**
 * Properties of everything that a caller may send (files of models are in test/cli/fuzz.test.ts): whatever it is, the answer is a result or one line of an error that says
 * what is wrong with it, soon, and the backend goes on. PROPERTY_RUNS inputs of each kind (40), PROPERTY_SEED chooses others;
 * a failure prints the smallest input that fast-check finds.
 */
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { queryOnce } from '../../cli/commands/query.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { SMALL } from '../faults/server.ts';
import { modelPath } from '../golden/model-files.ts';
import { SchemaMaker } from '../unit/sampling/constraint/random-schema.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const RUNS = Number(process.env.PROPERTY_RUNS ?? 40);
const SEED = Number(process.env.PROPERTY_SEED ?? 1);
const settings = { numRuns: RUNS, seed: SEED };

/** Classes and codes of errors that are the caller's: data, not supported, too much of it, not there, not in that state. */
const CALLERS = /^(22...|0A000|54...|53400|42704|55000)$/;
/** A call that takes longer hangs. */
const HANG_MS = 20_000;

let database: TestDatabase;
let server: RunningServer;
let client: pg.Client & { processID: number };

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, SMALL, 'tiny');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'other');
  await database.pool.query('create table kept (id integer primary key); insert into kept values (1), (2)');
  await database.pool.query('create sequence counted');
  client = new pg.Client({ connectionString: database.url }) as typeof client;
  await client.connect();
  await client.query(`set statement_timeout = ${HANG_MS}`);
  server = await startTestServer(database.url, { backends: 1, queue: 4 });
});

afterAll(async () => {
  await server.close();
  await client.end();
  await database.drop();
});

/** Run a statement over untrusted arguments: rows, or an error of the caller's in one line. */
async function ask(sql: string, args: unknown[]): Promise<unknown[] | null> {
  try {
    return (await client.query(sql, args)).rows as unknown[];
  } catch (error) {
    const { code, message } = error as pg.DatabaseError;
    expect(code, message).toMatch(CALLERS);
    expect(message).not.toMatch(/[\n\r]/);
    expect(message.length).toBeLessThan(2000);
    return null;
  }
}

/** The property holds for every input, and neither the backend nor its model was lost. */
async function holds<T>(inputs: fc.Arbitrary<T>, property: (input: T) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(inputs, property), settings);
  const { rows } = await client.query(
    `select pg_backend_pid() as pid, hartonomous.token_count('one', 'tiny') > 0 as answers`,
  );
  expect(rows).toEqual([{ pid: client.processID, answers: true }]);
}

const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }).map((value) => value.replaceAll('\0', '')),
);
const anything = fc.oneof(
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  fc.constantFrom<unknown>(-1, 0, 1, 1.5, 2 ** 31, 1e308, -(2 ** 53), '', '0', true, null, [], {}, [[]], ['x']),
);
const jsonb = (value: unknown): string => JSON.stringify(value) ?? 'null';

const OPTION_NAMES = [
  ...[
    'num_predict',
    'num_ctx',
    'temperature',
    'top_k',
    'top_p',
    'min_p',
    'typical_p',
    'repeat_penalty',
    'repeat_last_n',
  ],
  ...['presence_penalty', 'frequency_penalty', 'seed', 'stop', 'raw', 'cache', 'record', 'precision', 'logit_bias'],
  ...[
    'system',
    'template',
    'tools',
    'add_generation_prompt',
    'logprobs',
    'top_logprobs',
    'response_format',
    'max_tokens',
  ],
  ...[
    'pooling',
    'normalize',
    'dimensions',
    'truncate',
    'instruction',
    'calibrate',
    '__proto__',
    'constructor',
    'nonsense',
  ],
];
/** Values that are right for some option, so that several options together get past the first check. */
const likely = fc.oneof(
  fc.constantFrom<unknown>(
    0,
    1,
    2,
    0.5,
    5,
    true,
    false,
    'mean',
    'f32',
    'q8',
    ['x'],
    { '3': -2 },
    { type: 'json_object' },
  ),
  anything,
);
const options = fc.oneof(
  { weight: 5, arbitrary: fc.dictionary(fc.constantFrom(...OPTION_NAMES), likely, { maxKeys: 4 }) },
  { weight: 1, arbitrary: anything },
);

describe('options', () => {
  test.each<[string, string]>([
    ['generate', 'select hartonomous.generate($1, $2, $3)'],
    ['complete', 'select hartonomous.complete($1, $2, $3)'],
    ['generate_stream', 'select * from hartonomous.generate_stream($1, $2, $3)'],
    ['a batch', 'select * from hartonomous.generate(array[$1, $1]::text[], $2, $3)'],
    ['a session', 'select * from hartonomous.next_tokens(hartonomous.open_session(to_jsonb($1::text), $2, $3), 3)'],
    ['embed', 'select hartonomous.embed($1, $2, $3)'],
    ['classify', `select * from hartonomous.classify($1, array['a', 'b'], $2, $3)`],
    ['logits', `select hartonomous.logits(hartonomous.tokenize($1, $2), $2, $3)`],
    ['render_chat', 'select hartonomous.render_chat(to_jsonb(array[$1::text]), $2, $3)'],
  ])('of %s', async (_name, sql) => {
    await holds(fc.tuple(text, fc.constantFrom('tiny', 'other'), options), async ([prompt, model, given]) => {
      await ask(sql, [prompt, model, jsonb(given)]);
      if (sql.includes('open_session'))
        await client.query('select hartonomous.close_session(session_id) from hartonomous.sessions');
    });
  });
});

describe('messages', () => {
  const message = fc.oneof(
    fc.record(
      {
        role: fc.oneof(fc.constantFrom('user', 'assistant', 'system', 'tool', ''), text, anything),
        content: fc.oneof(text, anything),
        tool_calls: anything,
        name: text,
      },
      { requiredKeys: ['role', 'content'] },
    ),
    anything,
  );
  test('of chat and render_chat', async () => {
    await holds(fc.oneof(fc.array(message, { maxLength: 4 }), anything), async (messages) => {
      await ask(`select hartonomous.chat($1, 'tiny', '{"num_predict": 2}')`, [jsonb(messages)]);
      await ask(`select hartonomous.render_chat($1, 'tiny')`, [jsonb(messages)]);
    });
  });
});

/** A value with one of its parts, wherever it is, put in another's place. */
function replaced(value: unknown, at: number, by: unknown): unknown {
  let left = at;
  const walk = (node: unknown): unknown => {
    if (left-- === 0) return by;
    if (Array.isArray(node)) return node.map(walk);
    if (typeof node !== 'object' || node === null) return node;
    return Object.fromEntries(Object.entries(node).map(([name, inner]) => [name, walk(inner)]));
  };
  return walk(value);
}

describe('grammars', () => {
  test('that are schemas with a part replaced, or anything', async () => {
    const schema = fc.oneof(
      {
        weight: 3,
        arbitrary: fc
          .tuple(fc.nat(500), fc.nat(20), anything)
          .map(([seed, at, by]) => replaced(new SchemaMaker(seed).make(), at, by)),
      },
      anything,
    );
    await holds(schema, async (given) => {
      const rows = await ask(
        `select hartonomous.generate_json('x', $1, 'tiny', '{"num_predict": 60}') is null as none`,
        [jsonb(given)],
      );
      if (rows !== null) expect(rows).toEqual([{ none: given === null }]);
    });
  });

  test('that are patterns', async () => {
    const part = fc.constantFrom(
      ...'()[]{}|*+?.^$\\-,0:=!<>'.split(''),
      'a',
      '1',
      '\\d',
      '\\b',
      '\\1',
      '(?=',
      '(?<n>',
      '{2,}',
      '{999999}',
      '[^',
      '\\u{1F388}',
      'ä',
    );
    await holds(fc.array(part, { maxLength: 12 }), async (parts) => {
      await ask(`select hartonomous.generate_regex('x', $1, 'tiny', '{"num_predict": 20}')`, [parts.join('')]);
    });
  });

  test('that are choices', async () => {
    await holds(fc.array(fc.oneof(text, fc.constant(null)), { maxLength: 5 }), async (choices) => {
      const rows = await ask(`select hartonomous.generate_choice('x', $1, 'tiny', '{"num_predict": 200}') as choice`, [
        choices,
      ]);
      if (rows !== null) expect(choices).toContain((rows[0] as { choice: string }).choice);
    });
  });
});

test('templates', async () => {
  const part = fc.constantFrom(
    ...[
      '{{',
      '}}',
      '{%',
      '%}',
      '{#',
      '#}',
      '{%-',
      '-%}',
      'for',
      'in',
      'endfor',
      'if',
      'else',
      'endif',
      'set',
      'macro',
      'endmacro',
    ],
    ...[
      'messages',
      'message',
      'loop',
      "['role']",
      '.content',
      'namespace',
      '(',
      ')',
      '|',
      'trim',
      'tojson',
      'join',
      '=',
      '==',
      '+',
      '~',
      '*',
    ],
    ...[
      'range(9)',
      '"x"',
      "'",
      '0',
      '99999',
      'not',
      'is defined',
      'raise_exception("no")',
      'strftime_now("%Y")',
      '[',
      ']',
      ',',
      ':',
      '\n',
      'ä',
    ],
    ...['{% for m in messages %}', '{{ m.content }}', '{% endfor %}', '{{ messages }}', '{{ bos_token }}'],
  );
  await holds(fc.array(part, { maxLength: 14 }), async (parts) => {
    const template = parts.join(' ');
    await ask(`select hartonomous.render_chat('[{"role": "user", "content": "x"}]', 'tiny', $1)`, [
      jsonb({ template }),
    ]);
  });
});

describe('texts, ids and numbers', () => {
  test('a text is its tokens put together, whatever it is', async () => {
    await holds(fc.tuple(text, fc.constantFrom('tiny', 'other')), async ([given, model]) => {
      const rows = await ask('select hartonomous.detokenize(hartonomous.tokenize($1, $2), $2) as back', [given, model]);
      // Half a surrogate is sent as U+FFFD.
      if (!/\p{Surrogate}/u.test(given)) expect(rows).toEqual([{ back: given }]);
    });
  });

  test('ids of tokens', async () => {
    await holds(fc.array(fc.oneof(fc.integer(), fc.nat(4000), fc.constant(null)), { maxLength: 8 }), async (ids) => {
      await ask(`select hartonomous.detokenize($1, 'tiny', true)`, [ids]);
      await ask(`select hartonomous.logits($1, 'tiny')`, [ids]);
    });
  });

  test('vectors and curves', async () => {
    const numbers = fc.array(fc.oneof(fc.float(), fc.constant(null)), { maxLength: 5 });
    await holds(
      fc.tuple(
        numbers,
        numbers,
        fc.array(fc.integer(), { maxLength: 9 }),
        fc.integer(),
        fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      ),
      async ([a, b, point, bits, index]) => {
        await ask('select hartonomous.dot_product($1, $2), hartonomous.cosine_similarity($1, $2)', [a, b]);
        await ask('select hartonomous.hilbert_encode($1, $2)', [point, bits]);
        await ask('select hartonomous.hilbert_decode($1, $2, $3)', [index, point[0] ?? 2, bits]);
      },
    );
  });

  test('names of models, tokens, sessions and runs', async () => {
    // A name stands in the message as it is, a line break of its own included.
    const name = text.map((value) => value.replace(/[\n\r]/g, ''));
    await holds(fc.tuple(name, fc.maxSafeInteger(), fc.integer()), async ([given, id, step]) => {
      await ask(`select hartonomous.generate('x', $1)`, [given]);
      await ask('select hartonomous.show_model($1)', [given]);
      await ask('select * from hartonomous.nearest_tokens($1, $2, $3)', [given, step % 50, 'tiny']);
      await ask('select * from hartonomous.next_tokens($1, $2)', [id, step]);
      await ask('select hartonomous.explain($1, $2)', [id, step]);
    });
  });
});

describe('statements of the command query', () => {
  const part = fc.constantFrom(
    ...[
      'insert into kept values (9)',
      'update kept set id = id + 10',
      'delete from kept',
      'truncate kept',
      'drop table kept',
      'commit',
      'rollback',
    ],
    ...[
      'create table other (id integer)',
      'alter table kept add x integer',
      `select nextval('counted')`,
      'select * from kept for update',
    ],
    ...[
      'set transaction read write',
      'set session characteristics as transaction read write',
      'begin read write',
      'reset all',
    ],
    ...[
      `select set_config('transaction_read_only', 'off', false)`,
      `do $$ begin set transaction read write; delete from kept; end $$`,
    ],
    ...[
      `do $$ begin commit; delete from kept; commit; end $$`,
      'with gone as (delete from kept returning id) select * from gone',
    ],
    ...[
      'explain analyze delete from kept',
      'copy kept from stdin',
      'prepare transaction $$x$$',
      'select 1',
      'lock table kept',
      'vacuum kept',
    ],
    ...[
      `select hartonomous.remove_model('tiny')`,
      `select hartonomous.complete('x', 'tiny', '{"num_predict": 1, "record": true}')`,
    ],
    ...[';', '; ', '--', '/*', '*/', '$$', "'", '\n'],
  );
  test('change nothing, one or several', async () => {
    const state = async (): Promise<unknown> =>
      (
        await database.pool.query(
          `select (select array_agg(id order by id) from kept) as ids, (select is_called from counted) as called,
             (select count(*) from pg_class where relnamespace = 'public'::regnamespace) as tables,
             (select count(*) from hartonomous.model_list) as models, (select count(*) from hartonomous.run_list) as runs`,
        )
      ).rows;
    const before = await state();
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
        const own = new pg.Client({ connectionString: database.url });
        own.on('error', () => undefined);
        await own.connect();
        try {
          await own.query(`set statement_timeout = ${HANG_MS}`);
          await queryOnce(own, { databaseUrl: database.url }, parts.join(' '), false);
        } catch (error) {
          expect((error as pg.DatabaseError).code).toMatch(/^(0A|22|25|2D|42|55|57014)/);
        } finally {
          await own.end();
        }
        expect(await state()).toEqual(before);
      }),
      settings,
    );
  });
});

describe('bodies of requests', () => {
  const MESSAGES = [{ role: 'user', content: 'hello' }];
  const ROUTES: Record<string, Record<string, unknown>> = {
    '/v1/chat/completions': { model: 'tiny', messages: MESSAGES, max_tokens: 1, stream: false },
    '/v1/completions': { model: 'tiny', prompt: 'x', max_tokens: 1, stream: false },
    '/v1/embeddings': { model: 'tiny', input: 'x' },
    '/api/chat': { model: 'tiny', messages: MESSAGES, stream: false, options: { num_predict: 1 } },
    '/api/generate': { model: 'tiny', prompt: 'x', stream: false, options: { num_predict: 1 } },
    '/api/embed': { model: 'tiny', input: 'x', options: {} },
    '/api/show': { model: 'tiny' },
  };
  test.each(Object.entries(ROUTES))('of %s', async (path, valid) => {
    const names = fc.constantFrom(
      ...Object.keys(valid),
      ...OPTION_NAMES,
      'stream',
      'format',
      'keep_alive',
      'tool_choice',
      'n',
    );
    const changed = fc
      .dictionary(names, anything, { minKeys: 1, maxKeys: 3, noNullPrototype: true })
      .map((fields) => JSON.stringify({ ...valid, ...fields }));
    const damaged = fc
      .tuple(fc.nat(), fc.nat(8), fc.string({ unit: 'binary', maxLength: 4 }))
      .map(([at, length, put]) => {
        const whole = JSON.stringify(valid);
        const from = at % whole.length;
        return whole.slice(0, from) + put + whole.slice(from + length);
      });
    await holds(fc.oneof(changed, damaged, anything.map(jsonb)), async (body) => {
      const response = await fetch(server.url + path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body,
        signal: AbortSignal.timeout(HANG_MS),
      });
      const answer = await response.text();
      if (response.ok) return;
      expect([400, 404, 413, 422], answer).toContain(response.status);
      const { error } = JSON.parse(answer) as { error: string | { message: string } };
      const message = typeof error === 'string' ? error : error.message;
      expect(message).toMatch(/\S/);
      expect(message).not.toMatch(/\n|\bat .*:\d+:\d+/);
    });
  });
});
