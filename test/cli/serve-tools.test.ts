/** Calls of tools over HTTP, as the npm clients `openai` and `ollama` meet them. */
import { Ajv } from 'ajv';
import type { ChatResponse, Tool } from 'ollama';
import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { toolFamily } from '../../plv8/src/format/tool-families.ts';
import { FAMILIES, PLAIN_TOOLS, short } from '../db/tool-families.ts';
import { HELLO, useTinyServer } from './tiny-server.ts';

const TOOLS = PLAIN_TOOLS as OpenAI.ChatCompletionFunctionTool[];
const BY_NAME = { type: 'function' as const, function: { name: 'get_weather' } };
const REQUEST = { model: 'tiny', messages: HELLO, tools: TOOLS, temperature: 1.2, max_tokens: 120 };
/** The same as Ollama's client asks it. */
const HEARD = {
  model: 'tiny',
  messages: HELLO,
  tools: PLAIN_TOOLS as Tool[],
  options: { temperature: 1.2, seed: 1, num_predict: 120 },
};
const WEATHER = TOOLS[0]!.function.parameters as Record<string, unknown>;
const valid = new Ajv().compile(WEATHER);

const tiny = useTinyServer();

async function lastPrompt(): Promise<string> {
  const { rows } = await tiny.database.pool.query<{ prompt: string }>(
    `select hartonomous.detokenize(prompt_ids, 'tiny') as prompt from hartonomous.run_list order by id desc limit 1`,
  );
  return rows[0]!.prompt;
}

function check(name: string, given: unknown): void {
  if (name === 'now') expect(given).toEqual({});
  else {
    expect(name).toBe('get_weather');
    expect(valid(given), JSON.stringify(given)).toBe(true);
  }
}

/** Options with which the model likes a text's first token, while an answer that is no call has another first character. */
async function likely(
  text: string,
): Promise<Pick<OpenAI.ChatCompletionCreateParams, 'logit_bias' | 'response_format'>> {
  const { rows } = await tiny.database.pool.query<{ first: number }>(
    "select (hartonomous.tokenize($1, 'tiny'))[1] as first",
    [text],
  );
  return {
    logit_bias: { [rows[0]!.first]: 100 },
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { const: 'yes' } } },
  };
}

