/**
 * Chat templates: the model's own Jinja text, rendered as transformers' apply_chat_template does. A template comes from
 * a file somebody downloaded, so its size, its output and its steps are bounded.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { utf8Length } from '../format/utf8.ts';
import { formatDate } from './format-date.ts';
import { bind } from './jinja/arguments.ts';
import { Budget, PollError } from './jinja/budget.ts';
import { GLOBALS } from './jinja/globals.ts';
import { Interpreter, Scope } from './jinja/interpreter.ts';
import { parse } from './jinja/parser.ts';
import { show } from './jinja/show.ts';
import type { Statement } from './jinja/syntax.ts';
import type { Text } from './jinja/text.ts';
import type { Arguments, Value } from './jinja/values.ts';
import { Callable, Dict, fromJson, List, NONE, TemplateError, text } from './jinja/values.ts';
import { brief } from '../format/visible-text.ts';

/** Bytes of a template; the longest published ones have about 20 kB. */
const MAX_TEMPLATE_BYTES = 256 * 1024;

/** Parsed templates remembered; forgotten all together when full. */
const MAX_CACHED = 8;

export interface ChatMessage {
  role: string;
  content: string;
  /** everything else the caller gave, which a template may read: name, tool_calls ... */
  [field: string]: unknown;
}

export interface ChatInput {
  messages: readonly ChatMessage[];
  /** end with the beginning of an assistant turn */
  addGenerationPrompt: boolean;
  bosToken: string;
  eosToken: string;
  tools?: unknown[];
  /** further names that the template may read; the others here go before them */
  variables?: Record<string, unknown>;
  now?: Date;
  /** called often; may throw to cancel */
  poll?: () => void;
}

const parsed = new Map<string, readonly Statement[]>();

/**
 * Text of a conversation, which knows what of it the caller wrote. Throws invalidParameterValue with the template's own
 * words when it refuses the messages.
 */
export function renderChat(template: string, input: ChatInput): Text {
  const program = parseTemplate(template);
  const budget = new Budget(input.poll ?? ((): void => undefined));
  const names = new Scope();
  const define = (name: string, call: (args: Arguments) => Value): void => {
    names.set(name, new Callable(`function ${name}`, call));
  };
  for (const [name, value] of Object.entries(input.variables ?? {})) names.set(name, fromJson(value));
  for (const [name, call] of Object.entries(GLOBALS)) define(name, call);
  define('raise_exception', (args) => {
    const [message] = bind('raise_exception', args, ['message'], 1);
    raise(
      SQLSTATE.invalidParameterValue,
      `chat template refuses the messages: ${oneLine(show(message!, budget).chars)}`,
    );
  });
  define('strftime_now', (args) => {
    const [format] = bind('strftime_now', args, ['format'], 1);
    return text(formatDate(input.now ?? new Date(), show(format!, budget).chars));
  });
  names.set('messages', new List(input.messages.map(messageValue)));
  names.set('add_generation_prompt', input.addGenerationPrompt);
  names.set('bos_token', text(input.bosToken));
  names.set('eos_token', text(input.eosToken));
  // As transformers has it: there, and none where none were given.
  names.set('tools', fromJson(input.tools ?? null));
  names.set('documents', NONE);
  try {
    return new Interpreter(budget).run(program, names);
  } catch (error) {
    // Only what the template itself did is reported as the template's fault; a cancel goes on as it is.
    if (error instanceof PollError) throw error.cause;
    if (error instanceof TemplateError)
      raise(SQLSTATE.invalidParameterValue, `chat template failed: ${oneLine(error.message)}`, { cause: error });
    throw error;
  }
}

/** Roles that templates write into their markup; any other name is the caller's text as content is. */
const ROLES: ReadonlySet<string> = new Set(['system', 'developer', 'user', 'assistant', 'tool', 'function', 'ipython']);

/** A message as templates see it; fields that are null are not there, as in transformers. */
function messageValue(message: ChatMessage): Value {
  const value = new Dict();
  const isAnswer = message.role === 'assistant';
  for (const [name, field] of Object.entries(message)) {
    if (field === null || field === undefined) continue;
    const isRole = name === 'role' && ROLES.has(message.role);
    value.set(text(name), isRole ? text(message.role) : fromJson(field, isAnswer && name === 'content'));
  }
  return value;
}

function parseTemplate(template: string): readonly Statement[] {
  const known = parsed.get(template);
  if (known !== undefined) return known;
  const bytes = utf8Length(template);
  if (bytes > MAX_TEMPLATE_BYTES) {
    raise(SQLSTATE.programLimitExceeded, `chat template has ${bytes} bytes, at most ${MAX_TEMPLATE_BYTES} are read`);
  }
  let program: Statement[];
  try {
    program = parse(template);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    raise(SQLSTATE.invalidParameterValue, `chat template is not valid: ${oneLine(error.message)}`, { cause: error });
  }
  if (parsed.size >= MAX_CACHED) parsed.clear();
  parsed.set(template, program);
  return program;
}

/** First line of a message, cut to what an error line can hold. */
function oneLine(message: unknown): string {
  return brief(String(message).replace(/\s+/g, ' ').trim());
}
