/** The options of every generation function: one table says what each option is. */
import { raise, SQLSTATE } from '../errors.ts';
import type { AblatedParts } from '../format/ablated-parts.ts';
import { ablatedParts } from './ablate-option.ts';
import type { Grammar } from './constraint/grammar.ts';
import type { SamplerOptions } from './sampler.ts';
import { quoted } from '../format/visible-text.ts';

export interface GenerateOptions {
  /** most tokens to generate; -1 until the context is full */
  numPredict: number;
  /** context length; null for min(the model's, 4096) */
  numCtx: number | null;
  /** threads that compute, at most; null or 0 for as many as the server allows */
  numThread: number | null;
  /** strings that end the answer and are not part of it */
  stop: string[];
  /** continue the text instead of applying the chat template */
  raw: boolean;
  /** reuse what the key/value cache already holds of the prompt */
  cache: boolean;
  /** write the run to hartonomous.runs; null leaves it to the settings */
  record: boolean | null;
  precision: 'auto' | 'f32' | 'q8';
  /** system message where the conversation has none; null for the model's own */
  system: string | null;
  /** name of a chat format or Jinja text; null for the model's own */
  template: string | null;
  /** tools that the template may list, in OpenAI's form; null for none */
  tools: unknown[] | null;
  /** whether the answer may, or has to, be a call of one of the tools, or of which */
  toolChoice: 'auto' | 'required' | { name: string };
  /** whether an answer may be several calls */
  parallelToolCalls: boolean;
  /** read control tokens that stand in the caller's text as tokens, as llama.cpp does */
  parseSpecial: boolean;
  /** whether, or how much, the model thinks before it answers; null for what the template does by itself */
  think: boolean | string | null;
  /** further variables of the template */
  templateVariables: Record<string, unknown>;
  /** end a conversation with the beginning of the assistant's turn */
  addGenerationPrompt: boolean;
  /** report the log-probability of each token */
  logprobs: boolean;
  /** alternatives to report per token */
  topLogprobs: number;
  /** parts of the network that are left out; null for none */
  ablate: AblatedParts | null;
  /** what the answer has to be; null for any text */
  constraint: Grammar | null;
  sampler: SamplerOptions & { seed: number };
}

interface NumberRule {
  kind: 'integer' | 'number';
  from: number;
  to: number;
  fallback: number | null;
}
interface FlagRule {
  kind: 'boolean';
  fallback: boolean | null;
}
interface TextRule {
  kind: 'text';
}
interface OwnRule {
  kind:
    | 'ablate'
    | 'stop'
    | 'tools'
    | 'tool_choice'
    | 'precision'
    | 'logit_bias'
    | 'response_format'
    | 'think'
    | 'template_variables';
}
type Rule = (NumberRule | FlagRule | TextRule | OwnRule) & { alias?: string };

const MAX_STOPS = 64;
const MAX_STOP_LENGTH = 1024;
const MAX_BIASES = 100_000;
const MAX_BIAS = 1e6;
const MAX_COUNT = 2 ** 31 - 1;

/** Seeds drawn when none is given: positive and exact in JSON. */
const DRAWN_SEEDS = 2 ** 31;

const PRECISIONS = ['auto', 'f32', 'q8'] as const;

const integer = (from: number, to: number, fallback: number | null): NumberRule => ({
  kind: 'integer',
  from,
  to,
  fallback,
});
const number = (from: number, to: number, fallback: number): NumberRule => ({ kind: 'number', from, to, fallback });

/** Names, types, ranges and defaults; the defaults are Ollama's. */
const RULES: Readonly<Record<string, Rule>> = {
  num_predict: integer(-1, MAX_COUNT, 128),
  num_ctx: integer(1, MAX_COUNT, null),
  num_thread: integer(0, MAX_COUNT, null),
  temperature: number(0, 100, 0.8),
  top_k: integer(0, MAX_COUNT, 40),
  top_p: number(0, 1, 0.9),
  min_p: number(0, 1, 0),
  typical_p: number(0, 1, 1),
  repeat_penalty: number(0.01, 100, 1.1),
  repeat_last_n: integer(-1, MAX_COUNT, 64),
  presence_penalty: number(-100, 100, 0),
  frequency_penalty: number(-100, 100, 0),
  seed: integer(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, null),
  stop: { kind: 'stop' },
  raw: { kind: 'boolean', fallback: false },
  cache: { kind: 'boolean', fallback: true },
  record: { kind: 'boolean', fallback: null },
  system: { kind: 'text' },
  template: { kind: 'text' },
  tools: { kind: 'tools' },
  tool_choice: { kind: 'tool_choice' },
  parallel_tool_calls: { kind: 'boolean', fallback: true },
  think: { kind: 'think' },
  enable_thinking: { kind: 'boolean', fallback: null },
  reasoning_effort: { kind: 'think' },
  chat_template_kwargs: { kind: 'template_variables' },
  parse_special: { kind: 'boolean', fallback: false },
  add_generation_prompt: { kind: 'boolean', fallback: true },
  precision: { kind: 'precision' },
  logit_bias: { kind: 'logit_bias' },
  max_tokens: { ...integer(-1, MAX_COUNT, null), alias: 'num_predict' },
  logprobs: { kind: 'boolean', fallback: false },
  top_logprobs: integer(0, 20, 0),
  response_format: { kind: 'response_format' },
  grammar: { kind: 'text' },
  ablate: { kind: 'ablate' },
};

