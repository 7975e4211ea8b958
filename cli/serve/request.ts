/** Reading a request: its JSON body, its messages, and what becomes of them in SQL. */
import type { Context } from 'hono';
import { parseJson } from '../../plv8/src/format/ordered-json.ts';
import type { AnswerRequest, ChatMessage } from '../answer/backend.ts';
import { HttpError } from './errors.ts';
import type { FieldTable, SortedFields } from './fields.ts';
import { IGNORED_HEADER, sortFields } from './fields.ts';

/** The body as an object, its fields and those of its `nested` ones sorted; those that are ignored are named in a header of the response. */
export async function readBody(
  c: Context,
  table: FieldTable,
  nested: Readonly<Record<string, FieldTable>> = {},
): Promise<SortedFields> {
  let body: unknown;
  try {
    body = parseJson(await c.req.text());
  } catch (cause) {
    throw new HttpError(400, 'request body is not valid JSON', { cause });
  }
  const sorted = sortFields(objectOf(body, 'request body'), table);
  for (const [name, inside] of Object.entries(nested)) {
    if (sorted.taken[name] === undefined) continue;
    const inner = sortFields(objectOf(sorted.taken[name], `field ${name}`), inside, `${name}.`);
    const twice = Object.keys(inner.options).find((option) => Object.hasOwn(sorted.options, option));
    if (twice !== undefined) throw new HttpError(400, `${twice} is said twice, once of them in field ${name}`);
    sorted.taken[name] = inner.taken;
    Object.assign(sorted.options, inner.options);
    sorted.ignored.push(...inner.ignored);
  }
  if (sorted.ignored.length > 0) c.header(IGNORED_HEADER, sorted.ignored.map(headerText).join(', '));
  return sorted;
}

/** Options with a num_ctx that the model has: clients ask for more than there is as a matter of course. */
export function cappedContext(options: Record<string, unknown>, context: number | null): Record<string, unknown> {
  const wanted = options.num_ctx;
  return typeof wanted === 'number' && context !== null && wanted > context
    ? { ...options, num_ctx: context }
    : options;
}

/** A name as a header can hold it. */
function headerText(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : encodeURIComponent(name.replace(/\p{Surrogate}/gu, '?'));
}

export function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new HttpError(400, `${what} must be an object`);
  }
  return value as Record<string, unknown>;
}

export function textOf(taken: Record<string, unknown>, name: string): string | null {
  const value = taken[name];
  if (value === undefined) return null;
  if (typeof value !== 'string') throw new HttpError(400, `field ${name} must be a text`, { param: name });
  return value;
}

export function flagOf(taken: Record<string, unknown>, name: string, fallback: boolean): boolean {
  const value = taken[name] ?? fallback;
  if (typeof value !== 'boolean') throw new HttpError(400, `field ${name} must be true or false`, { param: name });
  return value;
}

/** A text or a list of texts; token ids are not taken. */
export function textsOf(taken: Record<string, unknown>, name: string, most: number): string[] {
  const value = taken[name];
  const texts: unknown[] = Array.isArray(value) ? value : [value];
  if (texts.length === 0) throw new HttpError(400, `field ${name} is an empty list`, { param: name });
  if (texts.length > most)
    throw new HttpError(400, `field ${name} has ${texts.length} texts, at most ${most} are taken`, { param: name });
  return texts.map((text) => {
    if (typeof text !== 'string')
      throw new HttpError(400, `field ${name} must be a text or a list of texts`, { param: name });
    return text;
  });
}

/** The messages, which SQL reads and checks; all that is known here is that they are a list. */
export function messagesOf(value: unknown): ChatMessage[] {
  if (!Array.isArray(value)) throw new HttpError(400, 'field messages must be a list', { param: 'messages' });
  return value as ChatMessage[];
}

/** What a backend's cache knows a request by. Throws 400 for values that nest too deeply to be written down. */
export function requestText({ model, prompt, options }: AnswerRequest): string {
  try {
    JSON.stringify(options);
    return `${model ?? ''} ${JSON.stringify(prompt)}`;
  } catch (cause) {
    throw new HttpError(400, 'request nests too deeply', { cause });
  }
}
