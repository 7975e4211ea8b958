/** Which fields of a request mean what: taken, an option of SQL, ignored, or refused because they change the answer. */
import { HttpError } from './errors.ts';

export type Treatment =
  /** the route uses it */
  | 'take'
  /** an option of SQL with the same name */
  | 'option'
  /** an option of SQL with this name */
  | { option: string }
  /** changes nothing that is said; named in a header of the response */
  | 'ignore'
  /** would change the answer, unless it has one of these values */
  | { harmless: readonly unknown[] };

export type FieldTable = Readonly<Record<string, Treatment>>;

export const IGNORED_HEADER = 'X-Hartonomous-Ignored';

/** What the server remarked on the request, as keywords of a schema that nobody defines. */
export const NOTICE_HEADER = 'X-Hartonomous-Notice';

export interface SortedFields {
  taken: Record<string, unknown>;
  options: Record<string, unknown>;
  ignored: string[];
}

/** Sort the fields of a body; null is as good as absent. Unknown ones are ignored. Throws 400 naming the field that is refused. */
export function sortFields(body: Record<string, unknown>, table: FieldTable, prefix = ''): SortedFields {
  const sorted: SortedFields = { taken: {}, options: {}, ignored: [] };
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined) continue;
    const shown = prefix + name.slice(0, 64);
    // 1e999 is JSON, and would go on as null.
    if (value === Infinity || value === -Infinity) throw new HttpError(400, `field ${shown} is not finite`);
    const treatment = Object.hasOwn(table, name) ? table[name]! : undefined;
    // Clients send what other servers know.
    if (treatment === undefined) sorted.ignored.push(shown);
    else if (treatment === 'take') sorted.taken[name] = value;
    else if (treatment === 'option') sorted.options[name] = value;
    else if (treatment === 'ignore') sorted.ignored.push(shown);
    else if ('option' in treatment) sorted.options[treatment.option] = value;
    else if (treatment.harmless.some((harmless) => JSON.stringify(harmless) === JSON.stringify(value))) continue;
    else throw new HttpError(400, `field ${shown} is not supported`, { param: shown, code: 'unsupported_parameter' });
  }
  return sorted;
}

/** Options of SQL that neither protocol has, taken from both. */
const OWN_OPTIONS: FieldTable = Object.fromEntries(
  [
    'top_k',
    'min_p',
    'typical_p',
    'repeat_penalty',
    'repeat_last_n',
    'num_ctx',
    'num_thread',
    'cache',
    'precision',
    'grammar',
  ].map((name) => [name, 'option' as const]),
);

const SAMPLING: FieldTable = {
  temperature: 'option',
  top_p: 'option',
  presence_penalty: 'option',
  frequency_penalty: 'option',
  seed: 'option',
  stop: 'option',
  ...OWN_OPTIONS,
};

const TOOLS: FieldTable = { tools: 'option', tool_choice: 'option', parallel_tool_calls: 'option' };

/** Fields of OpenAI that say nothing about the answer. */
const OPENAI_IGNORED: FieldTable = Object.fromEntries(
  [
    'user',
    'store',
    'metadata',
    'service_tier',
    'safety_identifier',
    'prompt_cache_key',
    'prompt_cache_retention',
    'prompt_cache_options',
    'moderation',
    'prediction',
    'keep_alive',
  ].map((name) => [name, 'ignore' as const]),
);

export const CHAT_COMPLETIONS: FieldTable = {
  ...SAMPLING,
  ...OPENAI_IGNORED,
  model: 'take',
  messages: 'take',
  stream: 'take',
  stream_options: 'take',
  ...TOOLS,
  verbosity: 'ignore',
  max_tokens: { option: 'num_predict' },
  max_completion_tokens: 'take',
  logprobs: 'option',
  top_logprobs: 'option',
  logit_bias: 'option',
  response_format: 'option',
  n: { harmless: [1] },
  modalities: { harmless: [['text']] },
  reasoning_effort: 'option',
  reasoning: 'take',
  think: 'option',
  enable_thinking: 'option',
  chat_template_kwargs: 'option',
  mirostat: { harmless: [0] },
  audio: { harmless: [] },
  functions: { harmless: [[]] },
  function_call: { harmless: ['none'] },
  web_search_options: { harmless: [] },
};

/** Fields of fields of OpenAI's requests. */
export const OPENAI_NESTED: Readonly<Record<string, FieldTable>> = {
  stream_options: { include_usage: 'take', include_obfuscation: 'ignore' },
  // Ollama's, and that of OpenAI's newer endpoint.
  reasoning: { effort: { option: 'reasoning_effort' } },
};

export const COMPLETIONS: FieldTable = {
  ...SAMPLING,
  ...OPENAI_IGNORED,
  model: 'take',
  prompt: 'take',
  stream: 'take',
  stream_options: 'take',
  logprobs: 'take',
  max_tokens: { option: 'num_predict' },
  logit_bias: 'option',
  n: { harmless: [1] },
  best_of: { harmless: [1] },
  echo: { harmless: [false] },
  suffix: { harmless: [''] },
  mirostat: { harmless: [0] },
};

export const EMBEDDINGS: FieldTable = {
  model: 'take',
  input: 'take',
  encoding_format: 'take',
  user: 'ignore',
  dimensions: 'option',
  truncate: 'option',
};

/** Fields that Ollama's requests share. */
const OLLAMA: FieldTable = {
  model: 'take',
  stream: 'take',
  format: 'take',
  options: 'take',
  logprobs: 'option',
  top_logprobs: 'option',
  keep_alive: 'take',
  think: 'option',
};

export const OLLAMA_GENERATE: FieldTable = {
  ...OLLAMA,
  prompt: 'take',
  system: 'option',
  template: 'option',
  raw: 'option',
  suffix: { harmless: [''] },
  images: { harmless: [[]] },
  context: { harmless: [[]] },
};

/** Ollama knows no tool_choice and no parallel_tool_calls. */
export const OLLAMA_CHAT: FieldTable = { ...OLLAMA, ...TOOLS, messages: 'take' };

export const OLLAMA_EMBED: FieldTable = {
  model: 'take',
  input: 'take',
  options: 'take',
  keep_alive: 'ignore',
  truncate: 'option',
  dimensions: 'option',
};

/** The older endpoint, which clients still ask. */
export const OLLAMA_EMBEDDINGS: FieldTable = { model: 'take', prompt: 'take', options: 'take', keep_alive: 'ignore' };

export const OLLAMA_SHOW: FieldTable = { model: 'take', name: 'take', verbose: 'ignore' };

/** `options` of Ollama's requests. */
export const OLLAMA_OPTIONS: FieldTable = {
  ...SAMPLING,
  num_predict: 'option',
  ...Object.fromEntries(
    [
      'num_gpu',
      'main_gpu',
      'num_batch',
      'num_keep',
      'numa',
      'low_vram',
      'f16_kv',
      'use_mmap',
      'use_mlock',
      'vocab_only',
      'mirostat_tau',
      'mirostat_eta',
    ].map((name) => [name, 'ignore' as const]),
  ),
  mirostat: { harmless: [0] },
  tfs_z: { harmless: [1] },
  penalize_newline: { harmless: [true] },
};
