/** Which calls an engine takes. */
import type { Catalog } from '../../backend/catalog.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import type { ChatMessage } from '../../tokenizer/chat-template.ts';
import { MAX_INPUT, mayAsk } from './conversing.ts';
import type { EngineInput } from './messages.ts';

/** What is to be answered: a text, or a conversation and the JSON text that its caller wrote. */
export type Input = { prompt: string } | { messages: ChatMessage[]; json: string };

/** Characters of a value's JSON text; Infinity where it nests too deep to be written, which is for the session to say. */
function lengthOf(value: unknown): number {
  try {
    return writeJson(value).length;
  } catch (error) {
    if (error instanceof RangeError) return Infinity;
    throw error;
  }
}

/** Whether the engine computes such a call: what may take long before its first pass, or names cores, is the backend's. */
export function isTaken(
  length: number,
  given: Record<string, unknown>,
  { ablate, template, numThread }: GenerateOptions,
  { limits }: Pick<Catalog, 'limits'>,
): boolean {
  const isPlain = ablate === null && template === null && !numThread;
  return isPlain && length + lengthOf(given) <= MAX_INPUT && mayAsk(limits);
}

/** As isTaken, of a call that is no conversation, and so has no tool to be called. */
export function isTakenPlain(
  length: number,
  given: Record<string, unknown>,
): (options: GenerateOptions, catalog: Pick<Catalog, 'limits'>) => boolean {
  return (options, catalog) => options.toolChoice === 'auto' && isTaken(length, given, options, catalog);
}

/** As isTaken; a tool to be called is refused where there is no conversation. */
export function isTakenInput(
  input: Input,
  given: Record<string, unknown>,
  options: GenerateOptions,
  catalog: Pick<Catalog, 'limits'>,
  grammar?: Grammar,
): boolean {
  const besides = grammar === undefined ? 0 : lengthOf(grammar);
  if ('messages' in input) return isTaken(input.json.length + besides, given, options, catalog);
  return isTakenPlain(input.prompt.length + besides, given)(options, catalog);
}

/** An input as the engine gets it; `written` finds answers with their ids that stand in one of the texts. */
export function sentInput(
  input: Input,
  written: (texts: readonly string[]) => [text: string, ids: number[]][],
): EngineInput {
  if ('prompt' in input) return input;
  // A template shows of an answer what its message has, or a part of it.
  const answers = input.messages.filter(({ role }) => role === 'assistant').map(({ content }) => content);
  return { messages: input.json, written: written(answers) };
}
