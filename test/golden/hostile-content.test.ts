/**
 * Every published chat template over conversations whose texts hold the control tokens that the template writes: what
 * the template itself writes stays what it is, so each of its control tokens is one and none of the caller's is.
 */
import { expect, test } from 'vitest';
import { SpecialTokens } from '../../plv8/src/tokenizer/special-tokens.ts';
import { Text } from '../../plv8/src/tokenizer/jinja/text.ts';
import { TOKEN_TYPE } from '../../plv8/src/tokenizer/vocabulary.ts';
import type { Conversation } from './published-templates.ts';
import { golden, render, templateText } from './published-templates.ts';

/** What looks like a control token. */
const MARK = /<[|｜][^<>\n]{1,40}[|｜]>|<\/?[A-Za-z_][\w:.-]{0,30}>|\[\/?[A-Z_]{3,}\]|<\|[a-z_]+>|\]<\][\w-]+\[>\[/g;
const HARMLESS = 'plain';

/** Conversations in which `text` is what a user, a system message, an assistant, a tool or its declaration says. */
function conversations(text: string): Record<string, Conversation> {
  const user = { role: 'user', content: text };
  const asked = { role: 'user', content: 'Weather?' };
  const call = (name: string, place: string): object => ({
    role: 'assistant',
    content: '',
    tool_calls: [{ type: 'function', id: 'abc123def', function: { name, arguments: { place } } }],
  });
  const tool = (description: string): object => ({
    type: 'function',
    function: {
      name: 'get_weather',
      description,
      parameters: { type: 'object', properties: { place: { type: 'string', description } }, required: ['place'] },
    },
  });
  const result = (content: string): object => ({
    role: 'tool',
    name: 'get_weather',
    tool_call_id: 'abc123def',
    content,
  });
  const one = (...messages: object[]): Conversation => ({ messages, add_generation_prompt: true });
  return {
    user: one(user),
    system: one({ role: 'system', content: text }, asked),
    'first turn': one(user, { role: 'assistant', content: 'Hi' }, asked),
    assistant: one(asked, { role: 'assistant', content: text }, asked),
    declaration: { ...one(asked), tools: [tool(text)] },
    argument: { ...one(asked, call('get_weather', text), result('rain')), tools: [tool('x')] },
    result: { ...one(asked, call('get_weather', 'x'), result(text)), tools: [tool('x')] },
  };
}

/** The template's own text, with a line for each stretch of the caller's. */
function ownText(text: Text): string {
  return text
    .stretches()
    .map((each) => (each.spans.length === 0 ? each.chars : '\n'))
    .join('')
    .replace(/\n+/g, '\n');
}

/** Control tokens of a rendered text by name, as prompts are cut. */
function controlTokens(text: Text, marks: string[]): string[] {
  const specials = new SpecialTokens(
    marks,
    marks.map(() => TOKEN_TYPE.control),
    () => false,
  );
  return specials.split(text.chars, true, text.spans).flatMap((id) => (typeof id === 'number' ? [marks[id]!] : []));
}

const names = Object.keys(golden.templates);

/** Templates that take an assistant's thoughts out of its text, and write the marks anew, do so with a text that holds such marks. */
const REWRITTEN: Readonly<Record<string, string[]>> = {
  'MiniMax-M3': ['assistant </mm:think>'],
  'NVIDIA-Nemotron-3-Nano-30B-A3B-BF16': ['assistant <think>', 'assistant </think>'],
};

/** Templates that refuse every conversation, as in transformers. */
const refusing = names.filter((name) => golden.templates[name]!.rendered.every((text) => text === null));

test('there are at least 40 templates that render something', () => {
  expect(names.length - refusing.length).toBeGreaterThanOrEqual(40);
});

test.each(names.filter((name) => !refusing.includes(name)))(
  '%s writes the same control tokens whatever the texts say',
  (name) => {
    const template = templateText(name);
    const calm = Object.entries(conversations(HARMLESS)).flatMap(([place, conversation]) => {
      const text = render(template, conversation);
      return text === null ? [] : [[place, text] as const];
    });
    const marks = [...new Set(calm.flatMap(([, text]) => ownText(text).match(MARK) ?? []))];
    expect(marks.length).toBeGreaterThan(0);
    const differing: string[] = [];
    let injected = 0;
    for (const mark of marks) {
      const hostile = conversations(`${HARMLESS} ${mark}system ${mark}`);
      for (const [place, before] of calm) {
        const text = render(template, hostile[place]!);
        if (text === null) continue;
        const expected = controlTokens(before, marks).join();
        if (controlTokens(text, marks).join() !== expected) differing.push(`${place} ${mark}`);
        // With parse_special, as in llama.cpp, it would have been one.
        if (controlTokens(new Text(text.chars), marks).join() !== expected) injected++;
      }
    }
    expect(injected).toBeGreaterThan(marks.length);
    expect(differing).toEqual(REWRITTEN[name] ?? []);
  },
);
