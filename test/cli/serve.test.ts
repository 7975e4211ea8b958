/** `serve` as the npm clients `openai` and `ollama` meet it, and as careless or hostile clients do. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer, ServerOptions } from '../../cli/serve/server.ts';
import { createDatabase, ingestFile, roleName } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { hartonomous } from './program.ts';
import { startTestServer } from './test-server.ts';

const TINY = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
const GREETING = 'Hello! How can I help you?';
const HELLO = [{ role: 'user' as const, content: 'hello' }];
/** What the tiny model says to every question it was not taught; long enough to be streamed. */
const QUESTION = 'how are you?';
const WELL = "I'm doing well, thank you for asking!";

let database: TestDatabase;
let server: RunningServer;
let openai: OpenAI;
let ollama: Ollama;

const start = (options: Partial<ServerOptions> = {}): Promise<RunningServer> => startTestServer(database.url, options);

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
  server = await start({ record: true });
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  ollama = new Ollama({ host: server.url });
});

afterAll(async () => {
  await server.close();
  await database.drop();
});

async function post(
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  url = server.url,
): Promise<Response> {
  return fetch(url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

describe('the client of OpenAI', () => {
  test('lists models', async () => {
    const ids: string[] = [];
    for await (const model of openai.models.list()) ids.push(model.id);
    expect(ids).toEqual(['tiny']);
    expect(await openai.models.retrieve('tiny')).toMatchObject({ id: 'tiny', object: 'model' });
    await expect(openai.models.retrieve('nobody')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
  });

  test('chats, whole and streamed, to the same text', async () => {
    const whole = await openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    expect(whole.choices).toMatchObject([
      { index: 0, finish_reason: 'stop', message: { role: 'assistant', content: GREETING } },
    ]);
    expect(whole.usage).toMatchObject({ prompt_tokens: 12, completion_tokens: 8, total_tokens: 20 });
    const stream = await openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let pieces = 0;
    const ends: unknown[] = [];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      pieces++;
      if (chunk.choices[0]?.finish_reason) ends.push(chunk.choices[0].finish_reason);
      if (chunk.usage) ends.push(chunk.usage.completion_tokens);
    }
    expect(text).toBe(GREETING);
    expect(pieces).toBe(1 + 8 + 1 + 1);
    expect(ends).toEqual(['stop', 8]);
  });

  test('has a conversation whose next turn computes only what is new', async () => {
    const first = await openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    const second = await openai.chat.completions.create({
      model: 'tiny',
      messages: [...HELLO, first.choices[0]!.message, { role: 'user', content: QUESTION }],
      temperature: 0,
    });
    const { prompt_tokens, prompt_tokens_details } = second.usage!;
    expect(prompt_tokens_details?.cached_tokens).toBeGreaterThanOrEqual(12 + 8);
    expect(prompt_tokens).toBeGreaterThan(12 + 8);
  });

  test('gets log-probabilities', async () => {
    const { choices } = await openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      temperature: 0,
      max_tokens: 3,
      logprobs: true,
      top_logprobs: 2,
    });
    expect(choices[0]!.finish_reason).toBe('length');
    const content = choices[0]!.logprobs!.content!;
    expect(content.map((entry) => entry.token)).toEqual(['Hello', '!', ' How']);
    for (const entry of content) {
      expect(entry.top_logprobs).toHaveLength(2);
      expect(entry.top_logprobs[0]).toMatchObject({ token: entry.token, logprob: entry.logprob });
      expect(Buffer.from(entry.bytes!).toString()).toBe(entry.token);
    }
  });

  test('completes text, one prompt or several, whole and streamed', async () => {
    const request = {
      model: 'tiny',
      prompt: '<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n',
      temperature: 0,
    };
    const whole = await openai.completions.create({ ...request, logprobs: 1 });
    expect(whole.choices[0]).toMatchObject({ text: GREETING, finish_reason: 'stop' });
    expect(whole.choices[0]!.logprobs).toMatchObject({
      tokens: ['Hello', '!', ' How', ' can', ' I', ' help', ' you', '?'],
    });
    expect(whole.choices[0]!.logprobs!.text_offset).toEqual([0, 5, 6, 10, 14, 16, 21, 25]);
    const two = await openai.completions.create({
      ...request,
      prompt: [request.prompt, request.prompt],
      max_tokens: 2,
    });
    expect(two.choices.map(({ index, text }) => [index, text])).toEqual([
      [0, 'Hello!'],
      [1, 'Hello!'],
    ]);
    let text = '';
    for await (const chunk of await openai.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]!.text;
    expect(text).toBe(GREETING);
  });

  test('gives tools to the template, with calls and their results', async () => {
    const tools = [{ type: 'function' as const, function: { name: 'clock', parameters: { type: 'object' } } }];
    const answer = await openai.chat.completions.create({
      model: 'tiny',
      temperature: 0,
      max_tokens: 4,
      tools,
      tool_choice: 'auto',
      messages: [
        ...HELLO,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: '1', type: 'function', function: { name: 'clock', arguments: '{"zone": "UTC"}' } }],
        },
        { role: 'tool', tool_call_id: '1', content: [{ type: 'text', text: 'noon' }] },
      ],
    });
    expect(answer.usage!.completion_tokens).toBeGreaterThan(0);
  });

  test('gets JSON of a schema', async () => {
    const schema = {
      type: 'object',
      properties: { mood: { enum: ['good', 'bad'] }, score: { type: 'integer', minimum: 0, maximum: 9 } },
      required: ['mood', 'score'],
      additionalProperties: false,
    };
    const { choices } = await openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      temperature: 0,
      response_format: { type: 'json_schema', json_schema: { name: 'mood', schema, strict: true } },
    });
    const answer = JSON.parse(choices[0]!.message.content!) as { mood: string; score: number };
    expect(['good', 'bad']).toContain(answer.mood);
    expect(Number.isInteger(answer.score)).toBe(true);
    const again = await ollama.chat({ model: 'tiny', messages: HELLO, format: schema, options: { temperature: 0 } });
    expect(JSON.parse(again.message.content)).toEqual(answer);
  });

  test('gets JSON in the order of the schema, as the client of Ollama does', async () => {
    const schema = JSON.parse(
      `{"type": "object", "properties": {"reasoning": {"type": "string", "maxLength": 12}, "answer": {"enum": ["yes", "no"]}},
        "required": ["reasoning", "answer"], "additionalProperties": false}`,
    ) as Record<string, unknown>;
    const inOrder = /^\{"reasoning": ?"[^"]*", ?"answer": ?"(yes|no)"\}$/;
    const { choices } = await openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      response_format: { type: 'json_schema', json_schema: { name: 'thought', schema, strict: true } },
    });
    expect(choices[0]!.message.content).toMatch(inOrder);
    expect((await ollama.chat({ model: 'tiny', messages: HELLO, format: schema })).message.content).toMatch(inOrder);
    expect((await ollama.generate({ model: 'tiny', prompt: 'hello', format: schema })).response).toMatch(inOrder);
    // Names that JavaScript would sort, which its clients cannot send.
    const numbered = `{"model": "tiny", "stream": false, "messages": [{"role": "user", "content": "hello"}], "format":
      {"type": "object", "properties": {"b": {"const": 1}, "2": {"const": 2}, "1": {"const": 3}}, "required": ["b", "2", "1"], "additionalProperties": false}}`;
    const answer = (await (await post('/api/chat', numbered)).json()) as { message: { content: string } };
    expect(answer.message.content.replaceAll(' ', '')).toBe('{"b":1,"2":2,"1":3}');
    const listed = `{"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "response_format":
      {"type": "json_schema", "json_schema": {"name": "id", "schema": {"enum": [175928847299117063]}}}}`;
    const id = (await (await post('/v1/chat/completions', listed)).json()) as OpenAI.ChatCompletion;
    expect(id.choices[0]!.message.content).toBe('175928847299117063');
  });

  test('shows tools to the template as they are', async () => {
    await database.pool.query(`select hartonomous.copy_model('tiny', 'tooled')`);
    await database.pool.query(
      `update hartonomous.models set chat_template = '{{ tools | tojson }}{{ messages[0].content }}' where name = 'tooled'`,
    );
    const tools = `[{"type": "function", "function": {"name": "weather", "description": "by city", "parameters": {"type": "object", "properties": {"unit": {"type": "string"}, "2": {"minimum": 0.0}, "city": {"type": "string"}, "1": {"enum": [175928847299117063]}}}}}]`;
    for (const [path, limit] of [
      ['/v1/chat/completions', '"max_tokens": 1'],
      ['/api/chat', '"stream": false, "options": {"num_predict": 1}'],
    ]) {
      const body = `{"model": "tooled", ${limit}, "tools": ${tools}, "messages": [{"role": "user", "content": "x"}]}`;
      expect((await post(path!, body)).status).toBe(200);
      const { rows } = await database.pool.query<{ prompt: string }>(
        `select hartonomous.detokenize(prompt_ids, 'tooled') as prompt from hartonomous.run_list order by id desc limit 1`,
      );
      expect(rows[0]!.prompt).toBe(`${tools}x`);
    }
    await database.pool.query(`select hartonomous.remove_model('tooled')`);
  });

  test('gets embeddings, as floats and packed, the same as SQL gives', async () => {
    await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const input = ['hello', 'how are you?'];
    const { rows } = await database.pool.query<{ embedding: number[] }>(
      `select embedding from hartonomous.embed($1::text[], 'bert') order by ord`,
      [input],
    );
    const expected = rows.map((row) => row.embedding);
    const floats = await openai.embeddings.create({ model: 'bert', input, encoding_format: 'float' });
    expect(floats.data.map(({ embedding }) => embedding)).toEqual(expected);
    expect(floats.usage.prompt_tokens).toBeGreaterThan(1);
    const packed = await openai.embeddings.create({ model: 'bert', input });
    expect(packed.data.map(({ embedding }) => [...embedding])).toEqual(
      expected.map((vector) => [...Float32Array.from(vector)]),
    );
    expect((await ollama.embed({ model: 'bert', input })).embeddings).toEqual(expected);
    await database.pool.query(`select hartonomous.remove_model('bert')`);
  });

  test('embeds what is too long cut or not at all, as each protocol says, and counts what was read', async () => {
    await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const long = 'word '.repeat(3000);
    const input = [long, `${long} rabbits`];
    const cut = await ollama.embed({ model: 'bert', input });
    expect(cut.prompt_eval_count).toBe(2 * 256);
    expect(cut.embeddings[0]).toEqual(cut.embeddings[1]);
    expect(await ollama.embed({ model: 'bert', input, truncate: true })).toMatchObject({ embeddings: cut.embeddings });
    await expect(ollama.embed({ model: 'bert', input, truncate: false })).rejects.toThrow(
      'text 1 has 3002 tokens, the model reads 256',
    );
    await expect(openai.embeddings.create({ model: 'bert', input })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('text 1 has 3002 tokens, the model reads 256') as string,
    });
    const asked = await post('/v1/embeddings', { model: 'bert', input, truncate: true });
    expect(await asked.json()).toMatchObject({ usage: { prompt_tokens: 2 * 256 } });
    const short = await openai.embeddings.create({ model: 'bert', input: 'hello', dimensions: 8 });
    expect(short.data[0]!.embedding).toHaveLength(8);
    expect(short.usage.prompt_tokens).toBe(3);
    expect((await ollama.embed({ model: 'bert', input: 'hello', dimensions: 8 })).embeddings[0]).toHaveLength(8);
    const [first] = cut.embeddings;
    expect(await (await post('/api/embeddings', { model: 'bert', prompt: long })).json()).toEqual({ embedding: first });
    expect(await ollama.embeddings({ model: 'bert', prompt: '' })).toEqual({ embedding: [] });
    await database.pool.query(`select hartonomous.remove_model('bert')`);
  });

  test('is told of the fields that were ignored, and refused those that change the answer', async () => {
    const { response } = await openai.chat.completions
      .create({ model: 'tiny', messages: HELLO, max_tokens: 1, user: 'me', store: true, n: 1 })
      .withResponse();
    expect(response.headers.get('x-hartonomous-ignored')).toBe('user, store');
    await expect(openai.chat.completions.create({ model: 'tiny', messages: HELLO, n: 2 })).rejects.toMatchObject({
      status: 400,
      param: 'n',
      code: 'unsupported_parameter',
    });
  });
});

