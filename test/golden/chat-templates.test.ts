/**
 * Published chat templates, read where the registry packages put them, against what transformers renders
 * (make-template-golden.py). TinyLlama's and Phi 3's first template are in no package: Phi 3.5's stands for the latter,
 * and TinyLlama's format is `zephyr` of option template, which test/unit/tokenizer/chat-template.test.ts compares.
 */
import { expect, test } from 'vitest';
import { golden, render, sha256, templateText } from './published-templates.ts';

/** Numbers of the conversations that come out otherwise than transformers renders them. */
function differing(name: string): number[] {
  const { sha256: digest, rendered } = golden.templates[name]!;
  const template = templateText(name);
  expect(sha256(template)).toBe(digest);
  return golden.cases.flatMap((conversation, i) => {
    const text = render(template, conversation)?.chars ?? null;
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