describe('the client of OpenAI', () => {
  test.each(['required' as const, BY_NAME])('tool_choice %j: whole and streamed to the same calls', async (choice) => {
    for (const seed of [1, 2]) {
      const request = { ...REQUEST, seed, tool_choice: choice };
      const whole = (await tiny.openai.chat.completions.create(request)).choices[0]!;
      expect(whole).toMatchObject({ finish_reason: 'tool_calls', message: { role: 'assistant', content: null } });
      const calls = whole.message.tool_calls!;
      expect(calls.length).toBeGreaterThan(0);
      for (const call of calls) {
        if (call.type !== 'function') throw new Error(call.type);
        expect(call.id).toMatch(/^\w{9}$/);
        check(call.function.name, JSON.parse(call.function.arguments));
      }
      if (choice !== 'required') expect(calls).toMatchObject([BY_NAME]);
      const stream = tiny.openai.chat.completions.stream(request);
      let pieces = 0;
      for await (const chunk of stream) {
        const here = chunk.choices[0]?.delta.tool_calls?.length ?? 0;
        // Instructor and others read one.
        expect(here).toBeLessThanOrEqual(1);
        pieces += here;
      }
      const streamed = (await stream.finalChatCompletion()).choices[0]!;
      expect(streamed.finish_reason).toBe('tool_calls');
      expect(streamed.message.tool_calls).toMatchObject(calls);
      // Arguments come while the model writes them.
      expect(pieces).toBeGreaterThan(2 * calls.length);
    }
  });

  test('a call is answered, and the model reads the result', async () => {
    const { message } = (await tiny.openai.chat.completions.create({ ...REQUEST, tool_choice: BY_NAME })).choices[0]!;
    const id = message.tool_calls![0]!.id;
    const next = await tiny.openai.chat.completions.create({
      ...REQUEST,
      tool_choice: 'none',
      messages: [...HELLO, message, { role: 'tool', tool_call_id: id, content: 'Snow, 3 below.' }],
    });
    expect(next.choices[0]!.message).not.toHaveProperty('tool_calls');
    expect(next.choices[0]!.finish_reason).toBe('stop');
    expect(await lastPrompt()).toContain('Snow, 3 below.');
  });

  test('its own loop runs the function with what the model wrote', async () => {
    const asked: unknown[] = [];
    const runner = tiny.openai.chat.completions.runTools({
      ...REQUEST,
      tool_choice: BY_NAME,
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: 'Weather of a city',
            parameters: WEATHER,
            parse: JSON.parse as (text: string) => object,
            function: (given: object) => {
              asked.push(given);
              return 'sunny';
            },
          },
        },
      ],
    });
    expect(await runner.finalFunctionToolCallResult()).toBe('sunny');
    expect(asked).toHaveLength(1);
    expect(valid(asked[0])).toBe(true);
  });

  test('parallel_tool_calls false is one call, none is none, auto leaves an answer as it is', async () => {
    for (const seed of [1, 2, 3]) {
      const one = await tiny.openai.chat.completions.create({
        ...REQUEST,
        seed,
        tool_choice: 'required',
        parallel_tool_calls: false,
      });
      expect(one.choices[0]!.message.tool_calls).toHaveLength(1);
    }
    const greedy = { ...REQUEST, temperature: 0 };
    const none = await tiny.openai.chat.completions.create({ ...greedy, tool_choice: 'none' });
    expect(none.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'Hello! How can I help you?' },
    });
    const auto = await tiny.openai.chat.completions.create({ ...greedy, max_tokens: 20, tool_choice: 'auto' });
    expect(auto.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'You can find PostgreSQL and its folder on disk.' },
    });
    expect(auto.choices[0]!.message).not.toHaveProperty('tool_calls');
  });

  test('auto is a call with valid arguments where the model begins one', async () => {
    const begun = { ...REQUEST, seed: 1, ...(await likely('<tool_call>')) };
    const { message } = (await tiny.openai.chat.completions.create(begun)).choices[0]!;
    expect(message.content).toBeNull();
    for (const call of message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[])
      check(call.function.name, JSON.parse(call.function.arguments));
  });

  test('arguments keep the order of the schema, with names that JavaScript would sort', async () => {
    const parameters = `{"type": "object", "properties": {"b": {"const": 1}, "2": {"const": 2}, "1": {"const": 3}}, "required": ["b", "2", "1"]}`;
    const response = await fetch(`${tiny.server.url}/v1/chat/completions`, {
      method: 'POST',
      body: `{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "tool_choice": "required", "parallel_tool_calls": false,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": ${parameters}}}]}`,
    });
    const { choices } = (await response.json()) as OpenAI.ChatCompletion;
    const [call] = choices[0]!.message.tool_calls!;
    expect((call as { function: { arguments: string } }).function.arguments.replaceAll(' ', '')).toBe(
      '{"b":1,"2":2,"1":3}',
    );
  });

  test('arguments keep digits that a double does not hold, in both protocols, whole and streamed', async () => {
    const tools = `[{"type": "function", "function": {"name": "f", "parameters":
      {"type": "object", "properties": {"id": {"enum": [175928847299117063]}, "at": {"const": 1.0}}, "required": ["id", "at"]}}}]`;
    const common = `"model": "tiny", "messages": [{"role": "user", "content": "x"}], "tool_choice": "required", "parallel_tool_calls": false`;
    for (const [path, stream] of [
      ['/v1/chat/completions', false],
      ['/api/chat', false],
      ['/api/chat', true],
    ] as const) {
      const response = await fetch(tiny.server.url + path, {
        method: 'POST',
        body: `{${common}, "stream": ${stream}, "tools": ${tools}}`,
      });
      expect(response.headers.get('content-type')).toMatch(stream ? 'application/x-ndjson' : 'application/json');
      const text = (await response.text()).replaceAll(/[\\ ]/g, '');
      expect(text, `${path} ${stream}`).toContain('{"id":175928847299117063,"at":1.0}');
    }
  });

  test.each([
    [{ tool_choice: 'required', tools: [] }, 'option tool_choice is "required", and there are no tools'],
    [
      { tool_choice: { type: 'function', function: { name: 'later' } } },
      'option tool_choice names "later", which is not among the tools',
    ],
    [{ tool_choice: 'always' }, 'option tool_choice must be none, auto, required or'],
    [{ parallel_tool_calls: 'no' }, 'option parallel_tool_calls must be true or false, got "no"'],
    [{ tools: [{ type: 'function' }] }, 'tool 1 must be a function with a name'],
    [{ tool_choice: 'required', max_tokens: 3 }, 'tokens, 3 may be written'],
  ])('%j is refused', async (change, message) => {
    const request = { ...REQUEST, ...change } as OpenAI.ChatCompletionCreateParamsNonStreaming;
    await expect(tiny.openai.chat.completions.create(request)).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining(message) as string,
    });
    const { max_tokens: most, ...rest } = { ...REQUEST, ...change } as typeof REQUEST;
    const heard = { ...rest, options: { num_predict: most } } as object as Parameters<typeof tiny.ollama.chat>[0];
    await expect(tiny.ollama.chat({ ...heard, stream: false })).rejects.toMatchObject({
      status_code: 400,
      message: expect.stringContaining(message) as string,
    });
  });
});

