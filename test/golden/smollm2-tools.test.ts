/**
 * Tools called by a trained model, which calls none by itself: with tool_choice `required` and by name, in SQL and through the
 * client of OpenAI. Arguments are valid against the tool's schema, and say what was asked.
 */
import { Ajv } from 'ajv';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { availableSmollm2 } from './smollm2-file.ts';

const file = availableSmollm2();

const WEATHER = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 30 },
    unit: { enum: ['celsius', 'fahrenheit'] },
    days: { type: 'integer', minimum: 1, maximum: 14 },
  },
  required: ['city', 'unit', 'days'],
  additionalProperties: false,
};
const CONTACT = {
  $defs: { Kind: { enum: ['home', 'work'] } },
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 30 },
    email: { type: 'string', format: 'email', maxLength: 40 },
    phones: {
      type: 'array',
      maxItems: 2,
      items: {
        type: 'object',
        properties: { kind: { $ref: '#/$defs/Kind' }, number: { type: 'string', pattern: '^\\+?[0-9 ]{5,15}$' } },
        required: ['kind', 'number'],
      },
    },
  },
  required: ['name', 'email'],
};
const tool = (name: string, description: string, parameters: object): OpenAI.ChatCompletionFunctionTool => ({
  type: 'function',
  function: { name, description, parameters: parameters as Record<string, unknown> },
});
const TOOLS = [
  tool('get_weather', 'Weather of a city for some days', WEATHER),
  tool('save_contact', 'Save a name with an address', CONTACT),
];
const byName = (name: string): OpenAI.ChatCompletionNamedToolChoice => ({ type: 'function', function: { name } });

const ajv = new Ajv({ strict: false, validateFormats: false });
const VALID: Record<string, (value: unknown) => boolean> = {
  get_weather: ajv.compile(WEATHER),
  save_contact: ajv.compile(CONTACT),
};

const OSLO = 'What is the weather in Oslo for the next 3 days, in celsius?';
/** What is asked, who may be called, and what the model then writes. */
const ASKED: [text: string, choice: OpenAI.ChatCompletionToolChoiceOption, says: RegExp][] = [
  [OSLO, byName('get_weather'), /Oslo/],
  ['Save the contact Ada Lovelace, ada@example.com', byName('save_contact'), /@example\.com/],
  [OSLO, 'required', /./],
];

describe.skipIf(file === null)('a trained model', () => {
  let database: TestDatabase;
  let server: RunningServer;
  let openai: OpenAI;

  beforeAll(async () => {
    database = await createDatabase();
    await ingestFile(database.url, file!, 'smollm2');
    server = await startTestServer(database.url);
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });

  afterAll(async () => {
    await server?.close();
    await database?.drop();
  });

  const OPTIONS = { temperature: 0, repeat_penalty: 1 };

  test.each(ASKED)('%s (%j) has valid arguments, the same in SQL, whole and streamed', async (text, choice, says) => {
    const messages = [{ role: 'user' as const, content: text }];
    const options = { ...OPTIONS, num_predict: 120, tools: TOOLS, tool_choice: choice, parallel_tool_calls: false };
    const { rows } = await database.pool.query<{
      message: { content: string; tool_calls: { function: { name: string; arguments: unknown } }[] };
    }>(`select hartonomous.chat($1::json, 'smollm2', $2)->'message' as message`, [
      JSON.stringify(messages),
      JSON.stringify(options),
    ]);
    const [call, ...further] = rows[0]!.message.tool_calls;
    const { name, arguments: given } = call!.function;
    expect(further).toEqual([]);
    expect(rows[0]!.message.content).toBe('');
    expect(VALID[name]!(given), JSON.stringify(given)).toBe(true);
    expect(JSON.stringify(given)).toMatch(says);
    if (typeof choice === 'object') expect({ type: 'function', function: { name } }).toEqual(choice);

    const request = {
      ...OPTIONS,
      model: 'smollm2',
      messages,
      max_tokens: 120,
      tools: TOOLS,
      tool_choice: choice,
      parallel_tool_calls: false,
    };
    const whole = (await openai.chat.completions.create(request)).choices[0]!;
    const streamed = (await openai.chat.completions.stream(request).finalChatCompletion()).choices[0]!;
    for (const { finish_reason: reason, message } of [whole, streamed]) {
      const [called] = message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      expect(reason).toBe('tool_calls');
      expect([called!.function.name, JSON.parse(called!.function.arguments)]).toEqual([name, given]);
    }
  });

  test('a result goes back, and the model answers in words', async () => {
    const request = { ...OPTIONS, model: 'smollm2', max_tokens: 120, tools: TOOLS };
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: OSLO }];
    const asked = await openai.chat.completions.create({ ...request, messages, tool_choice: byName('get_weather') });
    const { message } = asked.choices[0]!;
    messages.push(message, {
      role: 'tool',
      tool_call_id: message.tool_calls![0]!.id,
      content: 'Oslo: snow, -3 degrees',
    });
    const told = (await openai.chat.completions.create({ ...request, messages, tool_choice: 'none' })).choices[0]!;
    expect(told.message.content).toMatch(/snow|-3/i);
    expect(told.message).not.toHaveProperty('tool_calls');
  });
});
