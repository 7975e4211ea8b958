/** What a model thinks before it answers, in SQL and over both protocols. */
import { join } from 'node:path';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { startTestServer } from './test-server.ts';

const HELLO = [{ role: 'user' as const, content: 'hello' }];
const MESSAGES = JSON.stringify(HELLO);
/** The end of Qwen 3's template. */
const QWEN3 = `{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}`;
const EMPTY = '<think>\n\n</think>\n\n';
const THINKING = '! How can I';
/** A template that shows what was thought. */
const SHOW = '{% for m in messages %}{{ m.content }}({{ m.reasoning_content }}{{ m.thinking }}){% endfor %}';
const ANSWER = 'you?';

let database: TestDatabase;
let server: RunningServer;
let openai: OpenAI;
let ollama: Ollama;

/**
 * The tiny model with two words of its greeting spelt as marks: "<think>! How can I</think> you?". Its digest is its own,
 * as segments of the tiny model are shared by their digest.
 */
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'thinker');
  await database.pool.query(
    `update hartonomous.models set chat_template = chat_template || $1, source_digest = sha256('thinker') where name = 'thinker'`,
    [QWEN3],
  );
  await database.pool.query(`
    update hartonomous.atoms set content = '<think>' where kind = 'token' and content = convert_to('Hello', 'UTF8');
    update hartonomous.atoms set content = '</think>' where kind = 'token' and content = convert_to('Ġhelp', 'UTF8')`);
  server = await startTestServer(database.url, { record: true });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  ollama = new Ollama({ host: server.url });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function value<T>(sql: string, args: unknown[] = []): Promise<T> {
  return (await database.pool.query<{ value: T }>(`select ${sql} as value`, args)).rows[0]!.value;
}

