/**
 * What a client sees of an error is the same on every LANGUAGE plv8: SQLSTATE, message, detail, hint and a short context.
 * PL/V8 gets there another way than our own host, so on that everything is asked for a second time in its portable mode.
 */
import { build } from 'esbuild';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import { SQLSTATE } from '../../plv8/src/errors.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** The line of the function that was called, and none of the bundle. */
const CONTEXT =
  /^_?[a-z_]+\(\) LINE 6: try \{ return h\.[a-zA-Z]+\([^\n]{0,120}\); \} catch \(error\) \{ throw error; \} ?$/;

const LATE_MS = 50;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  await database.pool.query(`select hartonomous.set_default_model('qwen')`);
  await database.pool.query(await raiser());
  await database.pool.query(await teller());
});

afterAll(async () => {
  await database.drop();
});

/** A part of the bundle as a script that defines `part`. */
async function partOf(exports: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: exports, resolveDir: packageRoot(), loader: 'ts' },
    bundle: true,
    format: 'iife',
    globalName: 'part',
    target: 'node18',
    write: false,
  });
  return outputFiles[0]!.text;
}

/** A function that raises what it is told, through the class of the bundle. */
async function raiser(): Promise<string> {
  return `create function public.raise_any(state text, message text, detail text, hint text) returns text language plv8 as $raiser$
    ${await partOf(`export { raise } from './plv8/src/errors.ts'`)}
    return part.raise(state, message, { detail: detail ?? undefined, hint: hint ?? undefined });
  $raiser$`;
}

/** A function that sends the client lines of both kinds. Before each it computes for longer than the timeout of the test. */
async function teller(): Promise<string> {
  return `create function public.tell_late(heard boolean) returns text language plv8 as $teller$
    ${await partOf(`export { notice, logEvent } from './plv8/src/db.ts'`)}
    for (const from = Date.now(); Date.now() - from < ${3 * LATE_MS}; );
    if (heard) part.notice('late');
    else part.logEvent('late', {});
    return 'told';
  $teller$`;
}

interface Case {
  sql: string;
  code: string;
  message: string;
  detail?: string;
  hint?: string;
}

const CASES: Case[] = [
  {
    sql: `select hartonomous.generate('x', 'nobody')`,
    code: '42704',
    message: 'model nobody does not exist',
    hint: 'models here: bert, qwen',
  },
  {
    sql: `select hartonomous.tokenize('x', 'nobody')`,
    code: '42704',
    message: 'model nobody does not exist',
    hint: 'models here: bert, qwen',
  },
  {
    sql: `select hartonomous.set_default_model('nobody')`,
    code: '42704',
    message: 'model nobody does not exist',
    hint: 'models here: bert, qwen',
  },
  {
    sql: `select hartonomous.generate('x', 'bert')`,
    code: '0A000',
    message: 'a model of architecture bert reads text and writes none',
    hint: 'use it with hartonomous.embed',
  },
  {
    sql: `select hartonomous.generate('x', options => '{"temperature": -1}')`,
    code: '22023',
    message: 'option temperature must be a number between 0 and 100, got -1',
  },
  {
    sql: `select hartonomous.logits(array[1, null, 3])`,
    code: '22023',
    message: 'token 2 is null, the vocabulary has ids 0 to 511',
  },
  {
    sql: `select hartonomous.logits('{}')`,
    code: '22023',
    message: 'logits needs at least one token',
  },
  {
    sql: `select hartonomous.token_count(repeat('a b ', 2100000))`,
    code: '54000',
    message: 'text has 8400000 characters, at most 8388608 are read',
  },
  {
    sql: `select hartonomous.detokenize(array[100000])`,
    code: '22023',
    message: 'token 1 is 100000, the vocabulary has ids 0 to 511',
  },
  {
    sql: `select hartonomous.dot_product(array[1, 2, 3]::real[], array[1, 2]::real[])`,
    code: '22023',
    message: 'different vector dimensions 3 and 2',
  },
  {
    sql: `select hartonomous.cosine_similarity(array[1, null]::real[], array[1, 2]::real[])`,
    code: '22023',
    message: 'vector element 2 is null',
  },
  {
    sql: `select hartonomous.generate_choice('x', array['a', null])`,
    code: '22023',
    message: 'choice 2 is null',
  },
  {
    sql: `select hartonomous.generate_choice('x', '{}')`,
    code: '22023',
    message: 'choices must not be empty',
  },
  {
    sql: `select * from hartonomous.next_tokens(pg_backend_pid(), 1)`,
    code: '42704',
    message: 'session N does not exist',
    hint: 'it was closed, it belongs to another role, or nobody used it for as long as the setting session_idle_seconds says',
  },
  {
    sql: `select * from hartonomous.next_tokens(12345, 0)`,
    code: '22023',
    message: 'n must be between 1 and 100000, got 0',
  },
  {
    sql: `select hartonomous.explain(4711, 0)`,
    code: '42704',
    message: 'run 4711 does not exist',
    hint: 'runs you may see: hartonomous.run_list',
  },
  {
    sql: `select hartonomous.explain(9223372036854775807, 0)`,
    code: '42704',
    message: 'run 9223372036854776000 does not exist',
    hint: 'runs you may see: hartonomous.run_list',
  },
  {
    // Cut within a character: PL/V8 would send half of it, which is no UTF-8, and our own host no message at all.
    sql: `select hartonomous.generate('x', 'a' || repeat('\u{1f600}', 150))`,
    code: '42704',
    message: `model a${'\u{1f600}'.repeat(65)}\ufffd...\ufffd${'\u{1f600}'.repeat(32)} does not exist`,
    hint: 'models here: bert, qwen',
  },
  {
    // V8 quotes the first half of the character that it did not expect; 11 adds the text around it, which is taken off.
    sql: `select hartonomous.chat('\u{1f600}')`,
    code: '22P02',
    message: 'invalid input syntax for type json',
    detail: expect.stringMatching(/^Unexpected token (?:\ufffd in JSON at position 0|'\ufffd')$/),
  },
  {
    sql: `select hartonomous.close_session(1)`,
    code: '42704',
    message: 'session N is not in this backend N, it was opened in backend 1',
    hint: 'a session lives in the connection that opened it; a pooler has to keep that connection (session pooling)',
  },
  {
    sql: `select * from hartonomous.nearest_tokens('the', 0)`,
    code: '22023',
    message: 'k must be 1 to 1000, got 0',
  },
  {
    sql: `select * from hartonomous.nearest_tokens('the', 3, method => 'guess')`,
    code: '22023',
    message: 'method guess is not known, methods are exact and hilbert',
  },
  {
    sql: `select * from hartonomous.generate(array['ok', repeat('long ', 2000)], options => '{"raw": true, "num_predict": 1, "num_ctx": 64}')`,
    code: '54000',
    message: 'prompt 2: prompt has N tokens, the context holds 64',
    hint: 'shorten the prompt or raise option num_ctx',
  },
];