/** Ollama's options about hardware, which is not the caller's here. `num_thread` is none of them. */
const HARDWARE: ReadonlySet<string> = new Set([
  'numa',
  'num_batch',
  'num_gpu',
  'main_gpu',
  'low_vram',
  'f16_kv',
  'logits_all',
  'vocab_only',
  'use_mmap',
  'use_mlock',
]);

/** Names among these options that change nothing. */
export function ignoredOptions(given: Record<string, unknown>): string[] {
  return Object.keys(given).filter((key) => HARDWARE.has(key));
}

/**
 * Parse options; null and missing values mean the default: the model's own where it recommends one, else that of the
 * table. `grammar` is what the answer has to be when the function says so. Throws invalidParameterValue naming key and value.
 */
export function parseOptions(
  asked: Record<string, unknown>,
  recommended: Record<string, unknown> = {},
  grammar: Grammar | null = null,
): GenerateOptions {
  if (typeof asked !== 'object' || asked === null || Array.isArray(asked)) {
    raise(SQLSTATE.invalidParameterValue, `options must be a JSON object, got ${show(asked)}`);
  }
  const given = withRecommended(asked, recommended);
  for (const key of Object.keys(given)) {
    if (HARDWARE.has(key)) continue;
    if (!Object.hasOwn(RULES, key)) refuseUnknown(key);
    const alias = RULES[key]!.alias;
    if (alias !== undefined && isGiven(given, key) && isGiven(given, alias)) {
      raise(SQLSTATE.invalidParameterValue, `options ${alias} and ${key} mean the same and were both given`);
    }
  }
  const constraint = constraintOf(given, grammar);
  if (constraint !== null && stopsOf(asked).length > 0) {
    raise(SQLSTATE.invalidParameterValue, `option stop cannot stand beside a ${constraint.kind.replace('_', ' ')}`);
  }
  const maximum = numberOf(given, 'max_tokens');
  const topLogprobs = numberOf(given, 'top_logprobs')!;
  const think = thinkOf(given);
  const ablate = isGiven(given, 'ablate') ? ablatedParts(given.ablate) : null;
  const tools = toolsOf(given);
  const toolChoice = toolChoiceOf(given);
  if (tools === null && toolChoice !== 'auto' && toolChoice !== 'none') {
    raise(SQLSTATE.invalidParameterValue, `option tool_choice is ${show(given.tool_choice)}, and there are no tools`);
  }
  return {
    numPredict: maximum ?? numberOf(given, 'num_predict')!,
    numCtx: numberOf(given, 'num_ctx'),
    numThread: numberOf(given, 'num_thread'),
    stop: constraint === null ? stopsOf(given) : [],
    raw: flagOf(given, 'raw')!,
    cache: flagOf(given, 'cache')! && ablate === null,
    record: flagOf(given, 'record'),
    precision: precisionOf(given),
    system: textOf(given, 'system'),
    template: textOf(given, 'template'),
    tools: toolChoice === 'none' ? null : tools,
    toolChoice: toolChoice === 'none' ? 'auto' : toolChoice,
    parallelToolCalls: flagOf(given, 'parallel_tool_calls')!,
    think,
    templateVariables: templateVariablesOf(given, think),
    parseSpecial: flagOf(given, 'parse_special')!,
    addGenerationPrompt: flagOf(given, 'add_generation_prompt')!,
    logprobs: flagOf(given, 'logprobs')! || topLogprobs > 0,
    topLogprobs,
    ablate,
    constraint,
    sampler: {
      temperature: numberOf(given, 'temperature')!,
      topK: numberOf(given, 'top_k')!,
      topP: numberOf(given, 'top_p')!,
      minP: numberOf(given, 'min_p')!,
      typicalP: numberOf(given, 'typical_p')!,
      repeatPenalty: numberOf(given, 'repeat_penalty')!,
      repeatLastN: numberOf(given, 'repeat_last_n')!,
      presencePenalty: numberOf(given, 'presence_penalty')!,
      frequencyPenalty: numberOf(given, 'frequency_penalty')!,
      logitBias: biasesOf(given),
      seed: numberOf(given, 'seed') ?? Math.floor(Math.random() * DRAWN_SEEDS),
    },
  };
}

