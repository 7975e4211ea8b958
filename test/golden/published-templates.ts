/** Published chat templates, read where the registry packages put them; chat-templates.json says which. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HartonomousError } from '../../plv8/src/errors.ts';
import { renderChat } from '../../plv8/src/tokenizer/chat-template.ts';
import type { Text } from '../../plv8/src/tokenizer/jinja/text.ts';
import { parseMessages } from '../../plv8/src/tokenizer/messages.ts';
import { fetchVocabularies } from './fetch-vocabularies.mjs';
import { readGgufMetadata } from './gguf-vocabulary.ts';
import { smollm2File } from './smollm2-file.ts';

export interface Conversation {
  messages: unknown[];
  tools?: unknown[];
  add_generation_prompt: boolean;
}

interface Golden {
  bos_token: string;
  eos_token: string;
  now: string;
  cases: Conversation[];
  templates: Record<string, { sha256: string; model?: string; rendered: (string | null)[] }>;
}

export const golden = JSON.parse(readFileSync(new URL('chat-templates.json', import.meta.url), 'utf8')) as Golden;

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

export function templateText(name: string): string {
  if (name === 'smollm2') {
    const model = JSON.parse(readFileSync(new URL('smollm2-135m-q4_1.json', import.meta.url), 'utf8')) as {
      sha256: string;
    };
    return String(readGgufMetadata(smollm2File(model.sha256)).get('tokenizer.chat_template'));
  }
  return readFileSync(join(fetchVocabularies(), 'templates', `${name}.jinja`), 'utf8');
}

/** A conversation through a template, null where the template refuses it. */
export function render(template: string, { messages, tools, add_generation_prompt }: Conversation): Text | null {
  try {
    return renderChat(template, {
      messages: parseMessages(messages),
      addGenerationPrompt: add_generation_prompt,
      bosToken: golden.bos_token,
      eosToken: golden.eos_token,
      now: new Date(golden.now),
      ...(tools === undefined ? {} : { tools }),
    });
  } catch (error) {
    if (error instanceof HartonomousError) return null;
    throw error;
  }
}
