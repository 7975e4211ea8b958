/** chat and its options: templates, system message, tools, the model's own defaults, log-probabilities, seeds. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url).pathname;
const HELLO = '[{"role": "user", "content": "Hello"}]';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
  await ingestFile(database.url, modelPath('zoo/llama-untied-gqa-f32.gguf'), 'plain');
});

afterAll(async () => {
  await database.drop();
});

/** One value in a connection of its own: a model's recommendations are read when a backend first uses it. */
async function value<T>(sql: string, args: unknown[] = []): Promise<T> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    return (await client.query<{ value: T }>(`select ${sql} as value`, args)).rows[0]!.value;
  } finally {
    await client.end();
  }
}

const render = (messages: string, options: object, model = 'tiny'): Promise<string> =>
  value('hartonomous.render_chat($1, $2, $3)', [messages, model, JSON.stringify(options)]);

interface Completion {
  text: string;
  eval_count: number;
  seed: number;
  logprobs: {
    token: string;
    token_id: number;
    logprob: number;
    bytes: number[];
    top_logprobs: { token_id: number; logprob: number }[];
  }[];
}

const complete = (options: object, prompt = 'Hello'): Promise<Completion> =>
  value('hartonomous.complete($1, $2, $3)', [prompt, 'tiny', JSON.stringify(options)]);

describe('a template', () => {
  test("is the model's own, one by name, or Jinja text", async () => {
    const own = await render(HELLO, {});
    expect(own).toContain('Hello');
    expect(await render(HELLO, { template: 'zephyr' })).toMatch(/^<\|user\|>\nHello.*\n<\|assistant\|>\n$/);
    expect(await render(HELLO, { template: '{{ messages[0].content }}!' })).toBe('Hello!');
    expect(await render(HELLO, { template: 'chatml', add_generation_prompt: false })).toBe(
      '<|im_start|>user\nHello<|im_end|>\n',
    );
  });

  test('is asked for where the model has none, and generate continues the text', async () => {
    await expect(render(HELLO, {}, 'plain')).rejects.toMatchObject({
      code: '55000',
      message: 'model plain has no chat template',
      hint: expect.stringContaining('chatml, llama2') as string,
    });
    expect(await render(HELLO, { template: 'vicuna' }, 'plain')).toBe('USER: Hello\nASSISTANT:');
    await expect(render(HELLO, { template: 'chatlm' })).rejects.toThrow(
      'option template names "chatlm", which is not known',
    );
    const count = (options: object): Promise<{ prompt_tokens: number }> =>
      value('hartonomous.complete($1, $2, $3)', ['Hello', 'plain', JSON.stringify({ num_predict: 1, ...options })]);
    expect((await count({ template: 'vicuna' })).prompt_tokens).toBeGreaterThan((await count({})).prompt_tokens);
  });

  test('gets the tools', async () => {
    const template = '{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{{ messages | length }}';
    const tools = [{ type: 'function', function: { name: 'now' } }];
    expect(await render(HELLO, { template, tools })).toBe('now 1');
    expect(await render(HELLO, { template })).toBe('1');
    await expect(render(HELLO, { template, tools: ['now'] })).rejects.toThrow(
      'option tools must be an array of objects',
    );
  });
});

describe('messages', () => {
  const SHOW = { template: '{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}' };
  const call = {
    id: '1',
    type: 'function',
    function: { name: 'clock', arguments: '{"zone": "UTC", "1": 2, "at": 3}' },
  };

  test('have a text, parts that are texts, or calls of tools', async () => {
    const given = [
      { role: 'developer', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What ' },
          { type: 'text', text: 'time?' },
        ],
      },
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', content: [{ type: 'text', text: 'noon' }], tool_call_id: '1' },
      { role: 'user', content: '' },
      { role: 'assistant', content: 'Yes.', tool_calls: [] },
    ];
    expect(await render(JSON.stringify(given), SHOW)).toBe(
      'system:Be brief.;user:What time?;assistant:;tool:noon;user:;assistant:Yes.;',
    );
    const template = '{{ messages[0].tool_calls[0].function.arguments | tojson }}';
    expect(await render(JSON.stringify(given.slice(2)), { template })).toBe('{"zone": "UTC", "1": 2, "at": 3}');
  });

  test.each([
    ['{"role": "user"}', 'message 1 must have a content, a text'],
    ['{"role": "user", "contents": "typo"}', 'message 1 must have a content, a text'],
    ['{"role": "user", "content": null}', 'message 1 must have a content, a text'],
    ['{"role": "user", "content": []}', 'message 1 must have a content, a text'],
    ['{"role": "user", "content": 7}', 'message 1 must have a content, a text or a list of parts'],
    ['{"role": "user", "content": [{"type": "text"}]}', 'message 1 has a part of type text without a text'],
    [
      '{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}',
      'message 1 has a part of type "image_url", only text is read',
    ],
    ['{"role": "user", "content": "x", "images": ["AAAA"]}', 'message 1 has images, only text is read'],
    ['{"content": "x"}', 'message 1 must have a role, one of system, developer, user, assistant, tool'],
    [
      '{"role": "wizard", "content": "x"}',
      'message 1 must have a role, one of system, developer, user, assistant, tool, got "wizard"',
    ],
    ['{"role": "assistant", "tool_calls": {}}', 'message 1 must have a list as tool_calls'],
    ['{"role": "assistant", "content": null, "tool_calls": []}', 'message 1 must have a content, a text'],
    ['{"role": "assistant", "tool_calls": []}', 'message 1 must have a content, a text'],
    [
      '{"role": "assistant", "tool_calls": [{"function": {}}]}',
      'message 1 has a tool call without a function that has a name',
    ],
    ['{"role": "assistant", "content": "x", "thinking": 1}', 'message 1 must have a text as thinking'],
  ])('%s is refused', async (message, expected) => {
    await expect(render(`[${message}]`, {})).rejects.toMatchObject({ code: '22023', message: expected });
  });

  test.each([
    ['"x"', 'messages must be a JSON array, got string'],
    ['[]', 'messages must hold at least one message, got none'],
    ['[1]', 'message 1 must be an object with role and content'],
  ])('are a list of objects: %s', async (messages, expected) => {
    await expect(render(messages, {})).rejects.toMatchObject({ code: '22023', message: expected });
  });
});

