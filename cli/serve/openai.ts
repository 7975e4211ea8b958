/** OpenAI's endpoints: /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import { Hono } from 'hono';
import type { AnswerFacts, AnswerRequest, AnswerToken, TokenLogprob } from '../answer/backend.ts';
import type { WholeAnswer, Wire } from './answers.ts';
import { streamedAnswer, wholeAnswer } from './answers.ts';
import type { Catalog } from './catalog.ts';
import type { Backends } from './backends.ts';
import { embeddings } from './embeddings.ts';
import { HttpError } from './errors.ts';
import { CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, OPENAI_NESTED } from './fields.ts';
import { cappedContext, flagOf, messagesOf, readBody, textOf, textsOf } from './request.ts';

/** Texts of one request for embeddings, as OpenAI has it. */
const MAX_INPUTS = 2048;
/** Prompts of one request for completions. */
const MAX_PROMPTS = 16;

export interface ApiContext {
  pool: Backends;
  catalog: Catalog;
  /** Throws 403 where this request may not change which models there are, or are held in memory for others. */
  requireAdmin(): Promise<void>;
  /** Options that every generation gets unless the request says otherwise. */
  defaults: Record<string, unknown>;
}

type Usage = Record<string, unknown>;

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function usageOf(facts: AnswerFacts): Usage {
  return {
    prompt_tokens: facts.prompt_tokens,
    completion_tokens: facts.eval_count,
    total_tokens: facts.prompt_tokens + facts.eval_count,
    prompt_tokens_details: { cached_tokens: facts.prompt_tokens - facts.prompt_eval_count },
  };
}

function plain({ token, logprob, bytes }: TokenLogprob): object {
  return { token, logprob, bytes: bytes ?? null };
}

function chatLogprob(entry: TokenLogprob): object {
  return { ...plain(entry), top_logprobs: (entry.top_logprobs ?? []).map(plain) };
}

function chatLogprobs(tokens: readonly AnswerToken[]): object | null {
  const entries = tokens.flatMap((token) => (token.logprobs === null ? [] : [chatLogprob(token.logprobs)]));
  return entries.length === 0 ? null : { content: entries, refusal: null };
}

/** The older shape, of /v1/completions; offsets count characters from `offset`. */
function completionLogprobs(tokens: readonly AnswerToken[], offset: number): object | null {
  const entries = tokens.flatMap((token) => (token.logprobs === null ? [] : [token.logprobs]));
  if (entries.length === 0) return null;
  let at = offset;
  return {
    tokens: entries.map((entry) => entry.token),
    token_logprobs: entries.map((entry) => entry.logprob),
    top_logprobs: entries.map((entry) =>
      Object.fromEntries((entry.top_logprobs ?? []).map((other) => [other.token, other.logprob])),
    ),
    text_offset: entries.map((entry) => {
      const here = at;
      at += entry.token.length;
      return here;
    }),
  };
}

/** The calls of a whole answer, whose arguments are the text that the model wrote. */
function calledTools(tokens: readonly AnswerToken[]): object[] {
  const calls: { id: string; type: 'function'; function: { name: string; arguments: string } }[] = [];
  for (const { index, id = '', function: called } of tokens.flatMap(({ tool_calls: pieces }) => pieces ?? [])) {
    calls[index] ??= { id, type: 'function', function: { name: called.name ?? '', arguments: '' } };
    calls[index].function.arguments += called.arguments;
  }
  return calls;
}

function finishReason(facts: AnswerFacts): string {
  return facts.done_reason === 'stop' && facts.tool_calls !== undefined ? 'tool_calls' : facts.done_reason;
}

