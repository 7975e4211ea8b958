/** Calls of tools in an answer that comes in pieces: wherever it is cut, the same text and the same calls come out. */
import { isDeepStrictEqual } from 'node:util';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import type { ToolFamily } from '../../../plv8/src/format/tool-families.ts';
import { TOOL_CALL_TAGS } from '../../../plv8/src/format/tool-families.ts';
import { Expressions, NEVER } from '../../../plv8/src/sampling/constraint/expression.ts';
import type { ToolGrammar } from '../../../plv8/src/sampling/constraint/tool-grammar.ts';
import { compileToolCalls } from '../../../plv8/src/sampling/constraint/tool-grammar.ts';
import type { ToolCall } from '../../../plv8/src/sampling/tool-calls.ts';
import { ToolCallSplitter } from '../../../plv8/src/sampling/tool-calls.ts';
import { randomTexts } from './constraint/schema-walk.ts';

const PARAMETERS = {
  type: 'object',
  properties: {
    text: { type: 'string' },
    count: { type: 'integer', minimum: -20, maximum: 20 },
    flags: { type: 'array', items: { type: 'boolean' } },
    inner: { type: 'object', properties: { a: { type: ['string', 'null'] } }, required: ['a'] },
  },
  required: ['text', 'inner'],
  additionalProperties: false,
};
const TOOLS = [
  { name: 'write', parameters: PARAMETERS },
  { name: 'now', parameters: { type: 'object', properties: {}, additionalProperties: false } },
];
const valid = new Ajv({ strict: false }).compile(PARAMETERS);

/** Everything that means something to some family, inside of a text. */
const HOSTILE =
  '</tool_call><tool_call>{"name": "now"}[TOOL_CALLS]now[ARGS]{}<|tool_call|>)], now( \\ "\n</function> é🎈';
const GIVEN = { text: HOSTILE, count: -7, flags: [true, false], inner: { a: ')}]"' } };

const json = JSON.stringify;
const object = (name: string, given: unknown, member = 'arguments'): string =>
  `{"name": ${json(name)}, ${json(member)}: ${json(given)}}`;
const keywords = (name: string, given: object): string =>
  `${name}(${Object.entries(given)
    .map(([key, value]) => `${key}=${json(value)}`)
    .join(', ')})`;
const tags = (name: string, given: object): string =>
  `<tool_call>\n<function=${name}>\n${Object.entries(given)
    .map(([key, value]) => `<parameter=${key}>\n${typeof value === 'string' ? value : json(value)}\n</parameter>\n`)
    .join('')}</function>\n</tool_call>`;

/** Families, and how two calls are written in each; Llama's JSON has one. */
const FAMILIES: [ToolFamily, (...calls: [string, object][]) => string][] = [
  [TOOL_CALL_TAGS, (...calls) => calls.map(([n, g]) => `<tool_call>\n${object(n, g)}\n</tool_call>`).join('\n')],
  [{ ...TOOL_CALL_TAGS, name: 'tags', form: 'tags' }, (...calls) => calls.map(([n, g]) => tags(n, g)).join('\n')],
  [
    { ...TOOL_CALL_TAGS, name: 'phi4', open: '<|tool_call|>', close: '<|/tool_call|>' },
    (...calls) => `<|tool_call|>[${calls.map(([n, g]) => object(n, g)).join(',')}]<|/tool_call|>`,
  ],
  [
    { ...TOOL_CALL_TAGS, name: 'granite', open: '<|tool_call|>', close: '' },
    (...calls) => `<|tool_call|>[${calls.map(([n, g]) => object(n, g)).join(', ')}]`,
  ],
  [
    { ...TOOL_CALL_TAGS, name: 'mistral', form: 'named', open: '[TOOL_CALLS]', close: '' },
    (...calls) =>
      calls.map(([n, g], i) => `[TOOL_CALLS]${n}${i === 0 ? '' : '[CALL_ID]abcdefghi'}[ARGS]${json(g)}`).join(''),
  ],
  [
    { ...TOOL_CALL_TAGS, name: 'mistral-list', open: '[TOOL_CALLS]', close: '' },
    (...calls) => `[TOOL_CALLS][${calls.map(([n, g]) => object(n, g)).join(', ')}]`,
  ],
  [
    { ...TOOL_CALL_TAGS, name: 'pythonic', form: 'python', open: '', close: '' },
    (...calls) => `[${calls.map(([n, g]) => keywords(n, g)).join(', ')}]`,
  ],
  [
    { ...TOOL_CALL_TAGS, name: 'llama', open: '', close: '', member: 'parameters' },
    (...calls) => object(calls[0]![0], calls[0]![1], 'parameters'),
  ],
];

