/** Calls of tools in SQL: the forms of families by their own templates, tool_choice, results, errors by name. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectAs, createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';
import { FAMILIES, PLAIN_TOOLS, short, TOOLS, WEATHER } from './tool-families.ts';

const TINY = new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url).pathname;
const ASK = [{ role: 'user', content: 'hello' }];
const role = roleName('caller');

const BY_NAME = { type: 'function', function: { name: 'get_weather' } };

interface Called {
  id: string;
  type: string;
  function: { name: string; arguments: Record<string, unknown> };
}
interface Chat {
  message: { content: string; thinking?: string; tool_calls?: Called[] };
  done_reason: string;
  run_id?: number;
}

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

async function chat(options: object, messages: object[] = ASK): Promise<Chat> {
  const { rows } = await client.query<{ answer: Chat }>('select hartonomous.chat($1::json, $2, $3) as answer', [
    JSON.stringify(messages),
    'tiny',
    JSON.stringify({ num_predict: 100, seed: 1, tools: TOOLS, ...options }),
  ]);
  return rows[0]!.answer;
}

async function render(options: object, messages: object[]): Promise<string> {
  const { rows } = await client.query<{ text: string }>('select hartonomous.render_chat($1, $2, $3) as text', [
    JSON.stringify(messages),
    'tiny',
    JSON.stringify(options),
  ]);
  return rows[0]!.text;
}

/** A conversation in which a tool was called, and what came of it. */
const CALLED = [
  { role: 'user', content: 'Weather in Oslo?' },
  {
    role: 'assistant',
    content: null,
    tool_calls: [{ type: 'function', function: { name: 'get_weather', arguments: '{"city": "Oslo", "days": 1}' } }],
  },
  { role: 'tool', content: 'Snow!' },
];

const valid = new Ajv({ strict: false }).compile(WEATHER);

function check(call: Called): void {
  expect(call).toMatchObject({ id: expect.stringMatching(/^[0-9a-z]{9}$/) as string, type: 'function' });
  if (call.function.name === 'now') expect(call.function.arguments).toEqual({});
  else {
    expect(call.function.name).toBe('get_weather');
    expect(valid(call.function.arguments), JSON.stringify(call.function.arguments)).toBe(true);
  }
}

describe.each(Object.entries(FAMILIES))('%s', (_, { template, begins }) => {
  test('a required call has arguments that are valid, in the form of the family', async () => {
    for (const temperature of [0, 1.5]) {
      const options = {
        template: short(template()),
        tools: PLAIN_TOOLS,
        temperature,
        tool_choice: 'required',
        record: true,
      };
      const { message, done_reason: reason, run_id: run } = await chat(options);
      expect(message).toMatchObject({ role: 'assistant', content: '' });
      expect(message.tool_calls!.length).toBeGreaterThan(0);
      message.tool_calls!.forEach(check);
      expect(reason).toBe('stop');
      const { rows } = await client.query<{ text: string }>(
        "select string_agg(text, '' order by position) as text from hartonomous.run_token_list where run_id = $1 and not is_prompt",
        [run],
      );
      expect(rows[0]!.text.replace(/^\s*<think>[^]*<\/think>/, '')).toMatch(begins);
    }
  });

  test('a session gives the same call in pieces', async () => {
    const options = {
      template: short(template()),
      tools: PLAIN_TOOLS,
      temperature: 1.5,
      tool_choice: BY_NAME,
      num_predict: 100,
      seed: 3,
    };
    const { rows: opened } = await client.query<{ id: string }>(
      'select hartonomous.open_session($1::json, $2, $3) as id',
      [JSON.stringify(ASK), 'tiny', JSON.stringify(options)],
    );
    const { rows } = await client.query<{
      token: string;
      tool_calls: { index: number; id?: string; function: { name?: string; arguments: string } }[] | null;
    }>('select token, tool_calls from hartonomous.next_tokens($1, 1000)', [opened[0]!.id]);
    const pieces = rows.flatMap(({ tool_calls: calls }) => calls ?? []);
    const { rows: closed } = await client.query<{ facts: { text: string; tool_calls: Called[] } }>(
      'select hartonomous.close_session($1) as facts',
      [opened[0]!.id],
    );
    const [call] = closed[0]!.facts.tool_calls;
    expect(closed[0]!.facts).toMatchObject({ text: '', tool_calls: [call], done_reason: 'stop' });
    check(call!);
    expect(call!.function.name).toBe('get_weather');
    expect(rows.map(({ token }) => token).join('')).toBe('');
    expect(pieces[0]).toEqual({
      index: 0,
      id: call!.id,
      type: 'function',
      function: { name: 'get_weather', arguments: '' },
    });
    expect(pieces.every(({ index }) => index === 0)).toBe(true);
    expect(JSON.parse(pieces.map((piece) => piece.function.arguments).join(''))).toEqual(call!.function.arguments);
    expect((await chat({ ...options, seed: 3 })).message.tool_calls).toEqual([call]);
  });

  test('shows tools, calls and results', async () => {
    const shown = await render({ template: template(), tools: PLAIN_TOOLS.slice(0, 1) }, CALLED);
    expect(shown).toContain('get_weather');
    if (shown.includes('Oslo?')) {
      if (!template().includes("message['tools']") && !template().includes('func_name1'))
        expect(shown).toContain('Snow!');
    }
  });
});