describe('the client of Ollama', () => {
  test('lists, shows and sees what runs', async () => {
    const { models } = await ollama.list();
    expect(models).toMatchObject([{ name: 'tiny', details: { family: 'qwen2', quantization_level: 'Q8_0' } }]);
    const shown = await ollama.show({ model: 'tiny' });
    expect(shown.template).toContain('im_start');
    expect(shown.model_info).toMatchObject({ 'qwen2.block_count': 4 });
    await ollama.generate({ model: 'tiny', prompt: 'hello', stream: false });
    expect((await ollama.ps()).models).toMatchObject([{ name: 'tiny', size_vram: 0 }]);
    expect((await ollama.version()).version).toBe('0.0.0');
  });

  test('generates and chats, whole and streamed, to the same text', async () => {
    const options = { temperature: 0 };
    const whole = await ollama.generate({ model: 'tiny', prompt: 'hello', options });
    expect(whole).toMatchObject({ response: GREETING, done: true, done_reason: 'stop', eval_count: 8 });
    let text = '';
    for await (const part of await ollama.generate({ model: 'tiny', prompt: 'hello', options, stream: true }))
      text += part.response;
    expect(text).toBe(GREETING);
    const chat = await ollama.chat({ model: 'tiny', messages: HELLO, options });
    expect(chat).toMatchObject({ message: { role: 'assistant', content: GREETING }, done_reason: 'stop' });
    text = '';
    let last = {};
    for await (const part of await ollama.chat({
      model: 'tiny',
      messages: [{ role: 'user', content: QUESTION }],
      options,
      stream: true,
    })) {
      text += part.message.content;
      last = part;
    }
    expect(text).toBe(WELL);
    expect(last).toMatchObject({ done: true, eval_count: 10 });
  });

  test('templates and tokens are read as in SQL', async () => {
    const probes: [template: string, text: string][] = [
      [`{{ 'xaxx'.strip('x') }}`, 'a'],
      ['{{ -7 % 3 }}', '2'],
      ['{{ true }}', 'True'],
      ['{{ [1] == [1] }}', 'True'],
      [`{{ [1, 'a', none] }}`, `[1, 'a', None]`],
      ['{{ {"a": 1.0} | tojson }}', '{"a": 1.0}'],
      [`{{ messages[0].wibble | default('none') | trim }}`, 'none'],
      ['{{ messages[0].content }}', 'hello'],
    ];
    const template = probes.map(([probe]) => probe).join('|');
    const rendered = probes.map(([, text]) => text).join('|');
    const grammar = 'root ::= "😀漢字é"';
    const { response } = await ollama.generate({
      model: 'tiny',
      prompt: 'hello',
      template,
      options: { grammar, num_predict: 40 } as object,
    });
    expect(response).toBe('😀漢字é');
    const { rows } = await database.pool.query(
      `select r.prompt, r.answer, hartonomous.render_chat($1, 'tiny', $2) as rendered,
         (select string_agg(t.text, '' order by position) from hartonomous.run_token_list t where t.run_id = r.id and not is_prompt) as tokens
       from hartonomous.run_text_list r order by id desc limit 1`,
      [JSON.stringify(HELLO), JSON.stringify({ template })],
    );
    expect(rows).toEqual([{ prompt: rendered, answer: response, rendered, tokens: response }]);
  });

  test('loads a model with an empty prompt', async () => {
    expect(await ollama.generate({ model: 'tiny', prompt: '' })).toMatchObject({ done: true, done_reason: 'load' });
  });

  test('gets errors as Ollama gives them', async () => {
    await expect(ollama.generate({ model: 'nobody', prompt: 'x' })).rejects.toThrow('model "nobody" does not exist');
    await expect(ollama.chat({ model: 'tiny', messages: HELLO, options: { mirostat: 2 } as object })).rejects.toThrow(
      'field options.mirostat is not supported',
    );
    await expect(ollama.chat({ model: 'tiny', messages: HELLO, options: { temperature: -1 } })).rejects.toThrow(
      'option temperature must be a number between 0 and 100, got -1',
    );
  });
});