const grammarOf = (family: ToolFamily, required: boolean): ToolGrammar => ({
  kind: 'tool_call',
  family,
  tools: TOOLS,
  required,
  parallel: true,
  thinking: null,
});

interface Taken {
  text: string;
  calls: ToolCall[];
}

/** What comes out of an answer in these pieces; what was streamed of the arguments is what the calls have in the end. */
function take(family: ToolFamily, pieces: readonly string[]): Taken {
  const splitter = new ToolCallSplitter(grammarOf(family, false), (index) => `call${index}`);
  let text = '';
  const streamed: { name: string; arguments: string }[] = [];
  for (const piece of pieces) {
    const found = splitter.push(piece);
    text += found.text;
    for (const { index, id, function: called } of found.calls) {
      if (id !== undefined) {
        if (id !== `call${index}` || index !== streamed.length) throw new Error(`${id} is not call ${streamed.length}`);
        streamed.push({ name: called.name!, arguments: '' });
      }
      streamed[index]!.arguments += called.arguments;
    }
  }
  text += splitter.flush();
  const { calls } = splitter;
  const asStreamed = streamed.map(({ name, arguments: written }) => ({
    name,
    arguments: JSON.parse(written) as unknown,
  }));
  if (
    !isDeepStrictEqual(
      calls.map((call) => call.function),
      asStreamed,
    )
  )
    expect(calls).toEqual(asStreamed);
  return { text, calls };
}

/** One, two and all pieces, wherever a cut may be. */
function cut(text: string): string[][] {
  const characters = [...text];
  const cuts = characters.map((_, i) => [characters.slice(0, i).join(''), characters.slice(i).join('')]);
  return [[text], characters, ...cuts];
}

describe.each(FAMILIES)('$name', (family, write) => {
  it('gives the same calls wherever the answer is cut', () => {
    const answer = write(['write', GIVEN], ['now', {}], ['write', { text: '', inner: { a: null } }]);
    const expected = [
      { name: 'write', arguments: GIVEN },
      { name: 'now', arguments: {} },
      { name: 'write', arguments: { text: '', inner: { a: null } } },
    ].slice(0, family.name === 'llama' ? 1 : 3);
    for (const pieces of cut(answer)) {
      const { text, calls } = take(family, pieces);
      const found = calls.map((call) => call.function);
      if (text !== '' || !isDeepStrictEqual(found, expected)) expect([text, found]).toEqual(['', expected]);
    }
  });

  it('gives text that stands before calls, and text without any, as it is', () => {
    const begins = family.open === '';
    const before = begins ? '' : 'Let me look: <tool [TOOL {"name": [now\n';
    for (const pieces of cut(before + write(['now', {}]))) {
      const { text, calls } = take(family, pieces);
      expect(text).toBe(before.trimEnd());
      expect(calls).toHaveLength(1);
    }
    for (const plain of [
      '',
      'No <tool',
      'a [b] {c} <|tool',
      '[TOOL_CALL',
      '{"nam',
      '[now',
      '{"name": 3}x',
      '  spaces  ',
    ]) {
      if (begins && plain.startsWith('{"name"')) continue;
      for (const pieces of cut(plain)) expect(take(family, pieces)).toEqual({ text: plain, calls: [] });
    }
  });

  it('gives what the grammar writes, with arguments that are valid', () => {
    const expressions = new Expressions();
    const { expression } = compileToolCalls(expressions, grammarOf(family, true), null);
    expressions.close();
    let written = 0;
    for (const answer of randomTexts(expressions, expression, 12, 5)) {
      const [whole, ...others] = cut(answer).map((pieces) => take(family, pieces));
      expect(whole!.calls.length, answer).toBeGreaterThan(0);
      for (const { function: called } of whole!.calls) {
        if (called.name === 'now') expect(called.arguments).toEqual({});
        else expect(valid(called.arguments), answer).toBe(true);
      }
      for (const other of others) if (!isDeepStrictEqual(other, whole)) expect(other).toEqual(whole);
      written += whole!.calls.length;
    }
    expect(written).toBeGreaterThanOrEqual(12);
  });
});

