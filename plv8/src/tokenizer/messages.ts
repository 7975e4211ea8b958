/** Messages as SQL and HTTP take them, in OpenAI's and Ollama's forms, made into what chat templates read. */
import { raise, SQLSTATE } from '../errors.ts';
import { isObject } from '../format/json-object.ts';
import type { JsonObject } from '../format/json-object.ts';
import { parseJson } from '../format/ordered-json.ts';
import type { ChatMessage } from './chat-template.ts';
import { quoted } from '../format/visible-text.ts';

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'];

/** Names that protocols have for what an assistant thought before it answered; templates read the first two. */
const THINKING = ['reasoning_content', 'thinking', 'reasoning'] as const;

/** Brackets within brackets of a call's arguments, which templates write down again. */
const MAX_DEPTH = 200;

function refuse(where: string, what: string): never {
  raise(SQLSTATE.invalidParameterValue, `${where} ${what}`);
}

/**
 * Messages from JSON: [{"role": "user", "content": "..."}, ...]. Content may be a list of parts of type text, and may be
 * absent where an assistant calls tools. Throws invalidParameterValue naming the message by its place from 1.
 */
export function parseMessages(given: unknown): ChatMessage[] {
  if (!Array.isArray(given)) {
    refuse('messages', `must be a JSON array, got ${given === null ? 'null' : typeof given}`);
  }
  if (given.length === 0) refuse('messages', 'must hold at least one message, got none');
  return linked(given.map((message: unknown, index) => parseMessage(message, `message ${index + 1}`)));
}

/**
 * Calls and their results with ids, in order, where a client sends none, as those of Ollama do: Mistral's templates want nine
 * letters and digits.
 */
function linked(messages: readonly ChatMessage[]): ChatMessage[] {
  let count = 0;
  let waiting: unknown[] = []; // ids of calls without a result
  return messages.map((message) => {
    if (message.role === 'tool') {
      const { tool_call_id: id = waiting[0], name = message.tool_name } = message;
      waiting = waiting.filter((other) => other !== id);
      return { ...message, ...(id === undefined ? {} : { tool_call_id: id }), ...(name === undefined ? {} : { name }) };
    }
    if (!Array.isArray(message.tool_calls)) return message;
    const calls = (message.tool_calls as JsonObject[]).map((call) =>
      (call.id ?? null) === null ? { ...call, id: `call${String(++count).padStart(5, '0')}` } : call,
    );
    waiting = calls.map(({ id }) => id);
    return { ...message, tool_calls: calls };
  });
}

function parseMessage(message: unknown, where: string): ChatMessage {
  if (!isObject(message)) refuse(where, 'must be an object with role and content');
  const { role, images } = message;
  if (typeof role !== 'string' || !ROLES.includes(role)) {
    refuse(
      where,
      `must have a role, one of ${ROLES.join(', ')}${typeof role === 'string' ? `, got ${shown(role)}` : ''}`,
    );
  }
  if (images !== undefined && images !== null && !(Array.isArray(images) && images.length === 0)) {
    refuse(where, 'has images, only text is read');
  }
  const given = message.tool_calls ?? null;
  const calls = given === null ? [] : toolCallsOf(given, where);
  const thought = thinkingOf(message, where);
  const parsed: ChatMessage = {
    ...withoutNulls(message),
    // What OpenAI calls developer now was called system before, and is to templates.
    role: role === 'developer' ? 'system' : role,
    content: contentOf(message.content ?? null, role === 'assistant' && calls.length > 0, where),
  };
  if (given !== null) parsed.tool_calls = calls;
  if (thought !== null) for (const name of THINKING.slice(0, 2)) parsed[name] = thought;
  return parsed;
}

function withoutNulls(message: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null));
}

function contentOf(content: unknown, mayBeAbsent: boolean, where: string): string {
  if (typeof content === 'string') return content;
  if (content === null || (Array.isArray(content) && content.length === 0))
    return mayBeAbsent ? '' : refuse(where, 'must have a content, a text');
  if (!Array.isArray(content)) refuse(where, 'must have a content, a text or a list of parts');
  return content
    .map((part: unknown) => {
      const { type, text } = isObject(part) ? part : {};
      if (type !== 'text') refuse(where, `has a part of type ${shown(type ?? null)}, only text is read`);
      return typeof text === 'string' ? text : refuse(where, 'has a part of type text without a text');
    })
    .join('');
}

function thinkingOf(message: JsonObject, where: string): string | null {
  const name = THINKING.find((known) => (message[known] ?? null) !== null);
  if (name === undefined) return null;
  const value = message[name];
  return typeof value === 'string' ? value : refuse(where, `must have a text as ${name}`);
}

/** OpenAI writes the arguments of a call as JSON text, templates want them as an object. */
function toolCallsOf(calls: unknown, where: string): unknown[] {
  if (!Array.isArray(calls)) refuse(where, 'must have a list as tool_calls');
  return calls.map((call: unknown) => {
    const called = isObject(call) ? call.function : undefined;
    if (!isObject(called) || typeof called.name !== 'string') {
      refuse(where, 'has a tool call without a function that has a name');
    }
    const { arguments: given } = called;
    let read = given;
    try {
      if (typeof given === 'string') read = parseJson(given);
    } catch {
      return call;
    }
    if (isDeeper(read, MAX_DEPTH))
      refuse(where, `has arguments of a tool call that nest deeper than ${MAX_DEPTH} levels`);
    return read === given ? call : { ...(call as JsonObject), function: { ...called, arguments: read } };
  });
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

function shown(value: unknown): string {
  return quoted(value, 60);
}