test('arguments keep digits that a double does not hold', async () => {
  const parameters =
    '{"type": "object", "properties": {"id": {"enum": [175928847299117063]}, "at": {"const": 1.0}}, "required": ["id", "at"]}';
  const options = `{"tools": [{"name": "f", "parameters": ${parameters}}], "tool_choice": "required", "parallel_tool_calls": false}`;
  const text = async (call: string, given: unknown[]): Promise<string> => {
    const { rows } = await client.query<{ text: string }>(`select ${call}::text as text`, given);
    return rows[0]!.text.replaceAll(' ', '');
  };
  const asked = [JSON.stringify(ASK), options];
  const called = '"arguments":{"id":175928847299117063,"at":1.0}';
  expect(await text(`hartonomous.chat($1, 'tiny', $2)`, asked)).toContain(called);
  const session = await text(`hartonomous.open_session($1, 'tiny', $2)`, asked);
  await text('(select count(*) from hartonomous.next_tokens($1, 1000))', [session]);
  expect(await text('hartonomous.close_session($1)', [session])).toContain(called);
});

/** Options with which the model begins a call, since it likes the mark's first token, and the answer has another first character. */
async function beginningCall(): Promise<object> {
  const { rows } = await client.query<{ first: number }>(
    "select (hartonomous.tokenize('<tool_call>', 'tiny'))[1] as first",
  );
  return { response_format: { type: 'json_schema', schema: { const: 'yes' } }, logit_bias: { [rows[0]!.first]: 100 } };
}

test.each<[object, boolean]>([
  [{ type: 'object', properties: {} }, true],
  [{ type: 'object', properties: {}, title: 'Nothing', required: [] }, true],
  [{ properties: {}, required: ['a'] }, false],
  [{ properties: {}, minProperties: 1 }, false],
])('parameters that list no members take nothing, or what else they say: %j', async (parameters, nothing) => {
  const tools = [{ function: { name: 'f', parameters } }];
  const { message } = await chat({ tools, tool_choice: 'required', parallel_tool_calls: false, temperature: 1.5 });
  const given = message.tool_calls![0]!.function.arguments;
  expect(new Ajv({ strict: false }).validate(parameters, given), JSON.stringify(given)).toBe(true);
  expect(Object.keys(given).length === 0).toBe(nothing);
});