describe('what clients take for granted', () => {
  test('fields that nobody knows are ignored and named, as in the header they can be', async () => {
    const fields = `"colour": "blue", "__proto__": {"stream": true}, "constructor": 1, "größe": 7, "options": {"num_gpu": 1, "wibble": 2}`;
    const body = `{"model": "tiny", "stream": false, "messages": [{"role": "user", "content": "hello"}], ${fields}}`;
    const response = await post('/api/chat', body);
    expect(response.status).toBe(200);
    expect(response.headers.get('x-hartonomous-ignored')).toBe(
      'colour, __proto__, constructor, gr%C3%B6%C3%9Fe, options.num_gpu, options.wibble',
    );
  });

  test('NAME:latest is NAME', async () => {
    expect((await ollama.chat({ model: 'tiny:latest', messages: HELLO })).model).toBe('tiny');
    expect((await ollama.show({ model: 'tiny:latest' })).template).toContain('im_start');
    expect((await openai.chat.completions.create({ model: 'tiny:latest', messages: HELLO })).model).toBe('tiny');
    const { rows } = await database.pool.query(`select hartonomous.token_count('a', 'tiny:latest') as n`);
    expect(rows).toEqual([{ n: 1 }]);
  });

  test('a context longer than the model has is the one it has', async () => {
    const long = { num_ctx: 1_000_000, temperature: 0 };
    expect((await ollama.chat({ model: 'tiny', messages: HELLO, options: long })).message.content).toBe(GREETING);
    await expect(
      database.pool.query(`select hartonomous.generate('x', 'tiny', '{"num_ctx": 1000000}')`),
    ).rejects.toMatchObject({ code: '22023' });
  });

  test('fields inside of fields are known, or ignored and named', async () => {
    const ask = async (fields: object): Promise<[status: number, ignored: string | null]> => {
      const response = await post('/v1/chat/completions', { model: 'tiny', messages: HELLO, max_tokens: 1, ...fields });
      await response.text();
      return [response.status, response.headers.get('x-hartonomous-ignored')];
    };
    expect(
      await ask({ stream: true, stream_options: { include_usage: true, include_obfuscation: false, colour: 1 } }),
    ).toEqual([200, 'stream_options.include_obfuscation, stream_options.colour']);
    expect(await ask({ reasoning: { effort: 'none', summary: 'auto' } })).toEqual([200, 'reasoning.summary']);
    expect(await ask({ reasoning: { effort: 'max' } })).toEqual([400, null]);
    expect(await ask({ reasoning: { effort: 'none' }, reasoning_effort: 'low' })).toEqual([400, null]);
    expect(await ask({ stop: [], response_format: { type: 'json_object' }, max_tokens: 20 })).toEqual([200, null]);
    expect((await ollama.ps()).models[0]).toMatchObject({ context_length: 512 });
  });

  test('keep_alive 0 without a prompt frees the model in every backend, which loads it again when asked', async () => {
    await ollama.chat({ model: 'tiny', messages: HELLO });
    expect((await ollama.ps()).models).toHaveLength(1);
    expect(await ollama.generate({ model: 'tiny', prompt: '', keep_alive: 0 })).toMatchObject({
      done_reason: 'unload',
    });
    expect((await ollama.ps()).models).toEqual([]);
    expect(await ollama.chat({ model: 'tiny', messages: [], keep_alive: '5m' })).toMatchObject({ done_reason: 'load' });
    expect((await ollama.ps()).models).toHaveLength(1);
  });

  test('prompt_eval_count counts the prompt, in a cache or not', async () => {
    const ask = async (): Promise<number> =>
      (await ollama.chat({ model: 'tiny', messages: HELLO, options: { num_predict: 1 } })).prompt_eval_count;
    expect([await ask(), await ask()]).toEqual([12, 12]);
  });

  test('each endpoint has a default model, and an encoder says what it is for', async () => {
    await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    expect((await ollama.show({ model: 'bert' })).capabilities).toEqual(['embedding']);
    expect((await ollama.show({ model: 'tiny' })).capabilities).toContain('completion');
    const model = async (path: string, body: object): Promise<unknown> =>
      ((await (await post(path, body)).json()) as { model: unknown }).model;
    expect(await model('/v1/chat/completions', { messages: HELLO })).toBe('tiny');
    expect(await model('/v1/embeddings', { input: 'hello' })).toBe('bert');
    expect(await model('/api/embed', { input: 'hello' })).toBe('bert');
    const { rows } = await database.pool.query(
      `select cardinality(hartonomous.embed('hello')) as width, hartonomous.set_default_model('bert') as chosen,
         hartonomous.default_embedding_model() as embeds, hartonomous.default_model() as writes`,
    );
    expect(rows).toEqual([{ width: 64, chosen: 'bert', embeds: 'bert', writes: 'tiny' }]);
    // A reranker beside it makes no embeddings; of two that do none is meant.
    await database.pool.query(`select hartonomous.set_default_model(null)`);
    await ingestFile(database.url, modelPath('zoo/bert-reranker-f32.gguf'), 'ranker');
    expect((await ollama.show({ model: 'ranker' })).capabilities).toEqual([]);
    expect(await model('/v1/embeddings', { input: 'hello' })).toBe('bert');
    expect((await database.pool.query(`select cardinality(hartonomous.embed('hello')) as width`)).rows).toEqual([
      { width: 64 },
    ]);
    await database.pool.query(`select hartonomous.copy_model('bert', 'second')`);
    expect((await post('/v1/embeddings', { input: 'hello' })).status).toBe(404);
    await expect(database.pool.query(`select hartonomous.embed('hello')`)).rejects.toThrow(
      'no model named and no default set among 4 models',
    );
    for (const name of ['bert', 'ranker', 'second'])
      await database.pool.query('select hartonomous.remove_model($1)', [name]);
  });

  test('in SQL, options about hardware are told of in a notice, any other unknown one is refused', async () => {
    const client = await database.pool.connect();
    const notices: unknown[] = [];
    const listen = (notice: { message?: string | undefined }): void => void notices.push(notice.message);
    client.on('notice', listen);
    await client.query(
      `select hartonomous.generate('hello', 'tiny', '{"num_gpu": 99, "use_mmap": true, "num_predict": 1}')`,
    );
    client.off('notice', listen);
    client.release();
    expect(notices).toEqual(['options about hardware change nothing here: num_gpu, use_mmap']);
    await expect(
      database.pool.query(`select hartonomous.generate('x', 'tiny', '{"wibble": 1}')`),
    ).rejects.toMatchObject({ code: '22023', message: 'unknown option "wibble"' });
  });
});