const rule = (sql: string, message: string, code = '22023'): Case => ({ sql, code, message });

CASES.push(
  rule(
    `select hartonomous.generate('x', options => '{"num_predict": "many"}')`,
    'option num_predict must be an integer between -1 and 2147483647, got "many"',
  ),
  rule(`select hartonomous.generate('x', options => '[1]')`, 'options must be a JSON object, got [1]'),
  rule(
    `select hartonomous.generate('x', options => '{"stop": [1]}')`,
    'option stop must be a string or an array of strings, got [1]',
  ),
  rule(
    `select hartonomous.generate('x', options => '{"template": "{{ raise_exception(''no'') }}"}')`,
    'chat template refuses the messages: no',
  ),
  rule(
    `select hartonomous.generate('x', options => '{"template": "{% for %}"}')`,
    'chat template is not valid: expected a name, got "%}"',
  ),
  rule(
    `select hartonomous.generate_json('x', '{"type": "number", "multipleOf": "no"}'::text)`,
    'schema at #: multipleOf must be a number greater than 0, got "no"',
  ),
  rule(
    `select hartonomous.generate_json('x', '{"const": "\\u0000"}'::text)`,
    'JSON cannot be read: a string holds \\u0000 or half a surrogate pair, which is no text',
    '22P05',
  ),
  rule(
    `select hartonomous.generate_regex('x', '(')`,
    'pattern is not valid: Invalid regular expression: /(/u: Unterminated group',
  ),
  rule(
    `select hartonomous.generate_grammar('x', 'root = "a"')`,
    'grammar line 1: expected ::= after root, got "= \\"a\\""',
  ),
  rule(`select hartonomous.chat('[{"role": "user"}]'::json)`, 'message 1 must have a content, a text'),
  rule(`select hartonomous.chat('[]'::json)`, 'messages must hold at least one message, got none'),
  rule(`select hartonomous.open_session('{"a": 1}'::json)`, 'messages must be a JSON array, got object'),
  rule(
    `select hartonomous.embed('x', 'bert', options => '{"dimensions": -1}')`,
    'option dimensions must be a positive integer, got -1',
  ),
  rule(
    `select hartonomous.embed('x', 'bert', options => '{"kind": "poem"}')`,
    'option kind must be one of query, document, got "poem"',
  ),
  rule(`select * from hartonomous.classify('x', array['a', 'a'])`, 'label 2 is the same as label 1'),
  rule(
    `select * from hartonomous.chunk('x', options => '{"size": 0}')`,
    'option size must be a whole number of at least 1, got 0',
  ),
  rule(`select hartonomous.hilbert_encode(array[1, 2, 300], 4)`, 'hilbert coordinate 3 is 300, 4 bits hold 0 to 15'),
  rule(`select hartonomous.hilbert_decode(-1, 2, 8)`, 'hilbert index -1 is outside 0 to 65535'),
);