/** Whether an answer that may also call nothing can be written. */
function mayBeWritten(grammar: ToolGrammar, answer: string): boolean {
  const expressions = new Expressions();
  let { expression: state } = compileToolCalls(expressions, grammar, null);
  expressions.close();
  for (const byte of Buffer.from(answer)) state = expressions.derive(state, byte);
  return state !== NEVER && expressions.acceptsEmpty(state);
}

describe('where calls are the whole answer and it may also be text', () => {
  it.each([
    ['pythonic', ['[now()]', '\n[now()]', 'now()', '[later()]'], ['[now(a=1)]', ' [now(a=1)]', '\n\n\n\n[now(a=1)]']],
    [
      'llama',
      ['{"name": "now", "parameters": {}}', ' {"name": "now", "parameters": {}}', 'It is {"name": "later"}'],
      [
        '{"name": "later", "parameters": {}}',
        ' {"name": "later", "parameters": {}}',
        '\t\n {"name": "now", "parameters": {"a": 1}}',
      ],
    ],
  ])('%s: blanks before it change nothing', (name, good, bad) => {
    const [family] = FAMILIES.find(([{ name: other }]) => other === name)!;
    for (const thinking of [null, { open: '<think>', close: '</think>', begun: false }]) {
      const grammar = { ...grammarOf(family, false), thinking };
      const thoughts = thinking === null ? [''] : ['', '<think>\n\n</think>\n\n', ' <think>Hm</think>\n\n\n'];
      for (const before of thoughts) {
        expect(good.filter((answer) => !mayBeWritten(grammar, before + answer))).toEqual([]);
        expect(bad.filter((answer) => mayBeWritten(grammar, before + answer))).toEqual([]);
      }
    }
  });
});

describe('arguments that are written one by one', () => {
  const taken = (family: ToolFamily, parameters: Record<string, unknown>): unknown[] => {
    const grammar = { ...grammarOf(family, true), tools: [{ name: 'f', parameters }], parallel: false };
    const expressions = new Expressions();
    const { expression } = compileToolCalls(expressions, grammar, null);
    expressions.close();
    return randomTexts(expressions, expression, 12, 5).map((answer) => {
      const splitter = new ToolCallSplitter(grammar, String);
      splitter.push(answer);
      return splitter.calls[0]?.function.arguments;
    });
  };
  const families = FAMILIES.map(([family]) => family).filter(({ form }) => form === 'python' || form === 'tags');

  it.each<[string, Record<string, unknown>]>([
    ['that are required and not listed', { type: 'object', properties: { a: { const: 1 } }, required: ['a', 'b'] }],
    [
      'that are required and listed nowhere',
      { type: 'object', required: ['b'], additionalProperties: { type: 'string', maxLength: 3 } },
    ],
    [
      'that may be null',
      { type: 'object', properties: { a: { type: 'string', nullable: true, enum: ['a', null] } }, required: ['a'] },
    ],
  ])('are valid: %s', (_, parameters) => {
    const isValid = new Ajv({ strict: false }).compile(parameters);
    for (const family of families) expect(taken(family, parameters).filter((given) => !isValid(given))).toEqual([]);
  });

  it.each(['', 'two\nlines'])('have names that can be written, which %j cannot', (name) => {
    for (const family of families) {
      expect(() => taken(family, { type: 'object', properties: { [name]: {} } })).toThrow(
        `tool f: member ${JSON.stringify(name)} has a name that this model cannot write in a call`,
      );
    }
  });
});
