/** generate, complete, chat and generate_stream. */
import { returnNext } from '../db.ts';
import { parseOptions } from '../sampling/options.ts';
import { chatPrompt, turnPrompt, renderMessages } from '../generate/templated-prompt.ts';
import { currentCatalog, useTokenizer } from '../backend/registry.ts';
import { askEngine } from '../generate/engine/ask.ts';
import { answer, callsFact, facts, thinkingFact } from '../generate/request.ts';
import { parseMessages } from '../tokenizer/messages.ts';
import { writeJson } from '../format/ordered-json.ts';
import { jsonOf, optionsOf } from './json-arguments.ts';

export function generate(prompt: string | null, model: string | null, options: string | null): string | null {
  if (prompt === null) return null;
  const given = optionsOf(options);
  const { answer: known, admitted } = askEngine('generate', prompt, model, given);
  if (known !== null) return known.generation.text;
  return answer('generate', model, given, (prepared, parsed) => turnPrompt(prepared, prompt, parsed), { admitted })
    .generation.text;
}

export function complete(
  prompt: string | null,
  model: string | null,
  options: string | null,
): Record<string, unknown> | null {
  if (prompt === null) return null;
  const result = answer('complete', model, optionsOf(options), (prepared, parsed) =>
    turnPrompt(prepared, prompt, parsed),
  );
  return {
    model: result.modelName,
    created_at: new Date().toISOString(),
    text: result.generation.text,
    ...thinkingFact(result),
    ...facts(result),
  };
}

/** Text of a JSON object: arguments of calls keep the digits that the model wrote. */
export function chat(messages: string | null, model: string | null, options: string | null): string | null {
  const given = jsonOf(messages);
  if (given === null) return null;
  const conversation = parseMessages(given);
  const result = answer('chat', model, optionsOf(options), (prepared, parsed) =>
    chatPrompt(prepared, conversation, parsed),
  );
  return writeJson({
    model: result.modelName,
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content: result.generation.text, ...thinkingFact(result), ...callsFact(result) },
    ...facts(result),
  });
}

export function generateStream(prompt: string | null, model: string | null, options: string | null): void {
  if (prompt === null) return;
  // Text may become certain only at the end of the answer, which has no token: the last token's row waits for it.
  const rows: { step: number; token_id: number; token: string; logprob: number | null; thinking: string }[] = [];
  const add = (token: { id: number; logprob: number | null } | null, text: string, thinking: string): void => {
    if (token !== null)
      rows.push({ step: rows.length, token_id: token.id, token: text, logprob: token.logprob, thinking });
    else if (rows.length > 0) {
      rows[rows.length - 1]!.token += text;
      rows[rows.length - 1]!.thinking += thinking;
    }
  };
  const given = optionsOf(options);
  const { answer: known, admitted } = askEngine('stream', prompt, model, given);
  if (known !== null) {
    for (const { id, logprob, text, thinking } of known.steps)
      add(id === null ? null : { id, logprob }, text, thinking);
  } else {
    answer('stream', model, given, (prepared, parsed) => turnPrompt(prepared, prompt, parsed), {
      admitted,
      onStep: ({ token, text, thinking }) => add(token, text, thinking),
    });
  }
  for (const row of rows) returnNext(row);
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
