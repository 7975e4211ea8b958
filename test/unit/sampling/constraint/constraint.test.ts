/**
 * Constrained decoding on models with random weights, which never help: every answer is checked by ajv.
 * SCHEMAS sets the number of random schemas (60; all of them are 500).
 */
import { describe, expect, it, vi } from 'vitest';
import { HartonomousError } from '../../../../plv8/src/errors.ts';
import type { Grammar } from '../../../../plv8/src/sampling/constraint/grammar.ts';
import { Continuation } from '../../../../plv8/src/sampling/continuation.ts';
import { parseOptions } from '../../../../plv8/src/sampling/options.ts';
import { readConfig } from '../../../../plv8/src/model/config.ts';
import { Model } from '../../../../plv8/src/model/model.ts';
import type { Tokenizer } from '../../../../plv8/src/tokenizer/tokenizer.ts';
import { createTokenizer } from '../../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../../golden/gguf-vocabulary.ts';
import { readGguf } from '../../gguf-source.ts';
import { goldenPath } from '../../golden-model.ts';
import { SchemaMaker } from './random-schema.ts';
import { validatorOf } from './written-schemas.ts';

const SCHEMAS = Number(process.env.SCHEMAS ?? 60);
/** Documented: a hostile schema ends in a clear error in less than two seconds. */
const HANG_GUARD_MS = 4 * 2000;
const CONTEXT = 512;
const poll = (): undefined => undefined;

interface Subject {
  model: Model;
  tokenizer: Tokenizer;
}

function subject(name: string): Subject {
  const path = goldenPath('zoo', `${name}.gguf`);
  const file = readGguf(path);
  const config = readConfig(file.architecture, file.hyperparameters, file.source.tensors());
  return {
    model: Model.load(config, file.source, { precision: 'f32', poll }),
    tokenizer: createTokenizer(readGgufVocabulary(path)),
  };
}

/** Byte-level BPE and SentencePiece. */
const subjects = ['qwen2-tiny-f32', 'llama-untied-gqa-f32', 'llama32-ropefreqs-f32'].map(subject);
const [bpe, sentencePiece] = subjects as [Subject, Subject];

interface Answer {
  text: string;
  tokens: number;
  doneReason: string | null;
}

function generate({ model, tokenizer }: Subject, grammar: Grammar, options: Record<string, unknown>): Answer {
  const context = Math.min(CONTEXT, model.config.contextLength);
  const promptIds = tokenizer.encode('Give me JSON', { addSpecial: true, parseSpecial: true });
  const continuation = new Continuation({
    tokenizer,
    options: parseOptions({ repeat_penalty: 1, temperature: 1, top_k: 0, top_p: 1, ...options }, {}, grammar),
    vocabSize: model.config.vocabSize,
    promptIds,
    context,
    logprobs: false,
    thinking: null,
    poll,
  });
  const cache = model.newCache(context);
  let logits = model.forward(promptIds, cache, { poll });
  while (continuation.doneReason === null) {
    const { token } = continuation.next(logits);
    if (continuation.doneReason === null) logits = model.forward([token!.id], cache, { poll });
  }
  return { text: continuation.text, tokens: continuation.tokens.length, doneReason: continuation.doneReason };
}

