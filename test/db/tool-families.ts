/** Families of models by how they write calls of tools, with tools to call. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchVocabularies } from '../golden/fetch-vocabularies.mjs';

export const WEATHER = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 12 },
    unit: { enum: ['C', 'F'] },
    days: { type: 'integer', minimum: 1, maximum: 14 },
    "don't": { type: 'array', items: { type: 'boolean' }, maxItems: 2 },
  },
  required: ['city', 'days'],
  additionalProperties: false,
};
export const TOOLS = [
  { type: 'function', function: { name: 'get_weather', description: 'Weather of a city', parameters: WEATHER } },
  { type: 'function', function: { name: 'now' } },
];

const { city, unit, days } = WEATHER.properties;

/** The same without a name that is no word of Python's, nor of tags. */
export const PLAIN_TOOLS = [
  // Hermes 2 Pro's template fails without a description, as it does in Python.
  {
    type: 'function',
    function: { ...TOOLS[0]!.function, parameters: { ...WEATHER, properties: { city, unit, days } } },
  },
  TOOLS[1]!,
];

const published = (name: string): string =>
  readFileSync(join(fetchVocabularies(), 'templates', `${name}.jinja`), 'utf8');

/** Templates by family, and how a call of theirs begins. */
export const FAMILIES: Record<string, { template: () => string; begins: RegExp }> = {
  'Qwen 2.5': { template: () => published('Qwen-Qwen2.5-7B-Instruct'), begins: /^\s*<tool_call>\s*[{[]/ },
  'Qwen 3': { template: () => published('Qwen-Qwen3-0.6B'), begins: /^\s*<tool_call>\s*[{[]/ },
  'Hermes 2 Pro': {
    template: () => published('NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use'),
    begins: /^\s*<tool_call>\s*[{[]/,
  },
  'Granite 4': { template: () => published('ibm-granite-granite-4.0'), begins: /^\s*<tool_call>\s*[{[]/ },
  'Granite 3.3': {
    template: () => published('ibm-granite-granite-3.3-2B-Instruct'),
    begins: /^\s*<\|tool_call\|>\s*[{[]/,
  },
  'Mistral Nemo': {
    template: () => published('mistralai-Mistral-Nemo-Instruct-2407'),
    begins: /^\s*\[TOOL_CALLS\]\s*[{[]/,
  },
  Devstral: {
    template: () => published('unsloth-mistral-Devstral-Small-2507'),
    begins: /^\s*\[TOOL_CALLS\]\s*(get_weather|now)(\[CALL_ID\]\w{9})?\[ARGS\]/,
  },
  'Llama 3.2': {
    template: () => published('meta-llama-Llama-3.2-3B-Instruct'),
    begins: /^\s*\{"name": ?"\w+", ?"parameters"/,
  },
  'Llama pythonic': {
    template: () =>
      '{{ tools | tojson }} Use the format [func_name1(params_name1=params_value1)] {{ messages[0].content }}',
    begins: /^\s*\[\s*(get_weather|now)\(/,
  },
  'Qwen 3 Coder': {
    template: () => published('Qwen3-Coder'),
    begins: /^\s*<tool_call>\s*<function=(get_weather|now)>\n/,
  },
  'Phi 4 Mini': {
    template: () =>
      `{% for message in messages %}{% if message['tools'] %}<|system|>{{ message['content'] }}<|tool|>{{ message['tools'] }}<|/tool|><|end|>` +
      `{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}<|assistant|>`,
    begins: /^\s*<\|tool_call\|>\s*[{[]/,
  },
  'none that is known, as SmolLM 2': {
    template: () =>
      '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n',
    begins: /^\s*<tool_call>\s*[{[]/,
  },
};

/** A template that is recognised by another one's marks, for a model of 512 tokens. */
export const short = (template: string): string =>
  `{% if false %}${template}{% endif %}{{ (messages | last).content }}\n`;