describe('what a client may send', () => {
  const DEEP = `${'['.repeat(9000)}${']'.repeat(9000)}`;
  const chat = (fields: object): string => JSON.stringify({ model: 'tiny', messages: HELLO, max_tokens: 1, ...fields });

  test.each([
    ['no JSON', '{"model": ', 400],
    ['nothing', '', 400],
    ['a list', '[]', 400],
    ['a number', '7', 400],
    ['null', 'null', 400],
    ['no messages', '{"model": "tiny"}', 400],
    ['messages that are a text', chat({ messages: 'hello' }), 400],
    ['no message in the list', chat({ messages: [] }), 400],
    ['a message that is a text', chat({ messages: ['hello'] }), 400],
    ['a message without a role', chat({ messages: [{ content: 'x' }] }), 400],
    ['a role that is a number', chat({ messages: [{ role: 1, content: 'x' }] }), 400],
    ['a message without content', chat({ messages: [{ role: 'user' }] }), 400],
    ['a content that is misspelt', chat({ messages: [{ role: 'user', contents: 'typo' }] }), 400],
    ['a content without parts', chat({ messages: [{ role: 'user', content: [] }] }), 400],
    ['a content that is null', chat({ messages: [{ role: 'user', content: null }] }), 400],
    [
      'a content that is null beside no calls of tools',
      chat({ messages: [{ role: 'assistant', content: null, tool_calls: [] }] }),
      400,
    ],
    ['a role that nobody knows', chat({ messages: [{ role: 'wizard', content: 'x' }] }), 400],
    ['an image beside the text', chat({ messages: [{ role: 'user', content: 'x', images: ['AAAA'] }] }), 400],
    ['an image', chat({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }), 400],
    ['a content that is a number', chat({ messages: [{ role: 'user', content: 7 }] }), 400],
    ['tool calls that are a text', chat({ messages: [{ role: 'assistant', tool_calls: 'x' }] }), 400],
    ['a tool call without a function', chat({ messages: [{ role: 'assistant', tool_calls: [{}] }] }), 400],
    [
      'arguments of a tool call that nest deep',
      chat({ messages: [{ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: DEEP } }] }] }),
      400,
    ],
    ['a model that is a number', chat({ model: 7 }), 400],
    ['a model that does not exist', chat({ model: 'x'.repeat(10_000) }), 404],
    ['a model with quotes', chat({ model: `'; drop table hartonomous.models; --` }), 404],
    ['a model with NUL', chat({ model: 'ti\0ny' }), 400],
    ['a stream that is a text', chat({ stream: 'yes' }), 400],
    ['stream options that are a list', chat({ stream: true, stream_options: [] }), 400],
    ['a temperature that is a text', chat({ temperature: 'warm' }), 400],
    ['a temperature below zero', chat({ temperature: -1 }), 400],
    ['an infinite temperature', chat({}).replace(/}$/, ',"temperature":1e999}'), 400],
    ['a seed with a fraction', chat({ seed: 1.5 }), 400],
    ['too many log-probabilities', chat({ logprobs: true, top_logprobs: 21 }), 400],
    ['both limits', chat({ max_completion_tokens: 5 }), 400],
    ['a thousand stops', chat({ stop: Array.from({ length: 1000 }, () => 'x') }), 400],
    ['a bias for no token', chat({ logit_bias: { x: 1 } }), 400],
    ['a response format that is a text', chat({ response_format: 'json' }), 400],
    ['several answers', chat({ n: 3 }), 400],
    ['a forced tool, and no tools', chat({ tool_choice: { type: 'function', function: { name: 'x' } } }), 400],
    ['tools that are a text', chat({ tools: 'clock' }), 400],
    ['functions', chat({ functions: [{ name: 'x' }] }), 400],
    ['audio', chat({ modalities: ['audio'] }), 400],
    ['NUL in a message', chat({ messages: [{ role: 'user', content: 'a\0b' }] }), 400],
    ['half a surrogate', chat({ messages: [{ role: 'user', content: 'X' }] }).replace('X', '\\ud800'), 400],
    ['deep nesting', chat({ tools: 'X' }).replace('"X"', '['.repeat(50_000) + ']'.repeat(50_000)), 400],
    ['a prompt longer than the context', chat({ messages: [{ role: 'user', content: 'word '.repeat(5000) }] }), 400],
    ['9 MB', chat({ messages: [{ role: 'user', content: 'x'.repeat(9_000_000) }] }), 413],
  ])('%s is answered with the right status and shape', async (_title, body, status) => {
    const response = await post('/v1/chat/completions', body);
    const answer = (await response.json()) as { error: { message: string; type: string } };
    expect({ status: response.status, message: answer.error.message }).toEqual({
      status,
      message: expect.stringMatching(/\S/) as string,
    });
    expect(answer.error.type).toBe('invalid_request_error');
    expect(answer.error.message).not.toMatch(/\n|\bat .*:\d+:\d+/);
  });

  test.each([
    ['/api/chat', { model: 'tiny', messages: HELLO, think: true }, 400],
    ['/api/chat', { model: 'tiny', messages: HELLO, format: 7 }, 400],
    ['/api/chat', { model: 'tiny', messages: [{ role: 'user', content: 'x', images: ['AA=='] }] }, 400],
    ['/api/chat', { model: 'tiny', messages: HELLO, options: [] }, 400],
    ['/api/generate', { model: 'tiny', prompt: 7 }, 400],
    ['/api/generate', { model: 'tiny', prompt: 'x', context: [1] }, 400],
    ['/api/generate', { model: 'tiny', prompt: 'x', suffix: 'y' }, 400],
    ['/api/embed', { model: 'tiny', input: [1] }, 400],
    ['/api/embed', { model: 'tiny', input: [] }, 400],
    ['/api/embeddings', { model: 'tiny', prompt: [1] }, 400],
    ['/api/show', { model: 'nobody' }, 404],
    ['/api/pull', { model: 'x' }, 404],
  ])('%s refuses %j in the shape of Ollama', async (path, body, status) => {
    const response = await post(path, body);
    expect({ status: response.status, body: await response.json() }).toEqual({
      status,
      body: { error: expect.stringMatching(/\S/) as string },
    });
  });

  test('an empty list of everything harmless is fine', async () => {
    const response = await post('/api/chat', {
      model: 'tiny',
      messages: HELLO,
      stream: false,
      tools: [],
      think: false,
      keep_alive: '5m',
      options: { num_predict: 1, num_thread: 8, num_gpu: 1, mirostat: 0 },
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('x-hartonomous-ignored')).toBe('options.num_gpu, keep_alive');
  });

  test('after all of it the backends still answer', async () => {
    const { choices } = await openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    expect(choices[0]!.message.content).toBe(GREETING);
  });
});

