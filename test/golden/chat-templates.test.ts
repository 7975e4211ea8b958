/**
 * Published chat templates, read where the registry packages put them, against what transformers renders
 * (make-template-golden.py). TinyLlama's and Phi 3's first template are in no package: Phi 3.5's stands for the latter,
 * and TinyLlama's format is `zephyr` of option template, which test/unit/tokenizer/chat-template.test.ts compares.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HartonomousError } from '../../plv8/src/errors.ts';
import { renderChat } from '../../plv8/src/tokenizer/chat-template.ts';
import { parseMessages } from '../../plv8/src/tokenizer/messages.ts';
import { fetchVocabularies } from './fetch-vocabularies.mjs';
import { readGgufMetadata } from './gguf-vocabulary.ts';
import { smollm2File } from './smollm2-file.ts';

interface Golden {
  bos_token: string;
  eos_token: string;
  now: string;
  cases: { messages: unknown[]; tools?: unknown[]; add_generation_prompt: boolean }[];
  templates: Record<string, { sha256: string; model?: string; rendered: (string | null)[] }>;
}

const golden = JSON.parse(readFileSync(new URL('chat-templates.json', import.meta.url), 'utf8')) as Golden;
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function templateText(name: string): string {
  if (name === 'smollm2') {
    const model = JSON.parse(readFileSync(new URL('smollm2-135m-q4_1.json', import.meta.url), 'utf8')) as {
      sha256: string;
    };
    return String(readGgufMetadata(smollm2File(model.sha256)).get('tokenizer.chat_template'));
  }
  return readFileSync(join(fetchVocabularies(), 'templates', `${name}.jinja`), 'utf8');
}

function render(template: string, { messages, tools, add_generation_prompt }: Golden['cases'][number]): string | null {
  try {
    return renderChat(template, {
      messages: parseMessages(messages),
      addGenerationPrompt: add_generation_prompt,
      bosToken: golden.bos_token,
      eosToken: golden.eos_token,
      now: new Date(golden.now),
      ...(tools === undefined ? {} : { tools }),
    }).chars;
  } catch (error) {
    if (error instanceof HartonomousError) return null;
    throw error;
  }
}

/** Numbers of the conversations that come out otherwise than transformers renders them. */
function differing(name: string): number[] {
  const { sha256: digest, rendered } = golden.templates[name]!;
  const template = templateText(name);
  expect(sha256(template)).toBe(digest);
  return golden.cases.flatMap((conversation, i) => {
    const text = render(template, conversation);
    const shown = text !== null && rendered[i]?.startsWith('sha256:') === true ? `sha256:${sha256(text)}` : text;
    return shown === rendered[i] ? [] : [i + 1];
  });
}

const names = Object.keys(golden.templates);

test('templates of Qwen2.5, Qwen3, Llama-3.2, SmolLM2, Phi-3 and Gemma-2 are among them', () => {
  const models = names.flatMap((name) => golden.templates[name]!.model ?? []);
  expect(models.sort()).toEqual(['Gemma-2', 'Llama-3.2', 'Phi-3', 'Qwen2.5', 'Qwen3', 'SmolLM2']);
});

test.each(names)('%s renders as transformers does', (name) => {
  expect(differing(name)).toEqual([]);
});
