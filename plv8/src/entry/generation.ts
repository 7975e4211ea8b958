/** generate, complete, chat and generate_stream. */
import { returnNext } from '../db.ts';
import { parseOptions } from '../sampling/options.ts';
import { renderMessages } from '../generate/templated-prompt.ts';
import { currentCatalog, useTokenizer } from '../backend/registry.ts';
import { answer } from '../generate/engine/ask.ts';
import type { SentStep } from '../generate/engine/messages.ts';
import { completion, nextMessage, streamRows } from '../generate/results.ts';
import { parseMessages } from '../tokenizer/messages.ts';
import { jsonOf, optionsOf } from '../format/json-arguments.ts';

export function generate(prompt: string | null, model: string | null, options: string | null): string | null {
  if (prompt === null) return null;
  return answer('generate', { prompt }, model, optionsOf(options)).generation.text;
}

export function complete(
  prompt: string | null,
  model: string | null,
  options: string | null,
): Record<string, unknown> | null {
  if (prompt === null) return null;
  return completion(answer('complete', { prompt }, model, optionsOf(options)));
}

export function chat(messages: string | null, model: string | null, options: string | null): string | null {
  const given = jsonOf(messages);
  if (messages === null || given === null) return null;
  const input = { messages: parseMessages(given), json: messages };
  return nextMessage(answer('chat', input, model, optionsOf(options)));
}

export function generateStream(prompt: string | null, model: string | null, options: string | null): void {
  if (prompt === null) return;
  const steps: SentStep[] = [];
  answer('stream', { prompt }, model, optionsOf(options), { onStep: (step) => steps.push(step) });
  for (const row of streamRows(steps)) returnNext(row);
}

export function renderChatMessages(
  messages: string | null,
  model: string | null,
  options: string | null,
): string | null {
  const given = jsonOf(messages);
  if (given === null) return null;
  const used = useTokenizer(currentCatalog(), model);
  return renderMessages(
    used,
    parseMessages(given),
    parseOptions(optionsOf(options) ?? {}, used.description.defaultOptions),
  ).chars;
}