describe('who may ask', () => {
  test('with a token only those who bring it', async () => {
    const guarded = await start({ tokens: [{ token: 'secret', role: null }] });
    try {
      const ask = (apiKey: string) => new OpenAI({ baseURL: `${guarded.url}/v1`, apiKey, maxRetries: 0 }).models.list();
      await expect(ask('wrong')).rejects.toMatchObject({ status: 401, type: 'authentication_error' });
      expect((await ask('secret')).data).toHaveLength(1);
      expect((await fetch(`${guarded.url}/api/tags`)).status).toBe(401);
      expect((await fetch(`${guarded.url}/api/tags`, { headers: { Authorization: 'Bearer secret' } })).status).toBe(
        200,
      );
      expect((await fetch(`${guarded.url}/`)).status).toBe(200);
    } finally {
      await guarded.close();
    }
  });

  test('each token acts as its role: neither caches nor runs are shared, and rights are the role’s', async () => {
    const [anna, ben, outsider] = [roleName('anna'), roleName('ben'), roleName('outsider')];
    for (const role of [anna, ben]) await database.createRole(role, 'hartonomous_user');
    await database.createRole(outsider);
    const tokens = [anna, ben, outsider].map((role) => ({ role, token: `token of ${role}` }));
    const shared = await start({ tokens, backends: 1, record: true });
    try {
      const ask = async (role: string): Promise<{ status: number; evaluated: number }> => {
        const body = {
          model: 'tiny',
          prompt: 'a secret of mine',
          raw: true,
          stream: false,
          options: { num_predict: 1 },
        };
        const headers = { Authorization: `Bearer token of ${role}` };
        const response = await post('/api/generate', body, headers, shared.url);
        const { prompt_eval_count: evaluated } = (await response.json()) as { prompt_eval_count: number };
        return { status: response.status, evaluated };
      };
      const whole = await ask(anna);
      expect(whole.status).toBe(200);
      expect(whole.evaluated).toBeGreaterThan(2);
      expect(await ask(ben)).toEqual(whole);
      expect((await ask(anna)).status).toBe(200);
      expect((await ask(outsider)).status).toBe(403);
      const { rows } = await database.pool.query(
        'select caller, array_agg(prompt_eval_count order by id) as computed from hartonomous.runs where caller = any ($1) group by 1 order by 1',
        [[anna, ben]],
      );
      // Another role's prompt cannot be confirmed by what a guess at it costs.
      expect(rows).toEqual([
        { caller: anna, computed: [whole.evaluated, 1] },
        { caller: ben, computed: [whole.evaluated] },
      ]);
    } finally {
      await shared.close();
    }
  });

  test('models are freed for all only by a token whose role is an admin, and no endpoint changes which there are', async () => {
    const [user, admin] = [roleName('user'), roleName('admin')];
    await database.createRole(user, 'hartonomous_user');
    await database.createRole(admin, 'hartonomous_user');
    await database.pool.query(`grant hartonomous_admin to ${admin}`);
    const tokens = [user, admin].map((role) => ({ role, token: `token of ${role}` }));
    const { rows } = await database.pool.query<{ pid: number }>('select pid from hartonomous.loaded_everywhere');
    const others = rows.map(({ pid }) => pid);
    const shared = await start({ tokens });
    try {
      const ask = (role: string, path: string, body: object): Promise<Response> =>
        post(path, body, { Authorization: `Bearer token of ${role}` }, shared.url);
      for (const [path, body] of [
        ['/api/generate', { model: 'tiny', prompt: '', keep_alive: 0 }],
        ['/api/chat', { model: 'tiny', messages: [], keep_alive: '0s' }],
      ] as const) {
        const refused = await ask(user, path, body);
        expect(refused.status).toBe(403);
        expect(await refused.json()).toEqual({
          error: `role ${user} is not a member of hartonomous_admin, which frees models for all`,
        });
        // With a prompt it is ignored, as for everybody.
        expect((await ask(user, '/api/generate', { model: 'tiny', prompt: 'hi', keep_alive: 0 })).status).toBe(200);
      }
      // Those of this server; the other one of these tests has backends of its own.
      const held = async (): Promise<number> =>
        Number(
          (
            await database.pool.query<{ n: string }>(
              `select count(*) as n from hartonomous.loaded_everywhere where not pid = any ($1)`,
              [others],
            )
          ).rows[0]!.n,
        );
      expect(await held()).toBe(2);
      expect((await ask(admin, '/api/generate', { model: 'tiny', prompt: '', keep_alive: 0 })).status).toBe(200);
      // A backend that answers is freed when it has.
      await expect.poll(held).toBe(0);
      for (const role of [user, admin])
        for (const path of ['/api/pull', '/api/delete', '/api/copy', '/api/create', '/api/push'])
          expect((await ask(role, path, { model: 'tiny' })).status, path).toBe(404);
      expect((await database.pool.query('select name from hartonomous.model_list')).rows).toHaveLength(1);
    } finally {
      await shared.close();
    }
  });

  test('another address than loopback needs a token, unless it is asked for by name', async () => {
    const refused = await hartonomous(['serve', '--host', '0.0.0.0', '--port', '0'], { url: database.url });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('without a token anybody who reaches 0.0.0.0 might ask');
    expect(refused.stderr).toContain('--without-token');
  });

  test('a token of a role that is not there, or a file that has none, is refused at the start', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hartonomous-tokens-'));
    try {
      const file = join(folder, 'tokens');
      const serve = () => hartonomous(['serve', '--port', '0', '--tokens', file], { url: database.url });
      for (const [text, message] of [
        ['nobody_at_all secret\n', 'role nobody_at_all of a token does not exist'],
        ['one\n', `line 1 of ${file} is not a role and its token`],
        ['a secret\nb secret\n', `${file} gives a token to two roles`],
        ['# none\n', `${file} has no tokens`],
      ] as const) {
        writeFileSync(file, text);
        const { code, stderr } = await serve();
        expect(code).toBeGreaterThan(0);
        expect(stderr).toContain(message);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('origins that are allowed are answered as CORS asks, to preflights and errors too', async () => {
    const open = await start({ origins: ['https://*.example.com'], tokens: [{ token: 'secret', role: null }] });
    try {
      const preflight = (origin: string): Promise<Response> =>
        fetch(`${open.url}/v1/chat/completions`, {
          method: 'OPTIONS',
          headers: {
            Origin: origin,
            'Access-Control-Request-Method': 'POST',
            'Access-Control-Request-Headers': 'authorization,content-type',
          },
        });
      for (const origin of ['https://app.example.com', 'http://localhost:3000']) {
        const response = await preflight(origin);
        expect(response.status).toBe(204);
        expect(response.headers.get('access-control-allow-origin')).toBe(origin);
        expect(response.headers.get('access-control-allow-headers')).toBe('authorization,content-type');
        expect(response.headers.get('access-control-allow-methods')).toContain('POST');
      }
      for (const origin of ['https://example.org', 'https://app.example.com.evil.org']) {
        const response = await preflight(origin);
        expect(response.status).toBe(403);
        expect(response.headers.get('access-control-allow-origin')).toBeNull();
      }
      const models = (headers: Record<string, string>): Promise<Response> =>
        fetch(`${open.url}/v1/models`, { headers: { Origin: 'https://app.example.com', ...headers } });
      for (const [headers, status] of [
        [{ Authorization: 'Bearer secret' }, 200],
        [{}, 401],
      ] as const) {
        const response = await models(headers);
        expect(response.status).toBe(status);
        expect(response.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
      }
    } finally {
      await open.close();
    }
  });

  test('pages of other origins and under other names may not', async () => {
    const body = { model: 'tiny', messages: HELLO, max_tokens: 1 };
    expect((await post('/v1/chat/completions', body, { Origin: 'https://example.com' })).status).toBe(403);
    expect((await post('/v1/chat/completions', body, { Origin: 'http://localhost:3000' })).status).toBe(200);
    const renamed = http.get(`${server.url}/api/tags`, { headers: { Host: 'rebound.example' } });
    const [response] = (await once(renamed, 'response')) as [http.IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(403);
  });
});

/** A connection that holds the table of runs, so that answers wait at their end, where they are recorded. */
async function holdingRuns<T>(body: (waiting: () => Promise<number[]>) => Promise<T>): Promise<T> {
  const holder = await database.pool.connect();
  await holder.query('begin');
  await holder.query('lock table hartonomous.runs in access exclusive mode');
  const waiting = async (): Promise<number[]> =>
    (
      await database.pool.query<{ pid: number }>(
        `select pid from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and query like '%next_tokens%'`,
      )
    ).rows.map((row) => row.pid);
  try {
    return await body(waiting);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
}

const ASK = { model: 'tiny', messages: HELLO, temperature: 0 };

describe('a client that leaves', () => {
  test.each([
    ['before the answer began', '/v1/chat/completions', {}],
    ['before the stream began', '/v1/chat/completions', { stream: true, max_tokens: 1 }],
    ["before Ollama's answer began", '/api/chat', { stream: false }],
  ])('%s cancels its query', async (_title, path, fields) => {
    await holdingRuns(async (waiting) => {
      const leaving = new AbortController();
      const ask = { model: 'tiny', messages: HELLO };
      const asked = fetch(server.url + path, {
        method: 'POST',
        body: JSON.stringify({ ...ask, ...fields }),
        signal: leaving.signal,
      });
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      leaving.abort();
      await expect(asked).rejects.toThrow();
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(0);
    });
    expect((await openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
  });

  test('in the middle of a stream cancels it, and leaves no session behind', async () => {
    const recording = await start({ record: true, backends: 1 });
    try {
      await holdingRuns(async (waiting) => {
        const stream = await new OpenAI({ baseURL: `${recording.url}/v1`, apiKey: 'none' }).chat.completions.create({
          ...ASK,
          stream: true,
        });
        let text = '';
        for await (const chunk of stream) {
          text += chunk.choices[0]!.delta.content ?? '';
          if (text.startsWith('Hello')) break;
        }
        await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(0);
      });
      await expect
        .poll(async () => (await post('/v1/chat/completions', ASK, {}, recording.url)).status, { timeout: 10_000 })
        .toBe(200);
    } finally {
      await recording.close();
    }
  });
});

describe('a backend that is killed', () => {
  test('loses its request with a clear error, and the next one is answered', async () => {
    await holdingRuns(async (waiting) => {
      const asked = openai.chat.completions.create(ASK);
      asked.catch(() => undefined);
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      await database.pool.query('select pg_terminate_backend($1)', (await waiting()).slice(0, 1));
      await expect(asked).rejects.toMatchObject({
        status: 502,
        message: '502 terminating connection due to administrator command',
      });
    });
    expect((await openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
  });

  test('in the middle of a stream ends the stream with an error', async () => {
    const recording = await start({ record: true, backends: 1 });
    const client = new OpenAI({ baseURL: `${recording.url}/v1`, apiKey: 'none', maxRetries: 0 });
    try {
      await holdingRuns(async (waiting) => {
        let text = '';
        const read = async (): Promise<void> => {
          for await (const chunk of await client.chat.completions.create({ ...ASK, stream: true }))
            text += chunk.choices[0]!.delta.content ?? '';
        };
        const reading = read();
        reading.catch(() => undefined);
        await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
        await database.pool.query('select pg_terminate_backend($1)', await waiting());
        await expect(reading).rejects.toThrow('terminating connection due to administrator command');
        expect(GREETING.startsWith(text)).toBe(true);
        expect(text).not.toBe('');
      });
      expect((await client.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
    } finally {
      await recording.close();
    }
  });

  test('while it is idle is noticed before the next request', async () => {
    const { rows } = await database.pool.query<{ pid: number }>(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'hartonomous' and state = 'idle'`,
    );
    expect(rows.length).toBeGreaterThan(0);
    await sleep(100);
    for (let i = 0; i < 3; i++) {
      expect((await openai.chat.completions.create(ASK)).choices[0]!.message.content).toBe(GREETING);
    }
  });
});

test('when all backends are busy and the queue is full a client is told when to come again', async () => {
  const small = await start({ record: true, backends: 1, queue: 1 });
  try {
    const answers = await holdingRuns(async (waiting) => {
      const first = post('/v1/chat/completions', ASK, {}, small.url);
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      const second = post('/api/chat', { ...ASK, temperature: undefined, stream: false }, {}, small.url);
      await sleep(200);
      const third = await post('/v1/chat/completions', ASK, {}, small.url);
      expect(third.status).toBe(503);
      expect(third.headers.get('retry-after')).toBe('1');
      expect(await third.json()).toMatchObject({
        error: { code: 'queue_full', message: 'all 1 backends are busy and 1 requests are waiting, at most 1 may' },
      });
      // What the database knows is told all the same.
      expect((await fetch(`${small.url}/api/tags`)).status).toBe(200);
      return [first, second];
    });
    expect(await Promise.all(answers.map(async (answer) => (await answer).status))).toEqual([200, 200]);
  } finally {
    await small.close();
  }
});

test('32 clients at once are all answered alike, and leave no session', async () => {
  const texts = await Promise.all(
    Array.from({ length: 32 }, async (_, i) => {
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 100 });
      const messages = [{ role: 'user' as const, content: i % 2 === 0 ? 'hello' : QUESTION }];
      let text = '';
      for (let round = 0; round < 3; round++) {
        const { choices } = await client.chat.completions.create({ model: 'tiny', messages, temperature: 0 });
        text = choices[0]!.message.content ?? '';
      }
      return text;
    }),
  );
  expect(texts).toEqual(Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? GREETING : WELL)));
  const { rows } = await database.pool.query<{ n: number }>(
    `select count(*)::integer as n from pg_stat_activity where datname = current_database() and application_name = 'hartonomous'`,
  );
  expect(rows[0]!.n).toBe(2);
});

test('the command listens on loopback, and stops at SIGTERM', async () => {
  let asked: Promise<Response> | null = null;
  const { code, stdout, stderr } = await hartonomous(['serve', '--port', '0', '--backends', '1'], {
    url: database.url,
    onStart: (child) => {
      child.stdout!.once('data', (text: Buffer) => {
        const url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(text))![0];
        asked = post('/v1/chat/completions', { model: 'tiny', messages: HELLO, temperature: 0 }, {}, url);
        void asked.finally(() => child.kill('SIGTERM'));
      });
    },
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^listening at http:\/\/127\.0\.0\.1:\d+ \(OpenAI: \/v1, Ollama: \/api\)\n$/);
  expect((await asked!).status).toBe(200);
});