function event(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

function openaiWire(
  chunk: (choices: object[], usage?: Usage) => object,
  choice: ChoiceShape,
  withUsage: boolean,
): Wire {
  return {
    contentType: 'text/event-stream; charset=utf-8',
    begin: () => (choice.begin === null ? '' : event(chunk([choice.begin]))),
    token: (token) =>
      choice
        .token(token)
        .map((shown) => event(chunk([shown])))
        .join(''),
    end: (facts) =>
      event(chunk([choice.end(facts)])) + (withUsage ? event(chunk([], usageOf(facts))) : '') + 'data: [DONE]\n\n',
    error: (error) =>
      event({ error: { message: error.message, type: 'server_error', param: null, code: error.fields.code ?? null } }),
  };
}

/** The one choice of a streamed answer, piece by piece. */
interface ChoiceShape {
  begin: object | null;
  /** in one event each */
  token(token: AnswerToken): object[];
  end(facts: AnswerFacts): object;
}

function includesUsage(taken: Record<string, unknown>): boolean {
  if (taken.stream_options === undefined) return false;
  return flagOf(taken.stream_options as Record<string, unknown>, 'include_usage', false);
}

function chatRequest(
  api: ApiContext,
  taken: Record<string, unknown>,
  options: Record<string, unknown>,
  model: string,
): AnswerRequest {
  const all = { ...api.defaults, ...options };
  if (taken.max_completion_tokens !== undefined) {
    if (options.num_predict !== undefined) {
      throw new HttpError(400, 'fields max_tokens and max_completion_tokens mean the same and were both given');
    }
    all.num_predict = taken.max_completion_tokens;
  }
  return { model, prompt: messagesOf(taken.messages), options: all };
}

async function chatCompletions(c: Context, api: ApiContext): Promise<Response> {
  const { taken, options } = await readBody(c, CHAT_COMPLETIONS, OPENAI_NESTED);
  const { name: model, context_length: context } = await api.catalog.named(textOf(taken, 'model'));
  const request = chatRequest(api, taken, cappedContext(options, context), model);
  const head = { id: `chatcmpl-${randomUUID()}`, created: seconds(), model, system_fingerprint: null };
  if (flagOf(taken, 'stream', false)) {
    const withUsage = includesUsage(taken);
    const chunk = (choices: object[], usage?: Usage): object => ({
      ...head,
      object: 'chat.completion.chunk',
      choices,
      ...(withUsage ? { usage: usage ?? null } : {}),
    });
    const delta = (change: object, logprobs: object | null, reason: string | null): object => ({
      index: 0,
      delta: change,
      logprobs,
      finish_reason: reason,
    });
    return streamedAnswer(
      c,
      api.pool,
      request,
      openaiWire(
        chunk,
        {
          begin: delta({ role: 'assistant', content: '' }, null, null),
          token: (token) => {
            const { token: content, thinking, tool_calls: calls, logprobs } = token;
            if (content === '' && thinking === '' && calls === null && logprobs === null) return [];
            // Clients read one piece of a call in an event.
            const [first, ...further] = (calls ?? []).map((call) => ({ tool_calls: [call] }));
            const shown = {
              ...(content === '' && calls !== null ? {} : { content }),
              ...(thinking === '' ? {} : { reasoning: thinking }),
              ...first,
            };
            return [delta(shown, chatLogprobs([token]), null), ...further.map((more) => delta(more, null, null))];
          },
          end: (facts) => delta({}, null, finishReason(facts)),
        },
        withUsage,
      ),
    );
  }
  const { tokens, facts } = await wholeAnswer(c, api.pool, request);
  const calls = calledTools(tokens);
  return c.json({
    ...head,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: facts.text === '' && calls.length > 0 ? null : facts.text,
          refusal: null,
          ...(facts.thinking === undefined ? {} : { reasoning: facts.thinking }),
          ...(calls.length === 0 ? {} : { tool_calls: calls }),
        },
        logprobs: chatLogprobs(tokens),
        finish_reason: finishReason(facts),
      },
    ],
    usage: usageOf(facts),
  });
}