/** The tokenizer and the backend decide these numbers. */
const plain = (text: string): string =>
  text.replace(/prompt has \d+ tokens|^session \d+|this backend \d+/g, (found) => found.replace(/\d+/, 'N'));

const WAYS: [string, string][] = [['as it is', '']];
if (inject('language') === 'own') WAYS.push(['in the portable mode', '-c hartonomous_v8.portable=on']);

describe.each(WAYS)('%s', (_way, options) => {
  let client: pg.Client;
  beforeAll(async () => {
    client = new pg.Client({ connectionString: database.url, options });
    await client.connect();
  });
  afterAll(async () => {
    await client.end();
  });

  async function errorOf(sql: string, parameters: unknown[] = []): Promise<pg.DatabaseError> {
    try {
      await client.query(sql, parameters);
    } catch (error) {
      return error as pg.DatabaseError;
    }
    throw new Error(`no error: ${sql}`);
  }

  test.each(CASES)('$sql', async ({ sql, code, message, detail, hint }) => {
    const error = await errorOf(sql);
    expect({ code: error.code, message: plain(error.message), detail: error.detail, hint: error.hint }).toEqual({
      code,
      message,
      detail,
      hint,
    });
    expect(error.where?.split('\n')[0]).toMatch(CONTEXT);
    expect(error.where!.length).toBeLessThan(400);
  });

  test.each(Object.entries(SQLSTATE))('%s arrives as %s, with all that belongs to it', async (_name, state) => {
    for (const [detail, hint] of [
      ['the detail', 'the hint'],
      [null, 'the hint'],
      ['the detail', null],
      [null, null],
    ]) {
      const error = await errorOf('select public.raise_any($1, $2, $3, $4)', [state, `Error: ${state}`, detail, hint]);
      expect([error.code, error.message, error.detail ?? null, error.hint ?? null]).toEqual([
        state,
        `Error: ${state}`,
        detail,
        hint,
      ]);
    }
  });

  test('a condition by its name catches it, also through functions in other languages', async () => {
    const notices: string[] = [];
    client.on('notice', ({ message }) => notices.push(message ?? ''));
    await client.query(`do $$
      begin
        perform hartonomous.generate('x', 'nobody');
      exception when undefined_object then
        raise notice '% %', sqlstate, sqlerrm;
      end $$`);
    await client.query(`do $$
      begin
        perform hartonomous.dot_product(array[1]::real[], array[1, 2]::real[]);
      exception when invalid_parameter_value then
        raise notice '% %', sqlstate, sqlerrm;
      end $$`);
    expect(notices).toEqual(['42704 model nobody does not exist', '22023 different vector dimensions 1 and 2']);
  });

  test("an error of a statement of ours is that statement's", async () => {
    await client.query('begin read only');
    const error = await errorOf(`select hartonomous.set_default_model('bert')`);
    await client.query('rollback');
    expect([error.code, error.message]).toEqual(['25006', 'cannot execute INSERT in a read-only transaction']);
  });

  test.each([true, false])(
    'a timeout that waits while a line is sent is an error as ever (notice: %s)',
    async (heard) => {
      await client.query('set client_min_messages = debug1');
      expect((await client.query('select public.tell_late($1) as told', [heard])).rows).toEqual([{ told: 'told' }]);
      await client.query(`set statement_timeout = ${LATE_MS}`);
      const error = await errorOf('select public.tell_late($1)', [heard]);
      await client.query('reset statement_timeout; reset client_min_messages');
      expect([error.code, error.message]).toEqual(['57014', 'canceling statement due to statement timeout']);
      // Frames that such an error jumped over would end the server when garbage is collected.
      const garbage = `select sum(hartonomous.token_count(repeat('some words ', 2000), 'qwen')) > 0 as counted from generate_series(1, 8)`;
      expect((await client.query(garbage)).rows).toEqual([{ counted: true }]);
    },
  );

  test('a type error of JavaScript is an internal error, and names its kind', async () => {
    await client.query(`create or replace function pg_temp.wrong() returns text language plv8 as $$ return null.x $$`);
    const error = await errorOf('select pg_temp.wrong()');
    expect([error.code, error.message]).toEqual(['XX000', expect.stringMatching(/^TypeError: /)]);
  });
});
