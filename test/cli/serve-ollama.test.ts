/** `serve` as the npm client `ollama` meets it, and what clients of either protocol take for granted. */
import { describe, expect, test } from 'vitest';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { GREETING, HELLO, QUESTION, WELL, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

describe('the client of Ollama', () => {
  test('lists, shows and sees what runs', async () => {
    const { models } = await tiny.ollama.list();
    expect(models).toMatchObject([{ name: 'tiny', details: { family: 'qwen2', quantization_level: 'Q8_0' } }]);
    const shown = await tiny.ollama.show({ model: 'tiny' });
    expect(shown.template).toContain('im_start');
    expect(shown.model_info).toMatchObject({ 'qwen2.block_count': 4 });
    await tiny.ollama.generate({ model: 'tiny', prompt: 'hello', stream: false });
    expect((await tiny.ollama.ps()).models).toMatchObject([{ name: 'tiny', size_vram: 0 }]);
    expect((await tiny.ollama.version()).version).toBe('0.0.0');
  });

  test('generates and chats, whole and streamed, to the same text', async () => {
    const options = { temperature: 0 };
    const whole = await tiny.ollama.generate({ model: 'tiny', prompt: 'hello', options });
    expect(whole).toMatchObject({ response: GREETING, done: true, done_reason: 'stop', eval_count: 8 });
    let text = '';
    for await (const part of await tiny.ollama.generate({ model: 'tiny', prompt: 'hello', options, stream: true }))
      text += part.response;
    expect(text).toBe(GREETING);
    const chat = await tiny.ollama.chat({ model: 'tiny', messages: HELLO, options });
    expect(chat).toMatchObject({ message: { role: 'assistant', content: GREETING }, done_reason: 'stop' });
    text = '';
    let last = {};
    for await (const part of await tiny.ollama.chat({
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
    const { response } = await tiny.ollama.generate({
      model: 'tiny',
      prompt: 'hello',
      template,
      options: { grammar, num_predict: 40 } as object,
    });
    expect(response).toBe('😀漢字é');
    const { rows } = await tiny.database.pool.query(
      `select r.prompt, r.answer, hartonomous.render_chat($1, 'tiny', $2) as rendered,
         (select string_agg(t.text, '' order by position) from hartonomous.run_token_list t where t.run_id = r.id and not is_prompt) as tokens
       from hartonomous.run_text_list r order by id desc limit 1`,
      [JSON.stringify(HELLO), JSON.stringify({ template })],
    );
    expect(rows).toEqual([{ prompt: rendered, answer: response, rendered, tokens: response }]);
  });

  test('loads a model with an empty prompt', async () => {
    expect(await tiny.ollama.generate({ model: 'tiny', prompt: '' })).toMatchObject({
      done: true,
      done_reason: 'load',
    });
  });

  test('gets errors as Ollama gives them', async () => {
    await expect(tiny.ollama.generate({ model: 'nobody', prompt: 'x' })).rejects.toThrow(
      'model "nobody" does not exist',
    );
    await expect(
      tiny.ollama.chat({ model: 'tiny', messages: HELLO, options: { mirostat: 2 } as object }),
    ).rejects.toThrow('field options.mirostat is not supported');
    await expect(tiny.ollama.chat({ model: 'tiny', messages: HELLO, options: { temperature: -1 } })).rejects.toThrow(
      'option temperature must be a number between 0 and 100, got -1',
    );
  });
});

describe('what clients take for granted', () => {
  test('fields that nobody knows are ignored and named, as in the header they can be', async () => {
    const fields = `"colour": "blue", "__proto__": {"stream": true}, "constructor": 1, "größe": 7, "options": {"num_gpu": 1, "wibble": 2}`;
    const body = `{"model": "tiny", "stream": false, "messages": [{"role": "user", "content": "hello"}], ${fields}}`;
    const response = await tiny.post('/api/chat', body);
    expect(response.status).toBe(200);
    expect(response.headers.get('x-hartonomous-ignored')).toBe(
      'colour, __proto__, constructor, gr%C3%B6%C3%9Fe, options.num_gpu, options.wibble',
    );
  });

  test('NAME:latest is NAME', async () => {
    expect((await tiny.ollama.chat({ model: 'tiny:latest', messages: HELLO })).model).toBe('tiny');
    expect((await tiny.ollama.show({ model: 'tiny:latest' })).template).toContain('im_start');
    expect((await tiny.openai.chat.completions.create({ model: 'tiny:latest', messages: HELLO })).model).toBe('tiny');
    const { rows } = await tiny.database.pool.query(`select hartonomous.token_count('a', 'tiny:latest') as n`);
    expect(rows).toEqual([{ n: 1 }]);
  });

  test('a context longer than the model has is the one it has', async () => {
    const long = { num_ctx: 1_000_000, temperature: 0 };
    expect((await tiny.ollama.chat({ model: 'tiny', messages: HELLO, options: long })).message.content).toBe(GREETING);
    await expect(
      tiny.database.pool.query(`select hartonomous.generate('x', 'tiny', '{"num_ctx": 1000000}')`),
    ).rejects.toMatchObject({ code: '22023' });
  });

  test('fields inside of fields are known, or ignored and named', async () => {
    const ask = async (fields: object): Promise<[status: number, ignored: string | null]> => {
      const response = await tiny.post('/v1/chat/completions', {
        model: 'tiny',
        messages: HELLO,
        max_tokens: 1,
        ...fields,
      });
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
    expect((await tiny.ollama.ps()).models[0]).toMatchObject({ context_length: 512 });
  });

  test('keep_alive 0 without a prompt frees the model in every backend, which loads it again when asked', async () => {
    await tiny.ollama.chat({ model: 'tiny', messages: HELLO });
    expect((await tiny.ollama.ps()).models).toHaveLength(1);
    expect(await tiny.ollama.generate({ model: 'tiny', prompt: '', keep_alive: 0 })).toMatchObject({
      done_reason: 'unload',
    });
    expect((await tiny.ollama.ps()).models).toEqual([]);
    expect(await tiny.ollama.chat({ model: 'tiny', messages: [], keep_alive: '5m' })).toMatchObject({
      done_reason: 'load',
    });
    expect((await tiny.ollama.ps()).models).toHaveLength(1);
  });

  test('prompt_eval_count counts the prompt, in a cache or not', async () => {
    const ask = async (): Promise<number> =>
      (await tiny.ollama.chat({ model: 'tiny', messages: HELLO, options: { num_predict: 1 } })).prompt_eval_count;
    expect([await ask(), await ask()]).toEqual([12, 12]);
  });

  test('each endpoint has a default model, and an encoder says what it is for', async () => {
    await ingestFile(tiny.database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
    expect((await tiny.ollama.show({ model: 'bert' })).capabilities).toEqual(['embedding']);
    expect((await tiny.ollama.show({ model: 'tiny' })).capabilities).toContain('completion');
    const model = async (path: string, body: object): Promise<unknown> =>
      ((await (await tiny.post(path, body)).json()) as { model: unknown }).model;
    expect(await model('/v1/chat/completions', { messages: HELLO })).toBe('tiny');
    expect(await model('/v1/embeddings', { input: 'hello' })).toBe('bert');
    expect(await model('/api/embed', { input: 'hello' })).toBe('bert');
    const { rows } = await tiny.database.pool.query(
      `select cardinality(hartonomous.embed('hello')) as width, hartonomous.set_default_model('bert') as chosen,
         hartonomous.default_embedding_model() as embeds, hartonomous.default_model() as writes`,
    );
    expect(rows).toEqual([{ width: 64, chosen: 'bert', embeds: 'bert', writes: 'tiny' }]);
    // A reranker beside it makes no embeddings; of two that do none is meant.
    await tiny.database.pool.query(`select hartonomous.set_default_model(null)`);
    await ingestFile(tiny.database.url, modelPath('zoo/bert-reranker-f32.gguf'), 'ranker');
    expect((await tiny.ollama.show({ model: 'ranker' })).capabilities).toEqual([]);
    expect(await model('/v1/embeddings', { input: 'hello' })).toBe('bert');
    expect((await tiny.database.pool.query(`select cardinality(hartonomous.embed('hello')) as width`)).rows).toEqual([
      { width: 64 },
    ]);
    await tiny.database.pool.query(`select hartonomous.copy_model('bert', 'second')`);
    expect((await tiny.post('/v1/embeddings', { input: 'hello' })).status).toBe(404);
    await expect(tiny.database.pool.query(`select hartonomous.embed('hello')`)).rejects.toThrow(
      'no model named and no default set among 4 models',
    );
    for (const name of ['bert', 'ranker', 'second'])
      await tiny.database.pool.query('select hartonomous.remove_model($1)', [name]);
  });

  test('in SQL, options about hardware are told of in a notice, any other unknown one is refused', async () => {
    const client = await tiny.database.pool.connect();
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
      tiny.database.pool.query(`select hartonomous.generate('x', 'tiny', '{"wibble": 1}')`),
    ).rejects.toMatchObject({ code: '22023', message: 'unknown option "wibble"' });
  });
});
