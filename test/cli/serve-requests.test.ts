/** What careless and hostile clients may send to `serve`: right statuses, one line, and it goes on. */
import { describe, expect, test } from 'vitest';
import { GREETING, HELLO, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

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
    const response = await tiny.post('/v1/chat/completions', body);
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
    const response = await tiny.post(path, body);
    expect({ status: response.status, body: await response.json() }).toEqual({
      status,
      body: { error: expect.stringMatching(/\S/) as string },
    });
  });

  test('an empty list of everything harmless is fine', async () => {
    const response = await tiny.post('/api/chat', {
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
    const { choices } = await tiny.openai.chat.completions.create({ model: 'tiny', messages: HELLO, temperature: 0 });
    expect(choices[0]!.message.content).toBe(GREETING);
  });
});