function errorOf(work: () => unknown): HartonomousError {
  try {
    work();
  } catch (error) {
    if (error instanceof HartonomousError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const json = (schema: unknown): Grammar => ({ kind: 'json_schema', schema });

/** Fewest tokens, as the refusal of a budget of none says. */
function fewest(on: Subject, grammar: Grammar): number {
  const error = errorOf(() => generate(on, grammar, { num_predict: 0 }));
  const found = /needs at least (\d+) tokens, 0 may be written$/.exec(error.message);
  if (found === null) throw error;
  return Number(found[1]);
}

describe('random schemas', () => {
  it(`are satisfied, ${SCHEMAS} of them, whatever the budget`, () => {
    let texts = 0;
    for (let seed = 1; seed <= SCHEMAS; seed++) {
      const schema = new SchemaMaker(seed).make();
      const validate = validatorOf(schema);
      const on = subjects[seed % subjects.length]!;
      const least = fewest(on, json(schema));
      for (const more of [0, 1, 7, 60]) {
        const budget = least + more;
        if (budget > on.model.config.contextLength - 50) continue;
        const label = `seed ${seed}, budget ${budget}, ${JSON.stringify(schema).slice(0, 300)}`;
        const answer = generate(on, json(schema), { num_predict: budget, seed });
        const value: unknown = JSON.parse(answer.text);
        expect(validate(value), `${label}: ${answer.text}`).toBe(true);
        expect(answer.text, label).not.toContain('\uFFFD');
        expect(answer.tokens, label).toBeLessThanOrEqual(budget);
        expect(answer.doneReason, label).toBe('stop');
        texts++;
      }
      const short = errorOf(() => generate(on, json(schema), { num_predict: least - 1 }));
      expect(short.message).toBe(`json schema needs at least ${least} tokens, ${least - 1} may be written`);
    }
    expect(texts).toBeGreaterThan(SCHEMAS * 3);
  });
});

describe('an answer', () => {
  it.each<[string, Grammar, RegExp]>([
    ['whole match', { kind: 'regex', pattern: '[a-c]{3}\\d+x|y' }, /^(?:[a-c]{3}\d+x|y)$/u],
    ['classes', { kind: 'regex', pattern: '[^ -~]{2}\\s\\W' }, /^[^ -~]{2}\s\W$/u],
    [
      'lazy and named groups',
      { kind: 'regex', pattern: '(?<year>\\d{4}?)-(?:0[1-9]|1[0-2])' },
      /^\d{4}-(?:0[1-9]|1[0-2])$/,
    ],
    ['choice', { kind: 'choice', choices: ['yes', 'no', 'größer', 'no way'] }, /^ ?(yes|no|größer|no way)$/],
    ['object', { kind: 'json_object' }, /^ ?\{.*\}$/s],
    ['grammar', { kind: 'grammar', text: 'root ::= item+\nitem ::= "- " [a-z]{1,5} "\\n"' }, /^(- [a-z]{1,5}\n)+$/],
  ])('has the form of a %s', (_, grammar, form) => {
    for (const on of subjects) {
      for (let seed = 0; seed < 12; seed++) expect(generate(on, grammar, { seed, num_predict: 40 }).text).toMatch(form);
    }
  });

  it('takes every choice sooner or later, and the likeliest at temperature 0', () => {
    const choices = ['a', 'b', 'c'];
    const seen = new Set<string>();
    for (let seed = 0; seed < 80; seed++)
      seen.add(generate(bpe, { kind: 'choice', choices }, { seed, temperature: 50 }).text.trim());
    expect([...seen].sort()).toEqual(choices);
    const greedy = (options: object): string =>
      generate(bpe, { kind: 'choice', choices }, { temperature: 0, ...options }).text;
    const first = bpe.tokenizer.encode(greedy({}), { addSpecial: false, parseSpecial: false })[0]!;
    expect(greedy({ logit_bias: { [first]: -100 } })).not.toBe(greedy({}));
  });

  it('is the shortest one when there are no more tokens', () => {
    const schema = { type: 'array', items: { type: 'string' }, minItems: 2 };
    for (const on of subjects) {
      const least = fewest(on, json(schema));
      for (let seed = 0; seed < 10; seed++) {
        const answer = generate(on, json(schema), { seed, num_predict: least });
        expect([answer.tokens, (JSON.parse(answer.text) as string[]).length]).toEqual([least, 2]);
      }
    }
  });

  it('takes no more states than it goes through', () => {
    // Made as a whole, the automaton of this pattern has 2^60 states.
    const answer = generate(bpe, { kind: 'regex', pattern: '(a|b)*a(a|b){60}' }, { seed: 1, num_predict: 100 });
    expect(answer.text).toMatch(/^(a|b)*a(a|b){60}$/);
  });

  it('keeps counts that no token reaches at once', () => {
    const schema = { type: 'array', items: { type: 'string', minLength: 60, maxLength: 90 }, minItems: 2, maxItems: 2 };
    const validate = validatorOf(schema);
    for (const on of subjects) {
      const least = fewest(on, json(schema));
      for (const more of [0, 3, 40, 200]) {
        const answer = generate(on, json(schema), { seed: more, num_predict: least + more, temperature: 30 });
        expect(validate(JSON.parse(answer.text)), answer.text).toBe(true);
      }
    }
  });

  it('may be as long as the context', () => {
    const answer = generate(sentencePiece, json({ type: 'string', minLength: 3 }), { num_predict: -1, seed: 2 });
    expect(JSON.parse(answer.text)).toMatch(/.{3}/s);
  });

  it.each<[string, object, RegExp]>([
    ['date', { type: 'string', format: 'date' }, /^\d{4}-\d\d-\d\d$/],
    ['time', { type: 'string', format: 'time' }, /^\d\d:\d\d:\d\d/],
    ['uuid', { type: 'string', format: 'uuid' }, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/],
  ])('has the format %s', (_, schema, form) => {
    for (let seed = 0; seed < 10; seed++) {
      expect(JSON.parse(generate(bpe, json(schema), { seed }).text)).toMatch(form);
    }
  });
});

describe('a grammar that cannot be kept', () => {
  it.each<[Grammar, string, RegExp]>([
    [json({ not: {} }), '22023', /^no finite text satisfies the json schema$/],
    [
      json({ properties: { a: { oneOf: [] } } }),
      '22023',
      /^schema at #\/properties\/a: oneOf must be an array that is/,
    ],
    [json({ type: 'array', uniqueItems: true }), '0A000', /^schema keyword "uniqueItems" at # is not supported for/],
    [json({ not: { patternProperties: { a: {} } } }), '0A000', /^schema keyword "not" at # is not supported for this/],
    [json({ $dynamicRef: '#x' }), '0A000', /^schema keyword "\$dynamicRef" at # is not supported$/],
    [json({ type: 'number', multipleOf: -2 }), '22023', /multipleOf must be a number greater than 0, got -2$/],
    [json({ multipleOf: 1e-20 }), '0A000', /^schema keyword "multipleOf" 1e-20 at # is not supported$/],
    [
      json({ properties: { a: { type: 'integer', minimum: 1e15 } } }),
      '0A000',
      /^schema at #\/properties\/a: minimum or maximum 1000000000000000 is not supported: numbers are written with at most 15/,
    ],
    [json({ type: 'integer', multipleOf: 7, minimum: 8, maximum: 13 }), '22023', /no multiple of 7 is within minimum/],
    [json({ $ref: 'other.json' }), '0A000', /^schema \$ref "other.json" at # is not supported$/],
    [json({ type: 'string', pattern: 'x(?<=a)b' }), '0A000', /^schema at #: pattern has a lookbehind, which is not/],
    [json({ type: 'string', pattern: 'x(?=a)b' }), '22023', /^no finite text satisfies the json schema$/],
    [
      json({ type: 'string', pattern: '(a(?=b))*' }),
      '0A000',
      /^schema at #: pattern has .* repeated more than 8 times/,
    ],
    [json({ type: 'string', pattern: '(a\\b)*' }), '0A000', /^schema at #: pattern has \(a\\b\) repeated more/],
    [json({ type: 'string', pattern: 'a(\\bc)' }), '0A000', /^schema at #: pattern has \\b in a place other than/],
    [json({ type: 'string', pattern: '\\p{Nothing}' }), '22023', /^schema at #: pattern is not valid: /],
    [json({ type: 'string', pattern: '(' }), '22023', /^schema at #: pattern is not valid: /],
    [{ kind: 'regex', pattern: '(a)\\1' }, '0A000', /^pattern has a back reference, which is not supported$/],
    [json({ type: 'text' }), '22023', /^schema at #: type must be one of null, boolean, /],
    [json({ enum: [] }), '22023', /^schema at #: enum must be an array that is not empty, got \[\]$/],
    [json([]), '22023', /^schema at #: a schema must be an object or a boolean, got \[\]$/],
    [json({ $ref: '#' }), '22023', /^schema at #: the schema refers to itself without an object or array between$/],
    [json({ $ref: '#/$defs/x' }), '22023', /^schema at #\/\$defs\/x: the reference leads nowhere$/],
    [
      json({ type: 'integer', minimum: 5, maximum: 4 }),
      '22023',
      /^schema at #: no number is within minimum and maximum$/,
    ],
    [json({ type: 'array', minItems: 3, maxItems: 2 }), '22023', /^schema at #: minItems is 3, maxItems is 2$/],
    [json(false), '22023', /^no finite text satisfies the json schema$/],
    [json({ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }), '22023', /^no finite text satisfies/],
    [
      json({ required: ['a'], additionalProperties: false }),
      '22023',
      /required names "a", which additionalProperties forbids$/,
    ],
  ])('is refused: %#', (grammar, code, message) => {
    const error = errorOf(() => generate(bpe, grammar, {}));
    expect(error.message).toMatch(message);
    expect(error.sqlerrcode).toBe(code);
  });
});

const nested = (depth: number): unknown => {
  let schema: unknown = { type: 'string' };
  for (let i = 0; i < depth; i++) schema = { type: 'array', items: schema };
  return schema;
};

describe('a hostile grammar', () => {
  it.each<[string, () => Grammar, RegExp]>([
    [
      'deep nesting',
      () => json(nested(5000)),
      /nests deeper than 100 levels$|characters, at most 262144 are read$|nests too deep$/,
    ],
    [
      'many items',
      () => json({ type: 'array', items: { type: 'null' }, minItems: 1e9 }),
      /needs at least \d+ tokens, 128 may be/,
    ],
    [
      'repetition of repetition',
      () => json({ type: 'string', pattern: '^((a{1000}){1000}){1000}$' }),
      /needs at least \d+ tokens/,
    ],
    ['a long constant', () => json({ const: 'x'.repeat(1_000_000) }), /characters, at most 262144 are read$/],
    [
      'a long choice',
      () => ({ kind: 'choice', choices: ['x'.repeat(1_000_000)] }),
      /characters, at most 262144 are read$/,
    ],
    [
      'a long pattern',
      () => ({ kind: 'regex', pattern: 'a'.repeat(1_000_000) }),
      /characters, at most 262144 are read$/,
    ],
    [
      'a pattern over its limit',
      () => ({ kind: 'regex', pattern: 'a?'.repeat(6000) }),
      /^pattern has 12000 characters, at most 10000/,
    ],
    [
      'brackets',
      () => ({ kind: 'regex', pattern: '('.repeat(4000) + 'a' + ')'.repeat(4000) }),
      /nests (too deep|deeper than 200 levels)$|not valid/,
    ],
    [
      'a tower of references',
      () =>
        json({
          $ref: '#/$defs/0',
          $defs: Object.fromEntries(
            Array.from({ length: 3000 }, (_, i) => [
              String(i),
              { type: 'array', items: { $ref: `#/$defs/${i + 1}` }, minItems: 2 },
            ]),
          ),
        }),
      /leads nowhere$/,
    ],
    [
      'exponential references',
      () =>
        json({
          $ref: '#/$defs/0',
          $defs: Object.fromEntries(
            Array.from({ length: 60 }, (_, i) => [
              String(i),
              i === 59
                ? { type: 'null' }
                : { type: 'array', items: { $ref: `#/$defs/${i + 1}` }, minItems: 2, maxItems: 2 },
            ]),
          ),
        }),
      /needs at least \d+(e\+\d+)? tokens/,
    ],
    [
      'many optional members',
      () =>
        json({ type: 'object', properties: Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`p${i}`, {}])) }),
      /needs more than 300000 states$/,
    ],
  ])('ends in one clear error: %s', (_, grammar, message) => {
    const started = Date.now();
    const error = errorOf(() => generate(bpe, grammar(), { num_predict: 128, seed: 1 }));
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
    expect(Date.now() - started).toBeLessThan(HANG_GUARD_MS);
  });

  it('ends where its time is over, whatever its states', () => {
    let now = 0;
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => (now += 31_000));
    try {
      const properties = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`p${i}`, {}]));
      const error = errorOf(() => generate(bpe, json({ type: 'object', properties }), {}));
      expect(error.message).toBe('json schema takes more than 60 seconds to be prepared');
      expect(error.sqlerrcode).toBe('54000');
    } finally {
      clock.mockRestore();
    }
  });
});

describe('options', () => {
  it('read response_format', () => {
    const schema = { type: 'null' };
    expect(
      parseOptions({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } }).constraint,
    ).toEqual(json(schema));
    expect(parseOptions({ response_format: { type: 'json_schema', schema } }).constraint).toEqual(json(schema));
    expect(parseOptions({ response_format: { type: 'json_object' } }).constraint).toEqual({ kind: 'json_object' });
    expect(parseOptions({ response_format: { type: 'text' } }).constraint).toBeNull();
    expect(() => parseOptions({ response_format: { type: 'json_schema' } })).toThrow('option response_format must be');
    expect(() => parseOptions({ response_format: { type: 'json_object' }, stop: 'x' })).toThrow(
      'option stop cannot stand beside a json object',
    );
    expect(parseOptions({ response_format: { type: 'json_object' } }, { stop: 'x' }).stop).toEqual([]);
  });
});