describe('tool_choice', () => {
  test('none shows no tools and calls none', async () => {
    const none = await chat({ tool_choice: 'none', temperature: 0 });
    expect(none.message).toEqual((await chat({ tools: null, temperature: 0 })).message);
    expect(none.message.content).toBe('Hello! How can I help you?');
  });

  test('auto leaves text as it is where the model calls nothing', async () => {
    const { rows } = await database.pool.query<{ own: string }>('select chat_template as own from hartonomous.models');
    const template = `{% if tools %}{% endif %}${rows[0]!.own}`;
    for (const choice of [{}, { tool_choice: 'auto' }]) {
      const { message } = await chat({ template, temperature: 0, ...choice });
      expect(message).toEqual((await chat({ template, tools: null, temperature: 0 })).message);
      expect(message).not.toHaveProperty('tool_calls');
    }
    // A stop string and a form of the answer hold for text beside tools.
    expect((await chat({ template, temperature: 0, stop: ' can' })).message.content).toBe('Hello! How');
    const { message } = await chat({
      template,
      response_format: { type: 'json_schema', schema: { const: 'yes' } },
      logit_bias: {},
    });
    expect(message).not.toHaveProperty('tool_calls');
    expect(JSON.parse(message.content!)).toBe('yes');
  });

  test('auto leaves valid arguments where the model begins a call', async () => {
    for (const seed of [1, 2, 3]) {
      const options = { tools: PLAIN_TOOLS, tool_choice: 'auto', temperature: 1.5, seed, ...(await beginningCall()) };
      const { message } = await chat(options);
      expect(message.content).toBe('');
      message.tool_calls!.forEach(check);
    }
  });

  test('by name calls that tool once, with parallel_tool_calls off one of any', async () => {
    for (let seed = 0; seed < 3; seed++) {
      const named = (await chat({ tool_choice: BY_NAME, temperature: 2, seed })).message.tool_calls!;
      expect(named.map((call) => call.function.name)).toEqual(['get_weather']);
      named.forEach(check);
      const one = (await chat({ tool_choice: 'required', parallel_tool_calls: false, temperature: 2, seed })).message;
      expect(one.tool_calls).toHaveLength(1);
    }
  });

  test('a call is complete within the tokens that may be written, or refused with both numbers', async () => {
    await expect(chat({ tool_choice: BY_NAME, num_predict: 5 })).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(/^tool call needs at least \d+ tokens, 5 may be written$/) as string,
    });
    check((await chat({ tool_choice: BY_NAME, num_predict: 60, temperature: 2 })).message.tool_calls![0]!);
  });

  test('a stop string ends no call that has to be made', async () => {
    const { message } = await chat({ tool_choice: BY_NAME, temperature: 1.5, stop: ['<', '{', '\n', 'tool'] });
    message.tool_calls!.forEach(check);
    expect(message.tool_calls).toHaveLength(1);
  });

  test('a call after thinking', async () => {
    const template = `{{ messages[0].content }}{{ tools[0].function.name }}<think>`;
    const { message } = await chat({ template, tool_choice: 'required', num_predict: 120, temperature: 1 });
    message.tool_calls!.forEach(check);
    expect(message.thinking ?? '').not.toContain('</think>');
    // The mark that begins a call is text where the model still thinks.
    expect(message.content).toBe('');
  });
});

test('arguments of a call that nest too deep for a template are refused', async () => {
  for (const [levels, refused] of [
    [200, false],
    [201, true],
    [9000, true],
  ] as const) {
    const call = { function: { name: 'f', arguments: '['.repeat(levels) + ']'.repeat(levels) } };
    const rendered = render({ template: '{{ messages | tojson }}' }, [{ role: 'assistant', tool_calls: [call] }]);
    if (refused)
      await expect(rendered).rejects.toThrow('message 1 has arguments of a tool call that nest deeper than 200');
    else expect(await rendered).toContain('"f"');
  }
});

describe('results of tools', () => {
  test('get the ids of the calls that they answer where a client sends none', async () => {
    const template = `{% for m in messages %}{{ m.role }}:{{ m.tool_call_id }}{{ m.name }}{% for c in m.tool_calls or [] %}{{ c.id }}{% endfor %};{% endfor %}{{ tools is none }}`;
    const call = { function: { name: 'now', arguments: {} } };
    const messages = [
      { role: 'assistant', content: '', tool_calls: [call, { ...call, id: 'abcdefghi' }] },
      { role: 'tool', tool_name: 'now', content: 'noon' },
      { role: 'tool', content: 'later' },
      { role: 'assistant', content: '', tool_calls: [call] },
      { role: 'tool', content: 'night', tool_call_id: 'mine' },
    ];
    expect(await render({ template }, messages)).toBe(
      'assistant:call00001abcdefghi;tool:call00001now;tool:abcdefghi;assistant:call00002;tool:mine;true'.replaceAll(
        'true',
        'True',
      ),
    );
  });

  test('a template that knows no tools is told of them in words', async () => {
    const template = '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}';
    const shown = await render({ template, tools: [TOOLS[1]] }, [{ role: 'system', content: 'Be brief.' }, ...CALLED]);
    expect(shown).toMatch(
      /^\[system\]Be brief\.\n\nYou may call these functions[^]*<tools>\n\{"name":"now"\}\n<\/tools>/,
    );
    expect(shown).toMatch(
      /\[user\]Weather in Oslo\?\[assistant\]<tool_call>\n\{"name":"get_weather","arguments":\{"city":"Oslo","days":1\}\}\n<\/tool_call>\[user\]<tool_response>\nSnow!\n<\/tool_response>$/,
    );
    expect(await render({ template }, CALLED.slice(0, 1))).toBe('[user]Weather in Oslo?');
  });
});