async function completions(c: Context, api: ApiContext): Promise<Response> {
  const { taken, options } = await readBody(c, COMPLETIONS, OPENAI_NESTED);
  const { name: model, context_length: context } = await api.catalog.named(textOf(taken, 'model'));
  const prompts = textsOf(taken, 'prompt', MAX_PROMPTS);
  // OpenAI's own default here is 16 tokens.
  const all: Record<string, unknown> = {
    ...api.defaults,
    num_predict: 16,
    ...cappedContext(options, context),
    raw: true,
  };
  if (taken.logprobs !== undefined) {
    all.logprobs = true;
    all.top_logprobs = taken.logprobs;
  }
  const head = { id: `cmpl-${randomUUID()}`, object: 'text_completion', created: seconds(), model };
  const requests = prompts.map((prompt): AnswerRequest => ({ model, prompt, options: all }));
  if (flagOf(taken, 'stream', false)) {
    if (requests.length > 1) throw new HttpError(400, 'a stream answers one prompt', { param: 'prompt' });
    const withUsage = includesUsage(taken);
    const chunk = (choices: object[], usage?: Usage): object => ({
      ...head,
      choices,
      ...(withUsage ? { usage: usage ?? null } : {}),
    });
    let offset = 0;
    const piece = (text: string, logprobs: object | null, reason: string | null): object => ({
      index: 0,
      text,
      logprobs,
      finish_reason: reason,
    });
    return streamedAnswer(
      c,
      api.pool,
      requests[0]!,
      openaiWire(
        chunk,
        {
          begin: null,
          token: (token) => {
            if (token.token === '' && token.logprobs === null) return [];
            const shown = piece(token.token, completionLogprobs([token], offset), null);
            offset += token.logprobs?.token.length ?? 0;
            return [shown];
          },
          end: (facts) => piece('', null, facts.done_reason),
        },
        withUsage,
      ),
    );
  }
  const answers: WholeAnswer[] = [];
  for (const request of requests) answers.push(await wholeAnswer(c, api.pool, request));
  const sum = (count: (facts: AnswerFacts) => number): number =>
    answers.reduce((total, { facts }) => total + count(facts), 0);
  const promptTokens = sum((facts) => facts.prompt_tokens);
  const written = sum((facts) => facts.eval_count);
  return c.json({
    ...head,
    choices: answers.map(({ tokens, facts }, index) => ({
      index,
      text: facts.text,
      logprobs: completionLogprobs(tokens, 0),
      finish_reason: facts.done_reason,
    })),
    usage: { prompt_tokens: promptTokens, completion_tokens: written, total_tokens: promptTokens + written },
  });
}

async function embed(c: Context, api: ApiContext): Promise<Response> {
  const { taken, options } = await readBody(c, EMBEDDINGS);
  const model = await api.catalog.embeddingModel(textOf(taken, 'model'));
  const format = textOf(taken, 'encoding_format') ?? 'float';
  if (format !== 'float' && format !== 'base64') {
    throw new HttpError(400, 'field encoding_format must be float or base64', { param: 'encoding_format' });
  }
  const inputs = textsOf(taken, 'input', MAX_INPUTS);
  const { vectors, promptTokens } = await embeddings(
    api.pool,
    model,
    inputs,
    // What is too long is refused, as OpenAI does.
    { truncate: false, ...options },
    c.req.raw.signal,
  );
  return c.json({
    object: 'list',
    model,
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: format === 'float' ? vector : Buffer.from(Float32Array.from(vector).buffer).toString('base64'),
    })),
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  });
}

/** The routes below /v1. */
export function openaiRoutes(api: ApiContext): Hono {
  const shown = ({ name, ingested_at }: { name: string; ingested_at: Date }): object => ({
    id: name,
    object: 'model',
    created: Math.floor(ingested_at.getTime() / 1000),
    owned_by: 'hartonomous',
  });
  return new Hono()
    .post('/chat/completions', (c) => chatCompletions(c, api))
    .post('/completions', (c) => completions(c, api))
    .post('/embeddings', (c) => embed(c, api))
    .get('/models', async (c) => c.json({ object: 'list', data: (await api.catalog.models()).map(shown) }))
    .get('/models/:model{.+}', async (c) => c.json(shown(await api.catalog.model(c.req.param('model')))));
}
