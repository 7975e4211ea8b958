/** Ollama's endpoints: /api/generate, /api/chat, /api/embed(dings), /api/tags, /api/show, /api/ps, /api/version. */
import type { Context } from 'hono';
import { Hono } from 'hono';
import type { AnswerFacts, AnswerRequest, AnswerToken, ToolCall } from '../answer/backend.ts';
import { writeJson } from '../../plv8/src/format/ordered-json.ts';
import { thinkingFamily } from '../../plv8/src/format/thinking-families.ts';
import { showsTools } from '../../plv8/src/format/tool-families.ts';
import type { ShownModel } from '../answer/show-model.ts';
import { quantization } from '../answer/show-model.ts';
import { formatCount } from '../output.ts';
import type { Wire } from './answers.ts';
import { streamedAnswer, wholeAnswer } from './answers.ts';
import { loadModel } from './backends.ts';
import type { ListedModel } from './catalog.ts';
import { embeddings } from './embeddings.ts';
import { engineFacts } from './engine-metrics.ts';
import { HttpError, ollamaError } from './errors.ts';
import type { SortedFields } from './fields.ts';
import {
  IGNORED_HEADER,
  OLLAMA_CHAT,
  OLLAMA_EMBED,
  OLLAMA_EMBEDDINGS,
  OLLAMA_GENERATE,
  OLLAMA_OPTIONS,
  OLLAMA_SHOW,
} from './fields.ts';
import type { ApiContext } from './openai.ts';
import { cappedContext, flagOf, messagesOf, readBody, textOf, textsOf } from './request.ts';

const MAX_INPUTS = 2048;

/** Options of generation say nothing about an embedding. */
const IGNORED_OPTIONS = Object.fromEntries(Object.keys(OLLAMA_OPTIONS).map((name) => [name, 'ignore' as const]));

/** A message or a response with what was written, thought and called, under the keys its endpoint has. */
type Content = (answer: Partial<Pick<AnswerFacts, 'text' | 'thinking' | 'tool_calls'>>) => object;

function now(): string {
  return new Date().toISOString();
}

function factsOf(facts: AnswerFacts): object {
  return {
    done: true,
    done_reason: facts.done_reason,
    total_duration: facts.total_duration,
    load_duration: facts.load_duration,
    // As Ollama counts them, those found in a cache too.
    prompt_eval_count: facts.prompt_tokens,
    prompt_eval_duration: facts.prompt_eval_duration,
    eval_count: facts.eval_count,
    eval_duration: facts.eval_duration,
  };
}

function thought(thinking: string | undefined): object {
  return thinking === undefined || thinking === '' ? {} : { thinking };
}

function shownCall({ id, function: called }: ToolCall, index: number): object {
  return { id, function: { index, ...called } };
}

function logprobsOf(tokens: readonly AnswerToken[]): object {
  const entries = tokens.flatMap((token) => (token.logprobs === null ? [] : [token.logprobs]));
  return entries.length === 0 ? {} : { logprobs: entries };
}

function line(value: object): string {
  return `${writeJson(value)}\n`;
}

function ollamaWire(model: string, content: Content): Wire {
  return {
    contentType: 'application/x-ndjson',
    begin: () => '',
    token: (token) =>
      token.token === '' && token.thinking === '' && token.logprobs === null
        ? ''
        : line({
            model,
            created_at: now(),
            ...content({ text: token.token, thinking: token.thinking }),
            done: false,
            ...logprobsOf([token]),
          }),
    // Calls go out whole, as their arguments are an object.
    end: (facts) =>
      (facts.tool_calls === undefined
        ? ''
        : line({ model, created_at: now(), ...content({ tool_calls: facts.tool_calls }), done: false })) +
      line({ model, created_at: now(), ...content({}), ...factsOf(facts) }),
    error: (error) => line(ollamaError(error)),
  };
}