describe("a model's recommendations", () => {
  const recommend = (options: object, system: string | null): Promise<unknown> =>
    database.pool.query(`update hartonomous.models set default_options = $1, system_prompt = $2 where name = 'tiny'`, [
      JSON.stringify(options),
      system,
    ]);

  afterEach(async () => {
    await recommend({}, null);
  });

  test('are used where the caller says nothing', async () => {
    await recommend({ num_predict: 3, temperature: 0, unheard_of: 1, seed: 77 }, null);
    expect(await complete({ logit_bias: { 0: -100 } })).toMatchObject({ eval_count: 3, seed: 77 });
    expect((await complete({ num_predict: 2 })).eval_count).toBe(2);
    expect((await complete({ max_tokens: 1 })).eval_count).toBe(1);
    await recommend({ num_predict: 'many' }, null);
    await expect(complete({})).rejects.toThrow('option num_predict must be an integer');
  });

  test('begin the conversation with their system message, unless there is one', async () => {
    await recommend({}, 'You are a test.');
    const template = { template: 'chatml' };
    const system = (text: string): string => `<|im_start|>system\n${text}<|im_end|>\n<|im_start|>user`;
    expect(await render(HELLO, template)).toContain(system('You are a test.'));
    expect(await render(HELLO, { ...template, system: 'Be brief.' })).toContain(system('Be brief.'));
    const own = '[{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hello"}]';
    expect(await render(own, { ...template, system: 'Be brief.' })).toMatch(/^<\|im_start\|>system\nMine\./);
  });
});

describe('log-probabilities', () => {
  test('come with the likeliest tokens, best first, and the bytes of each', async () => {
    const { logprobs, text } = await complete({ temperature: 0, num_predict: 6, top_logprobs: 3 });
    expect(logprobs.length).toBeGreaterThan(0);
    for (const token of logprobs) {
      const top = token.top_logprobs;
      expect(top.map((other) => other.logprob)).toEqual(top.map((other) => other.logprob).sort((a, b) => b - a));
      expect(top[0]).toMatchObject({ token_id: token.token_id, logprob: token.logprob });
      expect(top.reduce((sum, other) => sum + Math.exp(other.logprob), 0)).toBeLessThanOrEqual(1 + 1e-6);
    }
    expect(Buffer.from(logprobs.flatMap((token) => token.bytes)).toString()).toBe(text);
  });
});

describe('a seed', () => {
  const options = { seed: 42, raw: true, temperature: 6, top_p: 1, num_predict: 12, cache: false };
  /** Written down once: the text does not depend on session, restart or machine. */
  const KNOWN = " LilyHello by'sGreetings postgre database answer database our model me";

  test('gives the same text in every session and after the model was unloaded', async () => {
    const texts = [await complete(options), await complete(options)].map((answer) => answer.text);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const again = async (): Promise<string> => {
      const { rows } = await client.query<{ text: string }>(
        `select hartonomous.generate('Hello', 'tiny', $1) as text`,
        [JSON.stringify(options)],
      );
      return rows[0]!.text;
    };
    texts.push(await again());
    await client.query('select hartonomous.unload()');
    texts.push(await again());
    await client.end();
    expect(texts).toEqual(texts.map(() => KNOWN));
  });

  test('drawn for a call is reported and repeats it', async () => {
    const first = await complete({ temperature: 1.5, num_predict: 24, cache: false });
    expect((await complete({ temperature: 1.5, num_predict: 24, cache: false, seed: first.seed })).text).toBe(
      first.text,
    );
  });
});