/**
 * What was asked for, and what the model recommends where nothing was. A source recommends for other programs too, so
 * names that are not ours are passed over.
 */
function withRecommended(
  asked: Record<string, unknown>,
  recommended: Record<string, unknown>,
): Record<string, unknown> {
  const given = { ...asked };
  for (const [key, value] of Object.entries(recommended)) {
    if (!Object.hasOwn(RULES, key)) continue;
    const other = RULES[key]!.alias ?? Object.keys(RULES).find((name) => RULES[name]!.alias === key);
    if (!isGiven(asked, key) && (other === undefined || !isGiven(asked, other))) given[key] = value;
  }
  return given;
}

export function isGiven(given: Record<string, unknown>, key: string): boolean {
  return given[key] !== undefined && given[key] !== null;
}

/** A value for an error message; long ones are cut. */
export function show(value: unknown): string {
  return quoted(value, 60);
}

export function refuse(key: string, rule: string, value: unknown): never {
  raise(SQLSTATE.invalidParameterValue, `option ${key} must be ${rule}, got ${show(value)}`);
}

function numberOf(given: Record<string, unknown>, key: string): number | null {
  const rule = RULES[key] as NumberRule;
  if (!isGiven(given, key)) return rule.fallback;
  const value = given[key];
  const words = rule.kind === 'integer' ? 'an integer' : 'a number';
  const valid =
    typeof value === 'number' &&
    (rule.kind === 'integer' ? Number.isInteger(value) : Number.isFinite(value)) &&
    value >= rule.from &&
    value <= rule.to;
  if (!valid) refuse(key, `${words} between ${rule.from} and ${rule.to}`, value);
  return value;
}

function flagOf(given: Record<string, unknown>, key: string): boolean | null {
  if (!isGiven(given, key)) return (RULES[key] as FlagRule).fallback;
  const value = given[key];
  if (typeof value !== 'boolean') refuse(key, 'true or false', value);
  return value;
}

function textOf(given: Record<string, unknown>, key: string): string | null {
  if (!isGiven(given, key)) return null;
  const value = given[key];
  if (typeof value !== 'string') refuse(key, 'a text', value);
  return value;
}

/** How much to think, as OpenAI and Ollama say it; `none` is not at all. */
const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'];

function thinkOf(given: Record<string, unknown>): boolean | string | null {
  const names = ['think', 'enable_thinking', 'reasoning_effort'].filter((name) => isGiven(given, name));
  if (names.length > 1) {
    raise(SQLSTATE.invalidParameterValue, `options ${names.join(' and ')} mean the same and were both given`);
  }
  const effort = (name: string): boolean | string | null => {
    const value = given[name];
    if (!isGiven(given, name) || (name === 'think' && typeof value === 'boolean'))
      return (value ?? null) as boolean | null;
    if (typeof value !== 'string' || !EFFORTS.includes(value)) {
      refuse(name, `${name === 'think' ? 'true, false or ' : ''}one of ${EFFORTS.join(', ')}`, value);
    }
    return value === 'none' ? false : value;
  };
  return effort('think') ?? flagOf(given, 'enable_thinking') ?? effort('reasoning_effort');
}

/** What the template reads beside messages and tools: the caller's own variables, and the names that families have for thinking. */
function templateVariablesOf(given: Record<string, unknown>, think: boolean | string | null): Record<string, unknown> {
  const own = isGiven(given, 'chat_template_kwargs') ? given.chat_template_kwargs : {};
  if (typeof own !== 'object' || own === null || Array.isArray(own)) refuse('chat_template_kwargs', 'an object', own);
  if (think === null) return own as Record<string, unknown>;
  const thinks = think !== false;
  return {
    enable_thinking: thinks,
    thinking: thinks,
    ...(typeof think === 'string' ? { reasoning_effort: think } : {}),
    ...own,
  };
}

function toolsOf(given: Record<string, unknown>): unknown[] | null {
  if (!isGiven(given, 'tools')) return null;
  const { tools } = given;
  if (!Array.isArray(tools) || tools.some((tool) => typeof tool !== 'object' || tool === null || Array.isArray(tool))) {
    refuse('tools', 'an array of objects', tools);
  }
  // Templates test whether there are tools, and an empty list is true in Jinja's `is defined`.
  return tools.length === 0 ? null : (tools as unknown[]);
}