/** `format`: "json" or a schema. */
function responseFormat(format: unknown): Record<string, unknown> {
  if (format === undefined || format === '') return {};
  if (format === 'json') return { response_format: { type: 'json_object' } };
  if (typeof format === 'object' && format !== null)
    return { response_format: { type: 'json_schema', json_schema: { name: 'format', schema: format } } };
  throw new HttpError(400, 'field format must be json or a JSON schema', { param: 'format' });
}

/** `keep_alive`: 0, or a text like 0s. */
function isZero(keepAlive: unknown): boolean {
  return keepAlive === 0 || (typeof keepAlive === 'string' && /^0+(\.0+)?(ns|us|ms|s|m|h)?$/.test(keepAlive));
}

async function answer(
  c: Context,
  api: ApiContext,
  { taken, options }: SortedFields,
  prompt: AnswerRequest['prompt'],
  content: Content,
): Promise<Response> {
  const { name: model, context_length: context } = await api.catalog.named(textOf(taken, 'model'));
  // Nothing to answer: clients ask so to have a model loaded, or freed.
  if (prompt.length === 0) {
    const leave = isZero(taken.keep_alive);
    if (leave) {
      await api.requireAdmin();
      await api.pool.unload(model);
    } else await api.pool.use('', c.req.raw.signal, (backend) => loadModel(backend, model));
    const reason = leave ? 'unload' : 'load';
    return c.json({ model, created_at: now(), ...content({}), done: true, done_reason: reason });
  }
  if (taken.keep_alive !== undefined) c.header(IGNORED_HEADER, 'keep_alive', { append: true });
  const request: AnswerRequest = {
    model,
    prompt,
    options: { ...api.defaults, ...cappedContext(options, context), ...responseFormat(taken.format) },
  };
  if (flagOf(taken, 'stream', true)) return streamedAnswer(c, api.pool, request, ollamaWire(model, content));
  const { tokens, facts } = await wholeAnswer(c, api.pool, request);
  const whole = { model, created_at: now(), ...content(facts), ...factsOf(facts), ...logprobsOf(tokens) };
  return c.body(writeJson(whole), 200, { 'Content-Type': 'application/json' });
}

async function generate(c: Context, api: ApiContext): Promise<Response> {
  const fields = await readBody(c, OLLAMA_GENERATE, { options: OLLAMA_OPTIONS });
  return answer(c, api, fields, textOf(fields.taken, 'prompt') ?? '', ({ text = '', thinking }) => ({
    response: text,
    ...thought(thinking),
  }));
}

async function chat(c: Context, api: ApiContext): Promise<Response> {
  const fields = await readBody(c, OLLAMA_CHAT, { options: OLLAMA_OPTIONS });
  const messages = messagesOf(fields.taken.messages ?? []);
  return answer(c, api, fields, messages, ({ text = '', thinking, tool_calls: calls }) => ({
    message: {
      role: 'assistant',
      content: text,
      ...thought(thinking),
      ...(calls === undefined ? {} : { tool_calls: calls.map(shownCall) }),
    },
  }));
}

async function embed(c: Context, api: ApiContext): Promise<Response> {
  const started = performance.now();
  const { taken, options } = await readBody(c, OLLAMA_EMBED, { options: IGNORED_OPTIONS });
  const model = await api.catalog.embeddingModel(textOf(taken, 'model'));
  const inputs = textsOf(taken, 'input', MAX_INPUTS);
  const { vectors, promptTokens } = await embeddings(api.pool, model, inputs, options, c.req.raw.signal);
  return c.json({
    model,
    embeddings: vectors,
    total_duration: Math.round((performance.now() - started) * 1e6),
    load_duration: 0,
    prompt_eval_count: promptTokens,
  });
}

