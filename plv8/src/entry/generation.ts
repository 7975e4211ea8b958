/** generate, complete, chat and generate_stream. */
import { returnNext } from '../db.ts';
import {
  answer,
  encodeRendered,
  facts,
  promptIds,
  renderMessages,
  shownToken,
  templateOf,
} from '../generate/request.ts';
import { currentCatalog, useTokenizer } from '../generate/registry.ts';
import { parseMessages } from '../tokenizer/chat-template.ts';

export function generate(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): string | null {
  if (prompt === null) return null;
  return answer('generate', model, options, (used, parsed) => promptIds(used, prompt, parsed)).generation.text;
}

export function complete(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): Record<string, unknown> | null {
  if (prompt === null) return null;
  const result = answer('complete', model, options, (used, parsed) => promptIds(used, prompt, parsed));
  return {
    model: result.modelName,
    created_at: new Date().toISOString(),
    text: result.generation.text,
    ...facts(result),
  };
}

export function chat(
  messages: unknown,
  model: string | null,
  options: Record<string, unknown> | null,
): Record<string, unknown> | null {
  if (messages === null) return null;
  const parsed = parseMessages(messages);
  const result = answer('chat', model, options, (used) => {
    const template = templateOf(used.entry.description.name, used.entry.description.chatTemplate);
    return encodeRendered(used.tokenizer, renderMessages(template, used.tokenizer, parsed));
  });
  return {
    model: result.modelName,
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content: result.generation.text },
    ...facts(result),
  };
}

export function generateStream(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): void {
  if (prompt === null) return;
  let step = 0;
  answer(
    'stream',
    model,
    options,
    (used, parsed) => promptIds(used, prompt, parsed),
    (token, tokenizer) => {
      returnNext({ step: step++, token_id: token.id, token: shownToken(tokenizer, token.id), logprob: token.logprob });
    },
  );
}

export function renderChatMessages(
  messages: unknown,
  model: string | null,
  _options: Record<string, unknown> | null,
): string | null {
  if (messages === null) return null;
  const { tokenizer, description } = useTokenizer(currentCatalog(), model);
  return renderMessages(templateOf(description.name, description.chatTemplate), tokenizer, parseMessages(messages));
}