describe('in SQL', () => {
  const greedy = `'{"temperature": 0}'`;

  test('the answer is without it, and it stands beside the answer', async () => {
    expect(await value(`hartonomous.generate('hello', options => ${greedy})`)).toBe(ANSWER);
    expect(await value(`hartonomous.complete('hello', options => ${greedy})`)).toMatchObject({
      text: ANSWER,
      thinking: THINKING,
      eval_count: 8,
    });
    expect(await value(`hartonomous.chat($1, options => ${greedy})`, [MESSAGES])).toMatchObject({
      message: { role: 'assistant', content: ANSWER, thinking: THINKING },
    });
    const raw = JSON.stringify({ raw: true, temperature: 0 });
    const prompt = await value<string>('hartonomous.render_chat($1)', [MESSAGES]);
    expect(await value('hartonomous.generate($1, options => $2)', [prompt, raw])).toBe(
      `<think>${THINKING}</think> ${ANSWER}`,
    );
  });

  test('streams tell it apart', async () => {
    const whole = `json_build_array(string_agg(thinking, '' order by step), string_agg(token, '' order by step))`;
    expect(await value(`(select ${whole} from hartonomous.generate_stream('hello', options => ${greedy}))`)).toEqual([
      THINKING,
      ANSWER,
    ]);
    const client = await database.pool.connect();
    try {
      const { rows } = await client.query<{ id: string }>(
        `select hartonomous.open_session($1, options => ${greedy}) as id`,
        [MESSAGES],
      );
      const taken: string[][] = [];
      for (let step = 0; step < 9; step++) {
        const next = await client.query<{ thinking: string; token: string }>(
          'select * from hartonomous.next_tokens($1)',
          [rows[0]!.id],
        );
        for (const { thinking, token } of next.rows) taken.push([thinking, token]);
      }
      expect(taken.map(([thinking]) => thinking).join('')).toBe(THINKING);
      expect(taken.map(([, token]) => token).join('')).toBe(ANSWER);
      const closed = await client.query<{ facts: object }>('select hartonomous.close_session($1) as facts', [
        rows[0]!.id,
      ]);
      expect(closed.rows[0]!.facts).toMatchObject({ text: ANSWER, thinking: THINKING });
    } finally {
      client.release();
    }
  });

  test('marks that are control tokens are found as well', async () => {
    await database.pool.query(`select hartonomous.copy_model('thinker', 'control')`);
    await database.pool.query(
      `update hartonomous.models set source_digest = sha256('control') where name = 'control';
       update hartonomous.tokens t set type = 3 from hartonomous.models m, hartonomous.atoms a
       where m.id = t.model_id and m.name = 'control' and a.kind = 'token' and a.id = t.atom_id
         and a.content in (convert_to('<think>', 'UTF8'), convert_to('</think>', 'UTF8'))`,
    );
    expect(await value(`hartonomous.complete('hello', 'control', ${greedy})`)).toMatchObject({
      text: ANSWER,
      thinking: THINKING,
    });
    await database.pool.query(`select hartonomous.remove_model('control')`);
  });

  test('a prompt may begin it', async () => {
    const template = `{{ messages[0].content }}<think>\n`;
    const { text, thinking } = await value<{ text: string; thinking: string }>(
      `hartonomous.complete('once upon', options => $1)`,
      [JSON.stringify({ template, temperature: 0, num_predict: 5, stop: [] })],
    );
    expect(text).toBe('');
    expect(thinking).toMatch(/\S/);
  });

  test.each([
    { think: false },
    { enable_thinking: false },
    { reasoning_effort: 'none' },
    { chat_template_kwargs: { enable_thinking: false } },
  ])('option %j reaches the template', async (options) => {
    const render = (given: object): Promise<string> =>
      value('hartonomous.render_chat($1, options => $2)', [MESSAGES, JSON.stringify(given)]);
    expect(await render(options)).toBe((await render({})) + EMPTY);
    expect(await render({ think: true })).toBe(await render({}));
    const template = '{{ reasoning_effort }} {{ enable_thinking }}';
    expect(await render({ template, reasoning_effort: 'low' })).toBe('low True');
  });

  test("what was thought before is the template's to show or drop", async () => {
    const before = [
      ...HELLO,
      { role: 'assistant', content: 'Yes.', thinking: 'Hm.' },
      { role: 'user', content: 'And?' },
    ];
    const shown = JSON.stringify({ template: SHOW });
    expect(await value('hartonomous.render_chat($1, options => $2)', [JSON.stringify(before), shown])).toBe(
      'hello()Yes.(Hm.Hm.)And?()',
    );
    expect(await value('hartonomous.render_chat($1)', [JSON.stringify(before)])).not.toContain('Hm.');
  });

  test.each([
    [
      '{"think": true, "template": "chatml"}',
      '0A000',
      'model thinker does not think: its template has no marks for it',
    ],
    [
      '{"think": "much"}',
      '22023',
      'option think must be true, false or one of none, minimal, low, medium, high, xhigh, max, got "much"',
    ],
    [
      '{"reasoning_effort": 3}',
      '22023',
      'option reasoning_effort must be one of none, minimal, low, medium, high, xhigh, max, got 3',
    ],
    [
      '{"think": true, "reasoning_effort": "low"}',
      '22023',
      'options think and reasoning_effort mean the same and were both given',
    ],
    ['{"chat_template_kwargs": []}', '22023', 'option chat_template_kwargs must be an object, got []'],
  ])('%s is refused', async (options, code, message) => {
    await expect(value(`hartonomous.generate('hello', options => $1)`, [options])).rejects.toMatchObject({
      code,
      message,
    });
  });
});

