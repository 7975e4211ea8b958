/** `serve` as the npm client `openai` meets it. */
import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { GREETING, HELLO, QUESTION, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

describe('the client of OpenAI', () => {
  test('lists models', async () => {
    const ids: string[] = [];
    for await (const model of tiny.openai.models.list()) ids.push(model.id);
    expect(ids).toEqual(['tiny']);
    expect(await tiny.openai.models.retrieve('tiny')).toMatchObject({ id: 'tiny', object: 'model' });
    await expect(tiny.openai.models.retrieve('nobody')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
  });

  test('chats, whole and streamed, to the same text', async () => {
    const whole = await tiny.openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    expect(whole.choices).toMatchObject([
      { index: 0, finish_reason: 'stop', message: { role: 'assistant', content: GREETING } },
    ]);
    expect(whole.usage).toMatchObject({ prompt_tokens: 12, completion_tokens: 8, total_tokens: 20 });
    const stream = await tiny.openai.chat.completions.create({
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
    const first = await tiny.openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    const second = await tiny.openai.chat.completions.create({
      model: 'tiny',
      messages: [...HELLO, first.choices[0]!.message, { role: 'user', content: QUESTION }],
      temperature: 0,
    });
    const { prompt_tokens, prompt_tokens_details } = second.usage!;
    expect(prompt_tokens_details?.cached_tokens).toBeGreaterThanOrEqual(12 + 8);
    expect(prompt_tokens).toBeGreaterThan(12 + 8);
  });

  test('gets log-probabilities', async () => {
    const { choices } = await tiny.openai.chat.completions.create({
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
    const whole = await tiny.openai.completions.create({ ...request, logprobs: 1 });
    expect(whole.choices[0]).toMatchObject({ text: GREETING, finish_reason: 'stop' });
    expect(whole.choices[0]!.logprobs).toMatchObject({
      tokens: ['Hello', '!', ' How', ' can', ' I', ' help', ' you', '?'],
    });
    expect(whole.choices[0]!.logprobs!.text_offset).toEqual([0, 5, 6, 10, 14, 16, 21, 25]);
    const two = await tiny.openai.completions.create({
      ...request,
      prompt: [request.prompt, request.prompt],
      max_tokens: 2,
    });
    expect(two.choices.map(({ index, text }) => [index, text])).toEqual([
      [0, 'Hello!'],
      [1, 'Hello!'],
    ]);
    let text = '';
    for await (const chunk of await tiny.openai.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]!.text;
    expect(text).toBe(GREETING);
  });

  test('gives tools to the template, with calls and their results', async () => {
    const tools = [{ type: 'function' as const, function: { name: 'clock', parameters: { type: 'object' } } }];
    const answer = await tiny.openai.chat.completions.create({
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
    const { choices } = await tiny.openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      temperature: 0,
      response_format: { type: 'json_schema', json_schema: { name: 'mood', schema, strict: true } },
    });
    const answer = JSON.parse(choices[0]!.message.content!) as { mood: string; score: number };
    expect(['good', 'bad']).toContain(answer.mood);
    expect(Number.isInteger(answer.score)).toBe(true);
    const again = await tiny.ollama.chat({
      model: 'tiny',
      messages: HELLO,
      format: schema,
      options: { temperature: 0 },
    });
    expect(JSON.parse(again.message.content)).toEqual(answer);
  });

  test('gets JSON in the order of the schema, as the client of Ollama does', async () => {
    const schema = JSON.parse(
      `{"type": "object", "properties": {"reasoning": {"type": "string", "maxLength": 12}, "answer": {"enum": ["yes", "no"]}},
        "required": ["reasoning", "answer"], "additionalProperties": false}`,
    ) as Record<string, unknown>;
    const inOrder = /^\{"reasoning": ?"[^"]*", ?"answer": ?"(yes|no)"\}$/;
    const { choices } = await tiny.openai.chat.completions.create({
      model: 'tiny',
      messages: HELLO,
      response_format: { type: 'json_schema', json_schema: { name: 'thought', schema, strict: true } },
    });
    expect(choices[0]!.message.content).toMatch(inOrder);
    expect((await tiny.ollama.chat({ model: 'tiny', messages: HELLO, format: schema })).message.content).toMatch(
      inOrder,
    );
    expect((await tiny.ollama.generate({ model: 'tiny', prompt: 'hello', format: schema })).response).toMatch(inOrder);
    // Names that JavaScript would sort, which its clients cannot send.
    const numbered = `{"model": "tiny", "stream": false, "messages": [{"role": "user", "content": "hello"}], "format":
      {"type": "object", "properties": {"b": {"const": 1}, "2": {"const": 2}, "1": {"const": 3}}, "required": ["b", "2", "1"], "additionalProperties": false}}`;
    const answer = (await (await tiny.post('/api/chat', numbered)).json()) as { message: { content: string } };
    expect(answer.message.content.replaceAll(' ', '')).toBe('{"b":1,"2":2,"1":3}');
    const listed = `{"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "response_format":
      {"type": "json_schema", "json_schema": {"name": "id", "schema": {"enum": [175928847299117063]}}}}`;
    const id = (await (await tiny.post('/v1/chat/completions', listed)).json()) as OpenAI.ChatCompletion;
    expect(id.choices[0]!.message.content).toBe('175928847299117063');
  });

  test('shows tools to the template as they are', async () => {
    await tiny.database.pool.query(`select hartonomous.copy_model('tiny', 'tooled')`);
    await tiny.database.pool.query(
      `update hartonomous.models set chat_template = '{{ tools | tojson }}{{ messages[0].content }}' where name = 'tooled'`,
    );
    const tools = `[{"type": "function", "function": {"name": "weather", "description": "by city", "parameters": {"type": "object", "properties": {"unit": {"type": "string"}, "2": {"minimum": 0.0}, "city": {"type": "string"}, "1": {"enum": [175928847299117063]}}}}}]`;
    for (const [path, limit] of [
      ['/v1/chat/completions', '"max_tokens": 1'],
      ['/api/chat', '"stream": false, "options": {"num_predict": 1}'],
    ]) {
      const body = `{"model": "tooled", ${limit}, "tools": ${tools}, "messages": [{"role": "user", "content": "x"}]}`;
      expect((await tiny.post(path!, body)).status).toBe(200);
      const { rows } = await tiny.database.pool.query<{ prompt: string }>(
        `select hartonomous.detokenize(prompt_ids, 'tooled') as prompt from hartonomous.run_list order by id desc limit 1`,
      );
      expect(rows[0]!.prompt).toBe(`${tools}x`);
    }
    await tiny.database.pool.query(`select hartonomous.remove_model('tooled')`);
  });

  test('gets embeddings, as floats and packed, the same as SQL gives', async () => {
    await ingestFile(tiny.database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const input = ['hello', 'how are you?'];
    const { rows } = await tiny.database.pool.query<{ embedding: number[] }>(
      `select embedding from hartonomous.embed($1::text[], 'bert') order by ord`,
      [input],
    );
    const expected = rows.map((row) => row.embedding);
    const floats = await tiny.openai.embeddings.create({ model: 'bert', input, encoding_format: 'float' });
    expect(floats.data.map(({ embedding }) => embedding)).toEqual(expected);
    expect(floats.usage.prompt_tokens).toBeGreaterThan(1);
    const packed = await tiny.openai.embeddings.create({ model: 'bert', input });
    expect(packed.data.map(({ embedding }) => [...embedding])).toEqual(
      expected.map((vector) => [...Float32Array.from(vector)]),
    );
    expect((await tiny.ollama.embed({ model: 'bert', input })).embeddings).toEqual(expected);
    await tiny.database.pool.query(`select hartonomous.remove_model('bert')`);
  });

  test('embeds what is too long cut or not at all, as each protocol says, and counts what was read', async () => {
    await ingestFile(tiny.database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    const long = 'word '.repeat(3000);
    const input = [long, `${long} rabbits`];
    const cut = await tiny.ollama.embed({ model: 'bert', input });
    expect(cut.prompt_eval_count).toBe(2 * 256);
    expect(cut.embeddings[0]).toEqual(cut.embeddings[1]);
    expect(await tiny.ollama.embed({ model: 'bert', input, truncate: true })).toMatchObject({
      embeddings: cut.embeddings,
    });
    await expect(tiny.ollama.embed({ model: 'bert', input, truncate: false })).rejects.toThrow(
      'text 1 has 3002 tokens, the model reads 256',
    );
    await expect(tiny.openai.embeddings.create({ model: 'bert', input })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('text 1 has 3002 tokens, the model reads 256') as string,
    });
    const asked = await tiny.post('/v1/embeddings', { model: 'bert', input, truncate: true });
    expect(await asked.json()).toMatchObject({ usage: { prompt_tokens: 2 * 256 } });
    const short = await tiny.openai.embeddings.create({ model: 'bert', input: 'hello', dimensions: 8 });
    expect(short.data[0]!.embedding).toHaveLength(8);
    expect(short.usage.prompt_tokens).toBe(3);
    expect((await tiny.ollama.embed({ model: 'bert', input: 'hello', dimensions: 8 })).embeddings[0]).toHaveLength(8);
    const [first] = cut.embeddings;
    expect(await (await tiny.post('/api/embeddings', { model: 'bert', prompt: long })).json()).toEqual({
      embedding: first,
    });
    expect(await tiny.ollama.embeddings({ model: 'bert', prompt: '' })).toEqual({ embedding: [] });
    await tiny.database.pool.query(`select hartonomous.remove_model('bert')`);
  });

  test('is told of the fields that were ignored, and refused those that change the answer', async () => {
    const { response } = await tiny.openai.chat.completions
      .create({ model: 'tiny', messages: HELLO, max_tokens: 1, user: 'me', store: true, n: 1 })
      .withResponse();
    expect(response.headers.get('x-hartonomous-ignored')).toBe('user, store');
    await expect(tiny.openai.chat.completions.create({ model: 'tiny', messages: HELLO, n: 2 })).rejects.toMatchObject({
      status: 400,
      param: 'n',
      code: 'unsupported_parameter',
    });
  });
});
