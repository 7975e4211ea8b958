import { describe, expect, it } from 'vitest';
import { SQLSTATE, HartonomousError } from '../../../plv8/src/errors.ts';
import type { ChatInput } from '../../../plv8/src/tokenizer/chat-template.ts';
import { renderChat as render } from '../../../plv8/src/tokenizer/chat-template.ts';
import { namedTemplate, TEMPLATE_NAMES } from '../../../plv8/src/tokenizer/named-templates.ts';
import { readGgufMetadata } from '../../golden/gguf-vocabulary.ts';

/** Documented: a hostile template ends in a clear error in less than two seconds. */
const HANG_GUARD_MS = 4 * 2000;

const input = (changes: Partial<ChatInput> = {}): ChatInput => ({
  messages: [{ role: 'user', content: 'Hi' }],
  addGenerationPrompt: true,
  bosToken: '<s>',
  eosToken: '</s>',
  ...changes,
});

const renderChat = (template: string, given: ChatInput): string => render(template, given).chars;

function errorOf(template: string, changes: Partial<ChatInput> = {}): HartonomousError {
  try {
    renderChat(template, input(changes));
  } catch (error) {
    if (error instanceof HartonomousError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('chat template', () => {
  it('renders the template inside a model file', () => {
    const file = new URL('../../golden/models/zoo/qwen2-tiny-f32.gguf', import.meta.url).pathname;
    const template = String(readGgufMetadata(file).get('tokenizer.chat_template'));
    expect(
      renderChat(
        template,
        input({
          messages: [
            { role: 'system', content: 'Be brief' },
            { role: 'user', content: 'Hi' },
          ],
        }),
      ),
    ).toBe('<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n');
  });

  it('drops the line break after a block and the blanks before it, as transformers does', () => {
    const template = '{% for m in messages %}\n    {% if true %}\n[{{ m.role }}]\n    {% endif %}\n{% endfor %}\nend';
    expect(renderChat(template, input())).toBe('[user]\nend');
  });

  it('offers tokens, tools, dates and namespaces', () => {
    const template =
      "{{ bos_token }}{{ tools | length }}{{ strftime_now('%d %b %Y %j') }}{% set ns = namespace(n=0) %}{% for i in range(1, 4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ eos_token }}{{ none is none }}";
    expect(renderChat(template, input({ tools: [{ name: 'f' }], now: new Date(2024, 11, 31) }))).toBe(
      '<s>131 Dec 2024 3666</s>True',
    );
  });

  // As Python's sandbox has it.
  it.each([
    ["{{ x in {'a': 1} }}", 'False'],
    ['{{ x in {y: 2} }}', 'True'],
    ['{{ {x: 1, y: 2} }}', '{Undefined: 2}'],
    ['{{ {x: 1}[y] }}', '1'],
    ["[{{ {'a': 1}[x] }}]", '[]'],
    ["{{ {'a': 1}.get(x, 2) }}", '2'],
    ['{{ (x,) in {(y,): 1} }}', 'True'],
    ['{{ [x, y, 1, x] | unique | list }}', '[Undefined, 1]'],
  ])('an undefined value is a key: %s', (template, expected) => {
    expect(renderChat(template, input())).toBe(expected);
  });

  const CONVERSATION = [
    { role: 'system', content: 'S' },
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
    { role: 'user', content: 'c' },
  ];

  // As the format's authors publish it; zephyr's is also TinyLlama's.
  it.each([
    [
      'chatml',
      '<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n',
    ],
    ['llama2', '<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]'],
    [
      'llama3',
      '<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
    ],
    [
      'gemma',
      '<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n',
    ],
    ['phi3', '<|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n'],
    ['zephyr', '<|system|>\nS</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</s>\n<|assistant|>\n'],
    ['mistral', '<s>[INST] S\n\na [/INST] b</s>[INST] c [/INST]'],
    ['alpaca', 'S\n\n### Instruction:\na\n\n### Response:\nb</s>\n\n### Instruction:\nc\n\n### Response:\n'],
    ['vicuna', 'S\n\nUSER: a\nASSISTANT: b</s>\nUSER: c\nASSISTANT:'],
  ])('knows the format %s by name', (name, expected) => {
    expect(TEMPLATE_NAMES).toContain(name);
    expect(renderChat(namedTemplate(name)!, input({ messages: CONVERSATION }))).toBe(expected);
  });

  it("passes on the template's own refusal", () => {
    const error = errorOf("{{ raise_exception('roles must\nalternate') }}");
    expect([error.sqlerrcode, error.message]).toEqual([
      SQLSTATE.invalidParameterValue,
      'chat template refuses the messages: roles must alternate',
    ]);
  });

  it.each<[string, string, RegExp]>([
    ['an open block', '{% for', /^chat template is not valid: /],
    ['an open expression', '{{', /^chat template is not valid: it ends too soon$/],
    ['endless recursion', '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}', /nests deeper than 400 levels$/],
    [
      'doubling',
      "{% set ns = namespace(a='0123456789') %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
      /makes more than 4194304 characters$/,
    ],
    ['a huge range', '{{ range(9999999999) }}', /asks for a range of 9999999999, at most 100000 are made$/],
    [
      'loops in loops',
      '{% for i in range(99999) %}{% for j in range(999) %}{% endfor %}{% endfor %}',
      /takes more than 1500000 steps$/,
    ],
    ['deep brackets', `{{ ${'('.repeat(50000)}1${')'.repeat(50000)} }}`, /^chat template is not valid: /],
    ['nested blocks', '{% if x %}'.repeat(20000), /^chat template is not valid: /],
    ['a text of a megabyte', 'x'.repeat(1_000_000), /has 1000000 bytes, at most 262144 are read$/],
    ['a huge text', 'x'.repeat(300000), /has 300000 bytes, at most 262144 are read$/],
    ['a call of what is not there', '{{ nothing() }}', /^chat template failed: /],
    ['a step of 0', '{{ range(1, 2, 0) }}', /range\(\) arg 3 must not be zero$/],
    [
      'a macro that calls two of itself',
      '{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}',
      /nests deeper than 400 levels$/,
    ],
    [
      'a text repeated',
      "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
      /^chat template (failed|takes more|makes more)/,
    ],
    [
      'a long list joined',
      '{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = ns.a + [i] %}{% endfor %}{{ ns.a | join }}',
      /takes more than 1500000 steps$/,
    ],
    [
      'replacements that grow',
      "{% set ns = namespace(a='a') %}{% for i in range(40) %}{% set ns.a = ns.a | replace('a', 'aa') %}{% endfor %}",
      /makes more than 4194304 characters$|takes more than 1500000 steps$/,
    ],
  ])('ends in one line: %s', (_, template, message) => {
    const started = Date.now();
    const error = errorOf(template);
    expect(Date.now() - started).toBeLessThan(HANG_GUARD_MS);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
  });

  it('hands on what poll throws', () => {
    const poll = (): never => {
      throw new RangeError('cancelled');
    };
    expect(() => renderChat('{% for i in range(99999) %}{{ i }}{% endfor %}', input({ poll }))).toThrow(RangeError);
  });
});