describe('over HTTP', () => {
  const options = { temperature: 0 };
  const lastPrompt = (): Promise<string> =>
    value('(select prompt from hartonomous.run_text_list order by id desc limit 1)');

  test("Ollama's thinking stands beside the answer, whole and streamed", async () => {
    const whole = await ollama.chat({ model: 'thinker', messages: HELLO, options, think: true });
    expect(whole.message).toEqual({ role: 'assistant', content: ANSWER, thinking: THINKING });
    const parts = { content: '', thinking: '' };
    for await (const part of await ollama.chat({ model: 'thinker', messages: HELLO, options, stream: true })) {
      parts.content += part.message.content;
      parts.thinking += part.message.thinking ?? '';
    }
    expect(parts).toEqual({ content: ANSWER, thinking: THINKING });
    expect(await ollama.generate({ model: 'thinker', prompt: 'hello', options })).toMatchObject({
      response: ANSWER,
      thinking: THINKING,
    });
    expect((await ollama.show({ model: 'thinker' })).capabilities).toContain('thinking');
  });

  test("OpenAI's reasoning stands beside the answer, whole and streamed", async () => {
    const request = { model: 'thinker', messages: HELLO, temperature: 0 };
    const { choices } = await openai.chat.completions.create(request);
    expect(choices[0]!.message).toMatchObject({ content: ANSWER, reasoning: THINKING });
    const parts = { content: '', reasoning: '' };
    for await (const chunk of await openai.chat.completions.create({ ...request, stream: true })) {
      const delta = chunk.choices[0]?.delta as { content?: string; reasoning?: string } | undefined;
      parts.content += delta?.content ?? '';
      parts.reasoning += delta?.reasoning ?? '';
    }
    expect(parts).toEqual({ content: ANSWER, reasoning: THINKING });
  });

  test('not to think reaches the template', async () => {
    await ollama.chat({ model: 'thinker', messages: HELLO, options, think: false });
    expect((await lastPrompt()).endsWith(EMPTY)).toBe(true);
    await openai.chat.completions.create({
      model: 'thinker',
      messages: HELLO,
      reasoning_effort: 'none',
      max_tokens: 4,
    });
    expect((await lastPrompt()).endsWith(EMPTY)).toBe(true);
    const newer = { model: 'thinker', messages: HELLO, max_tokens: 4, reasoning: { effort: 'none' } };
    await openai.chat.completions.create(newer);
    expect((await lastPrompt()).endsWith(EMPTY)).toBe(true);
    for (const fields of [
      { think: false },
      { enable_thinking: false },
      { chat_template_kwargs: { enable_thinking: false } },
    ]) {
      const request = { model: 'thinker', messages: HELLO, max_tokens: 4, seed: 1 };
      await openai.chat.completions.create({ ...request, ...fields } as typeof request);
      expect((await lastPrompt()).endsWith(EMPTY), JSON.stringify(fields)).toBe(true);
    }
    await ollama.chat({ model: 'thinker', messages: HELLO, options, think: 'max' as 'high' });
    await openai.chat.completions.create({ model: 'thinker', messages: HELLO, max_tokens: 4 });
    expect((await lastPrompt()).endsWith(EMPTY)).toBe(false);
  });

  test("what was thought before is the template's to show or drop", async () => {
    await database.pool.query(`select hartonomous.copy_model('thinker', 'shower')`);
    await database.pool.query(`update hartonomous.models set chat_template = $1 where name = 'shower'`, [SHOW]);
    const after = { role: 'user' as const, content: 'And?' };
    for (const [model, expected] of [
      ['shower', /^hello\(\)Yes\.\(Hm\.Hm\.\)And\?\(\)$/],
      ['thinker', /^(?=[^]*Yes\.)(?![^]*Hm\.)/],
    ] as const) {
      const said = { role: 'assistant' as const, content: 'Yes.' };
      await ollama.chat({ model, messages: [...HELLO, { ...said, thinking: 'Hm.' }, after], options });
      expect(await lastPrompt(), `Ollama, ${model}`).toMatch(expected);
      const reasoned = { ...said, reasoning: 'Hm.' };
      await openai.chat.completions.create({ model, messages: [...HELLO, reasoned, after], temperature: 0 });
      expect(await lastPrompt(), `OpenAI, ${model}`).toMatch(expected);
    }
    await database.pool.query(`select hartonomous.remove_model('shower')`);
  });
});