test.each<[object, string, string]>([
  [{ tools: [], tool_choice: 'required' }, '22023', 'option tool_choice is "required", and there are no tools'],
  [{ tools: null, tool_choice: BY_NAME }, '22023', 'and there are no tools'],
  [
    { tool_choice: { type: 'function', function: { name: 'later' } } },
    '22023',
    'option tool_choice names "later", which is not among the tools',
  ],
  [
    { tool_choice: 'always' },
    '22023',
    'option tool_choice must be none, auto, required or {"type": "function", "function": {"name": ...}}, got "always"',
  ],
  [{ tool_choice: { type: 'allowed_tools' } }, '22023', 'option tool_choice must be'],
  [{ parallel_tool_calls: 'no' }, '22023', 'option parallel_tool_calls must be true or false, got "no"'],
  [
    { tools: [{ type: 'function' }] },
    '22023',
    'tool 1 must be a function with a name of letters, digits, _, - and ., got none',
  ],
  [{ tools: [{ function: { name: 'two words' } }] }, '22023', 'got "two words"'],
  [{ tools: [TOOLS[1], TOOLS[1]] }, '22023', 'option tools has two tools of the name "now"'],
  [
    { tools: [{ function: { name: 'f', parameters: { type: 'string' } } }] },
    '22023',
    'tool f: parameters must be a schema of type object',
  ],
  [
    { tools: [{ function: { name: 'f', parameters: { type: 'object', properties: { a: { $dynamicRef: '#x' } } } } }] },
    '0A000',
    'tool f: schema keyword "$dynamicRef" at #/properties/a is not supported',
  ],
  [
    { template: '{{ tools }}[func_name1(', tools: [{ function: { name: 'f', parameters: { anyOf: [{}] } } }] },
    '0A000',
    'tool f: schema keyword "anyOf" at # is not supported where a model writes arguments one by one',
  ],
  [
    { tools: Array.from({ length: 129 }, (_, i) => ({ function: { name: `f${i}` } })) },
    '54000',
    'option tools has 129 tools, at most 128 are read',
  ],
])('refuses %j', async (options, code, message) => {
  await expect(chat(options)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
});

test('tool_choice is refused where no conversation is', async () => {
  for (const sql of [
    `hartonomous.generate('x', 'tiny', $1)`,
    `hartonomous.complete('x', 'tiny', $1)`,
    `(select text from hartonomous.generate(array['x'], 'tiny', $1))`,
    `hartonomous.open_session('"x"'::json, 'tiny', $1)`,
  ]) {
    const options = JSON.stringify({ tools: TOOLS, tool_choice: 'required' });
    await expect(client.query(`select ${sql}`, [options])).rejects.toThrow(
      'option tool_choice is for conversations: chat, and sessions over messages',
    );
  }
});

test('a recorded call can be explained', async () => {
  const { run_id: run } = await chat({ tool_choice: BY_NAME, temperature: 1, record: true });
  const { rows } = await client.query<{ cut_by: string | null }>(
    'select cut_by from hartonomous.explain_candidates($1, 0)',
    [run],
  );
  expect(rows.map((row) => row.cut_by)).toContain('constraint');
});

describe('the loop of docs/sql.md', () => {
  const ask = (): string => {
    const page = readFileSync(new URL('../../docs/sql.md', import.meta.url), 'utf8');
    return /^ {4}create function ask\([^]*?^ {4}\$\$;$/m.exec(page)![0];
  };

  test('calls functions that are listed with the rights of its caller', async () => {
    await database.pool.query(`
      create schema shop;
      grant usage, create on schema shop to ${role};
      create table shop.asked (number integer, express boolean, by name default current_user);
      grant select, insert on shop.asked to ${role};
      create function shop.order_status(number integer, express boolean default false) returns text language sql as
        $$ insert into shop.asked values ($1, $2) returning 'order ' || number || ' left on Monday' $$;
      comment on function shop.order_status is 'Where an order is';
      create function shop.refund(number integer) returns text language sql as $$ insert into shop.asked values (-1, null) returning 'refunded' $$;
      create function shop.secret() returns text language sql as $$ select 'x' $$;
      revoke execute on function shop.secret() from public`);
    await client.query('set search_path = shop');
    await client.query(ask());
    const called = async (allowed: string, choice = 'required'): Promise<string> => {
      const { rows } = await client.query<{ text: string }>(
        `select ask('Where is my order?', ${allowed}, $1) as text`,
        [choice],
      );
      return rows[0]!.text;
    };
    expect(typeof (await called(`array['shop.order_status(integer, boolean)'::regprocedure]`))).toBe('string');
    const { rows } = await database.pool.query<{ number: number; by: string }>('select * from shop.asked');
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.every(({ number, by }) => number !== -1 && by === role)).toBe(true);
    const { rows: prompts } = await client.query<{ text: string }>(
      'select prompt as text from hartonomous.run_text_list order by id desc limit 1',
    );
    expect(prompts[0]!.text).toContain('left on Monday');
    await expect(called(`array['shop.secret()'::regprocedure]`)).rejects.toMatchObject({
      code: '42501',
      message: 'permission denied for function secret',
    });
    await client.query('reset search_path');
  });
});