/** As OpenAI has it: none, auto, required, or {"type": "function", "function": {"name": ...}}. */
function toolChoiceOf(given: Record<string, unknown>): GenerateOptions['toolChoice'] | 'none' {
  if (!isGiven(given, 'tool_choice')) return 'auto';
  const choice = given.tool_choice as string | { function?: { name?: unknown } };
  if (choice === 'none' || choice === 'auto' || choice === 'required') return choice;
  const name = typeof choice === 'object' ? choice.function?.name : undefined;
  if (typeof name !== 'string') {
    refuse('tool_choice', 'none, auto, required or {"type": "function", "function": {"name": ...}}', choice);
  }
  return { name };
}

export function precisionOf(given: Record<string, unknown>): GenerateOptions['precision'] {
  if (!isGiven(given, 'precision')) return 'auto';
  const found = PRECISIONS.find((name) => name === given.precision);
  if (found === undefined) refuse('precision', `one of ${PRECISIONS.join(', ')}`, given.precision);
  return found;
}

function stopsOf(given: Record<string, unknown>): string[] {
  if (!isGiven(given, 'stop')) return [];
  const stops: unknown[] = Array.isArray(given.stop) ? given.stop : [given.stop];
  if (stops.length > MAX_STOPS) refuse('stop', `at most ${MAX_STOPS} strings`, stops.length);
  return stops.map((stop) => {
    if (typeof stop !== 'string') refuse('stop', 'a string or an array of strings', given.stop);
    if (stop === '') refuse('stop', 'strings that are not empty', stop);
    if (stop.length > MAX_STOP_LENGTH) refuse('stop', `strings of at most ${MAX_STOP_LENGTH} characters`, stop.length);
    return stop;
  });
}

/** {"token id": bias}, as OpenAI has it. */
function biasesOf(given: Record<string, unknown>): Map<number, number> {
  const biases = new Map<number, number>();
  if (!isGiven(given, 'logit_bias')) return biases;
  const value = given.logit_bias;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    refuse('logit_bias', 'an object of token id to bias', value);
  }
  const entries = Object.entries(value);
  if (entries.length > MAX_BIASES) refuse('logit_bias', `at most ${MAX_BIASES} entries`, entries.length);
  for (const [key, bias] of entries) {
    if (!/^\d{1,9}$/.test(key)) refuse('logit_bias', 'an object whose keys are token ids', key);
    if (typeof bias !== 'number' || !(Math.abs(bias) <= MAX_BIAS)) {
      refuse('logit_bias', `an object whose values are numbers between -${MAX_BIAS} and ${MAX_BIAS}`, bias);
    }
    biases.set(Number(key), bias);
  }
  return biases;
}

/** What the answer has to be, which is said once: by the function, option response_format or option grammar. */
function constraintOf(given: Record<string, unknown>, byFunction: Grammar | null): Grammar | null {
  const text = textOf(given, 'grammar');
  const said = [
    { by: byFunction?.kind.replace('_', ' '), grammar: byFunction },
    { by: 'option response_format', grammar: formatOf(given) },
    { by: 'option grammar', grammar: text === null ? null : ({ kind: 'grammar', text } as const) },
  ].filter(({ grammar }) => grammar !== null);
  const [first, second] = said;
  if (second !== undefined) {
    raise(
      SQLSTATE.invalidParameterValue,
      `${second.by} cannot stand beside ${byFunction === null ? first!.by : `a ${first!.by}`}`,
    );
  }
  return first?.grammar ?? null;
}

/** OpenAI's response_format: text, json_object, or json_schema with the schema where OpenAI has it or directly. */
function formatOf(given: Record<string, unknown>): Grammar | null {
  if (!isGiven(given, 'response_format')) return null;
  const format = given.response_format as { type?: unknown; schema?: unknown; json_schema?: { schema?: unknown } };
  const type = typeof format === 'object' ? format.type : undefined;
  if (type === 'text') return null;
  if (type === 'json_object') return { kind: 'json_object' };
  if (type !== 'json_schema') {
    refuse('response_format', 'an object with the type text, json_object or json_schema', format);
  }
  const schema = format.json_schema?.schema ?? format.schema;
  if (schema === undefined || schema === null) refuse('response_format', 'an object with a json_schema.schema', format);
  return { kind: 'json_schema', schema };
}

function refuseUnknown(key: string): never {
  const names = Object.keys(RULES);
  const wanted = key.toLowerCase().replaceAll('-', '_').slice(0, 64);
  const nearest = names.reduce((best, name) => (distance(wanted, name) < distance(wanted, best) ? name : best));
  const close = distance(wanted, nearest) <= Math.max(2, nearest.length >> 1);
  raise(SQLSTATE.invalidParameterValue, `unknown option ${show(key)}`, {
    hint: close ? `did you mean ${nearest}?` : `options: ${names.join(', ')}`,
  });
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
