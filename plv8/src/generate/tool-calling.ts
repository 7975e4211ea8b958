/** From tools and tool_choice to what an answer has to be, and to messages that a template which knows no tools can show. */
import { raise, SQLSTATE } from '../errors.ts';
import { isObject } from '../format/json-object.ts';
import type { JsonObject } from '../format/json-object.ts';
import { writeJson } from '../format/ordered-json.ts';
import { thinkingFamily } from '../format/thinking-families.ts';
import { showsTools, TOOL_CALL_TAGS, toolFamily } from '../format/tool-families.ts';
import { kindOf } from '../sampling/constraint/schema-keywords.ts';
import type { Tool } from '../sampling/constraint/tool-grammar.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import { thinkingBegun } from '../sampling/thinking.ts';
import type { ChatMessage } from '../tokenizer/chat-template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Names of tools: OpenAI's, and with dots as MCP's servers write them. */
const NAME = /^[A-Za-z0-9_.-]{1,64}$/;

const CLOSED = { additionalProperties: false };

/** Parameters of a tool that takes none. */
const NOTHING = { type: 'object', properties: {}, ...CLOSED };

/** Tools of one call. */
const MAX_TOOLS = 128;

/** What the answer of a conversation with tools has to be. Throws naming the tool that cannot be called. */
export function withToolCalls(
  options: GenerateOptions,
  template: string,
  tokenizer: Tokenizer,
  promptIds: readonly number[],
): GenerateOptions {
  const { tools: given, toolChoice: choice } = options;
  if (given === null) return options;
  const all = toolsOf(given);
  const named = typeof choice === 'object' ? all.filter(({ name }) => name === choice.name) : all;
  if (named.length === 0) {
    raise(
      SQLSTATE.invalidParameterValue,
      `option tool_choice names ${JSON.stringify((choice as { name: string }).name)}, which is not among the tools`,
      { hint: `tools: ${all.map(({ name }) => name).join(', ')}` },
    );
  }
  const required = choice !== 'auto';
  const thinking = thinkingFamily(template);
  return {
    ...options,
    constraint: {
      kind: 'tool_call',
      family: toolFamily(template),
      tools: named,
      required,
      parallel: options.parallelToolCalls && typeof choice === 'string',
      thinking: thinking === null ? null : { ...thinking, begun: thinkingBegun(tokenizer, promptIds, thinking) },
      otherwise: required ? null : options.constraint,
    },
  };
}

function toolsOf(given: readonly unknown[]): Tool[] {
  if (given.length > MAX_TOOLS) {
    raise(SQLSTATE.programLimitExceeded, `option tools has ${given.length} tools, at most ${MAX_TOOLS} are read`);
  }
  const tools = given.map((tool, i) => toolOf(tool, `tool ${i + 1}`));
  const twice = tools.find(({ name }, i) => tools.findIndex((other) => other.name === name) < i);
  if (twice !== undefined) {
    raise(SQLSTATE.invalidParameterValue, `option tools has two tools of the name ${JSON.stringify(twice.name)}`);
  }
  return tools;
}

/** A tool in OpenAI's form, or only what that has as `function`. */
function toolOf(tool: unknown, where: string): Tool {
  const described = isObject(tool) && isObject(tool.function) ? tool.function : tool;
  const { name, parameters = null } = isObject(described) ? described : {};
  if (typeof name !== 'string' || !NAME.test(name)) {
    const got = name === undefined ? 'none' : JSON.stringify(name).slice(0, 80);
    raise(
      SQLSTATE.invalidParameterValue,
      `${where} must be a function with a name of letters, digits, _, - and ., got ${got}`,
    );
  }
  if (parameters === null) return { name, parameters: NOTHING };
  if (!isObject(parameters) || (parameters.type !== undefined && parameters.type !== 'object')) {
    raise(SQLSTATE.invalidParameterValue, `tool ${name}: parameters must be a schema of type object`);
  }
  return { name, parameters: { type: 'object', ...parameters, ...(takesNothing(parameters) ? CLOSED : {}) } };
}

/** Whether parameters list no members and say nothing else, as tools that take nothing are often written. */
function takesNothing({ type: _, properties, ...others }: JsonObject): boolean {
  const isEmpty = isObject(properties) && Object.keys(properties).length === 0;
  const silent = ([keyword, value]: [string, unknown]): boolean =>
    ['annotation', 'unknown'].includes(kindOf(keyword)) ||
    (keyword === 'required' && Array.isArray(value) && value.length === 0);
  return isEmpty && Object.entries(others).every(silent);
}

/** Templates that look for tools in the system message, as Phi 4 Mini's does. */
const IN_MESSAGE = /message\[['"]tools['"]\]|message\.tools\b/;

/**
 * The messages as the template can show them with tools: as they are where it reads `tools`; in the system message where it
 * looks for them there; else tools, calls and results as text.
 */
export function messagesWithTools(
  template: string,
  messages: readonly ChatMessage[],
  tools: readonly unknown[],
): ChatMessage[] {
  const functions = tools.map((tool) => (isObject(tool) && isObject(tool.function) ? tool.function : tool));
  if (IN_MESSAGE.test(template)) {
    return onSystem(messages, (system) => ({ ...system, tools: writeJson(functions) }));
  }
  if (showsTools(template)) return [...messages];
  const shown = messages.map(withoutTools);
  const text = toolText(functions);
  return onSystem(shown, (system) => ({
    ...system,
    content: system.content === '' ? text : `${system.content}\n\n${text}`,
  }));
}

function onSystem(messages: readonly ChatMessage[], change: (system: ChatMessage) => ChatMessage): ChatMessage[] {
  const [first, ...rest] = messages;
  return first?.role === 'system' ? [change(first), ...rest] : [change({ role: 'system', content: '' }), ...messages];
}

function toolText(functions: readonly unknown[]): string {
  const { open, close } = TOOL_CALL_TAGS;
  return [
    'You may call these functions to answer the user:',
    '<tools>',
    ...functions.map(writeJson),
    '</tools>',
    `For each call write a JSON object with the function's name and arguments between ${open} and ${close}:`,
    open,
    '{"name": <name>, "arguments": <object>}',
    close,
  ].join('\n');
}

/** Calls and results as text between marks. */
function withoutTools(message: ChatMessage): ChatMessage {
  const { open, close } = TOOL_CALL_TAGS;
  if (message.role === 'tool') {
    return { role: 'user', content: `<tool_response>\n${message.content}\n</tool_response>` };
  }
  const { tool_calls: calls, ...rest } = message;
  if (!Array.isArray(calls)) return message;
  const written = (calls as { function: JsonObject }[]).map(({ function: called }) => {
    const { name, arguments: given = {} } = called;
    return `${open}\n${writeJson({ name, arguments: given })}\n${close}`;
  });
  return { ...rest, content: [message.content, ...written].filter((text) => text !== '').join('\n') };
}