/** One text's embedding, by the endpoint that /api/embed replaced; no text has an empty one. */
async function embedOne(c: Context, api: ApiContext): Promise<Response> {
  const { taken, options } = await readBody(c, OLLAMA_EMBEDDINGS, { options: IGNORED_OPTIONS });
  const model = await api.catalog.embeddingModel(textOf(taken, 'model'));
  const prompt = textOf(taken, 'prompt') ?? '';
  if (prompt === '') return c.json({ embedding: [] });
  const { vectors } = await embeddings(api.pool, model, [prompt], options, c.req.raw.signal);
  return c.json({ embedding: vectors[0] });
}

function detailsOf(model: ListedModel, quantizationLevel: string): object {
  return {
    parent_model: '',
    format: model.source_format,
    family: model.architecture,
    families: [model.architecture],
    parameter_size: formatCount(Number(model.parameter_count)),
    quantization_level: quantizationLevel,
  };
}

async function listed(api: ApiContext, model: ListedModel): Promise<object> {
  return {
    name: model.name,
    model: model.name,
    modified_at: model.ingested_at.toISOString(),
    size: Number(model.source_bytes),
    digest: model.digest,
    details: detailsOf(model, quantization(await api.catalog.details(model.name))),
  };
}

/** `pooling_type` of a reranker. */
const RANKS = 4;

/** What Ollama's clients decide by. */
function capabilitiesOf(details: ShownModel): string[] {
  // Ollama has no name for what a reranker does.
  if (details.metadata[`${details.architecture}.pooling_type`] === RANKS) return [];
  if (details.is_embedder) return ['embedding'];
  const template = details.chat_template ?? '';
  return [
    'completion',
    ...(showsTools(template) ? ['tools'] : []),
    ...(thinkingFamily(template) === null ? [] : ['thinking']),
  ];
}

async function show(c: Context, api: ApiContext): Promise<Response> {
  const { taken } = await readBody(c, OLLAMA_SHOW);
  const name = textOf(taken, 'model') ?? textOf(taken, 'name');
  const model = await api.catalog.named(name);
  const details = await api.catalog.details(model.name);
  const parameters = Object.entries(details.default_options).flatMap(([option, value]) =>
    (Array.isArray(value) ? (value as unknown[]) : [value]).map(
      (item) => `${option.padEnd(30)} ${typeof item === 'string' ? JSON.stringify(item) : String(item)}`,
    ),
  );
  return c.json({
    license: details.license ?? '',
    modelfile: '',
    parameters: parameters.join('\n'),
    template: details.chat_template ?? '',
    system: details.system_prompt ?? '',
    details: detailsOf(model, quantization(details)),
    model_info: {
      'general.architecture': details.architecture,
      'general.parameter_count': details.parameter_count,
      ...details.metadata,
    },
    capabilities: capabilitiesOf(details),
    modified_at: model.ingested_at.toISOString(),
  });
}

/** When a model leaves memory is not known: with its backend. Clients want a time, so it is a far one. */
const NEVER = '9999-12-31T23:59:59Z';

/** The routes below /api. */
export function ollamaRoutes(api: ApiContext, version: string): Hono {
  return new Hono()
    .post('/generate', (c) => generate(c, api))
    .post('/chat', (c) => chat(c, api))
    .post('/embed', (c) => embed(c, api))
    .post('/embeddings', (c) => embedOne(c, api))
    .post('/show', (c) => show(c, api))
    .get('/tags', async (c) =>
      c.json({ models: await Promise.all((await api.catalog.models()).map((model) => listed(api, model))) }),
    )
    .get('/ps', async (c) => {
      const [models, engine] = await Promise.all([api.catalog.loaded(), api.catalog.engine()]);
      return c.json({
        ...(engine === null ? {} : { engine: engineFacts(engine) }),
        models: await Promise.all(
          models.map(async (model) => ({
            ...(await listed(api, model)),
            expires_at: NEVER,
            size_vram: 0,
            context_length: model.context_length,
          })),
        ),
      });
    })
    .get('/version', (c) => c.json({ version }));
}