describe('a grammar', () => {
  const SUM = { grammar: 'root ::= "the sum is " [0-9]{2} "!"' };
  const WRONG = { grammar: 'root ::= nobody' };

  test.each([
    ['/v1/chat/completions', (grammar: object) => ({ messages: HELLO, ...grammar })],
    ['/v1/completions', (grammar: object) => ({ prompt: 'hello', ...grammar })],
    ['/api/chat', (options: object) => ({ messages: HELLO, options })],
    ['/api/generate', (options: object) => ({ prompt: 'hello', options })],
  ])('is followed at %s, whole and streamed', async (path, body) => {
    const ask = (grammar: object, stream: boolean): Promise<Response> =>
      fetch(tiny.server.url + path, {
        method: 'POST',
        body: JSON.stringify({ model: 'tiny', stream, ...body(grammar) }),
      });
    const whole = await (await ask(SUM, false)).text();
    expect(whole).toMatch(/"(?:content|text|response)":"the sum is \d\d!"/);
    const pieces = (await (await ask(SUM, true)).text()).matchAll(/"(?:content|text|response)":"([^"]*)"/g);
    expect([...pieces].map(([, piece]) => piece).join('')).toMatch(/^the sum is \d\d!$/);
    for (const stream of [false, true]) {
      const refused = await ask(WRONG, stream);
      expect(refused.status).toBe(400);
      expect(await refused.text()).toContain('grammar line 1: there is no rule nobody');
    }
  });
});

test.each(Object.entries(FAMILIES))('%s: calls, whole and streamed, by either client', async (_, { template }) => {
  const set = (text: string): Promise<unknown> =>
    tiny.database.pool.query('update hartonomous.models set chat_template = $1', [text]);
  const { rows } = await tiny.database.pool.query<{ own: string }>(
    'select chat_template as own from hartonomous.models',
  );
  await set(short(template()));
  try {
    const request = { ...REQUEST, seed: 1, tool_choice: 'required' as const };
    const whole = (await tiny.openai.chat.completions.create(request)).choices[0]!;
    const streamed = (await tiny.openai.chat.completions.stream(request).finalChatCompletion()).choices[0]!;
    expect([whole.finish_reason, streamed.finish_reason]).toEqual(['tool_calls', 'tool_calls']);
    expect(streamed.message.tool_calls).toMatchObject(whole.message.tool_calls!);
    // Its types know no tool_choice, which goes along all the same.
    const asked = { ...HEARD, options: { ...HEARD.options, repeat_penalty: 1.1 }, tool_choice: 'required' };
    const native = await tiny.ollama.chat({ ...asked, stream: false });
    const given = native.message.tool_calls!.map(({ function: { name, arguments: given } }) => ({ name, given }));
    for (const { name, given: value } of given) check(name, value);
    const lines: ChatResponse[] = [];
    for await (const line of await tiny.ollama.chat({ ...asked, stream: true })) lines.push(line);
    expect(lines.flatMap(({ message }) => message.tool_calls ?? [])).toEqual(native.message.tool_calls);
    const calls = whole.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
    expect(
      calls.map(({ function: called }) => ({ name: called.name, given: JSON.parse(called.arguments) as unknown })),
    ).toEqual(given);
    // Where it may also answer, the mark begins a call.
    const { open, form } = toolFamily(template());
    const begun = await tiny.openai.chat.completions.create({
      ...REQUEST,
      seed: 2,
      ...(await likely(open === '' ? (form === 'python' ? '[' : '{"') : open)),
    });
    expect(begun.choices[0]!.finish_reason).toBe('tool_calls');
    for (const call of begun.choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[])
      check(call.function.name, JSON.parse(call.function.arguments));
  } finally {
    await set(rows[0]!.own);
  }
});

describe('the client of Ollama', () => {
  // It knows no tool_choice, which goes along all the same.
  const request = { ...HEARD, tool_choice: BY_NAME };

  test('gets the call, whole and streamed, with arguments as an object', async () => {
    const whole = await tiny.ollama.chat({ ...request, stream: false });
    const [call] = whole.message.tool_calls!;
    expect(whole).toMatchObject({ done: true, done_reason: 'stop', message: { role: 'assistant', content: '' } });
    check(call!.function.name, call!.function.arguments);
    const lines: ChatResponse[] = [];
    for await (const line of await tiny.ollama.chat({ ...request, stream: true })) lines.push(line);
    expect(lines.flatMap(({ message }) => message.tool_calls ?? [])).toEqual(whole.message.tool_calls);
    expect(lines.map(({ done, message }) => [done, message.content])).toEqual([
      [false, ''],
      [true, ''],
    ]);
  });

  test('sends the result back by the name of the tool', async () => {
    const { message } = await tiny.ollama.chat({ ...request, stream: false });
    const next = await tiny.ollama.chat({
      model: 'tiny',
      tools: TOOLS,
      options: { temperature: 0, num_predict: 8 },
      messages: [...HELLO, message, { role: 'tool', tool_name: 'get_weather', content: 'Snow, 3 below.' }],
    });
    expect(next.done).toBe(true);
    expect(await lastPrompt()).toContain('Snow, 3 below.');
  });
});
