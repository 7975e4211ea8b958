/** JSON schemas as people write them and random ones: every text that one accepts is valid under ajv. No model is needed. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SchemaMaker } from './random-schema.ts';
import { keywordsOf, knownKeywords } from './schema-drafts.ts';
import { schemaTexts } from './schema-walk.ts';
import { validatorOf, WRITTEN_SCHEMAS } from './written-schemas.ts';

const SCHEMAS = Number(process.env.SCHEMAS ?? 60);

/** Texts that are not valid. */
function wrongTexts(schema: object, count: number, seed: number, sameAs = schema): string[] {
  const validate = validatorOf(sameAs);
  return schemaTexts(schema, count, seed).texts.filter((text) => !validate(JSON.parse(text)));
}

describe('a schema', () => {
  it.each(WRITTEN_SCHEMAS)('as people write it: $name', ({ schema, sameAs }) => {
    expect(wrongTexts(schema, 12, 1, sameAs)).toEqual([]);
  });

  it(`at random, ${SCHEMAS} of them`, async () => {
    for (let seed = 1; seed <= SCHEMAS; seed++) {
      await setImmediate(); // vitest wants to hear of its worker
      const schema = new SchemaMaker(seed * 7919).make();
      expect(wrongTexts(schema, 10, seed), `seed ${seed}: ${JSON.stringify(schema).slice(0, 300)}`).toEqual([]);
    }
  });

  it('at random has every keyword', () => {
    // Refused, or not to be had from ajv: draft 4's id, and draft 2019-09's $recursiveAnchor.
    const never = ['$dynamicRef', '$recursiveRef', 'id', '$recursiveAnchor'];
    const found = new Set(
      Array.from({ length: 500 }, (_, i) => [...keywordsOf(new SchemaMaker((i + 1) * 104_729).make())]).flat(),
    );
    expect([...knownKeywords()].filter((keyword) => !found.has(keyword) && !never.includes(keyword))).toEqual([]);
  });

  it.each<[string, object, string[]]>([
    [
      'in the order of its properties',
      { properties: { b: { const: 1 }, a: { const: 2 } }, required: ['a', 'b'] },
      ['{"b":1,"a":2}'],
    ],
    [
      'with siblings of $ref',
      { $ref: '#/$defs/n', minimum: 11, $defs: { n: { type: 'integer', maximum: 11 } } },
      ['11'],
    ],
    ['with exactly one of two that overlap', { oneOf: [{ enum: [1, 2] }, { enum: [2, 3] }] }, ['1', '3']],
    ['without a denied value', { enum: ['a', 'b'], not: { const: 'a' } }, ['"b"']],
    ['of OpenAPI, null included', { type: 'boolean', nullable: true }, ['false', 'null', 'true']],
    [
      'with members that need others',
      { properties: { a: { const: 1 }, b: { const: 2 } }, dependentRequired: { a: ['b'] } },
      ['{"a":1,"b":2}', '{"b":2}', '{}'],
    ],
    [
      'with a condition',
      {
        enum: [
          { k: 1, v: 1 },
          { k: 1, v: 2 },
          { k: 2, v: 2 },
        ],
        if: { properties: { k: { const: 1 } } },
        then: { properties: { v: { const: 1 } } },
      },
      ['{"k":1,"v":1}', '{"k":2,"v":2}'],
    ],
    ['with items that differ', { items: { enum: [1, 2] }, uniqueItems: true, minItems: 2 }, ['[1,2]', '[2,1]']],
    ['with a pattern and a length', { type: 'string', pattern: '^(ab)+$', minLength: 3, maxLength: 5 }, ['"abab"']],
    ['with a look-ahead at its beginning', { type: 'string', pattern: '^(?!b)[ab]$' }, ['"a"']],
    [
      'with look-ahead in its middle',
      { type: 'string', pattern: '^(?:a(?=b)|b)(?!c)[abc]$' },
      ['"ab"', '"ba"', '"bb"'],
    ],
    ['with ends inside of groups', { type: 'string', pattern: '(^[ab]$)|(^cd$)' }, ['"a"', '"b"', '"cd"']],
    ['with signs escaped that need not be', { type: 'string', pattern: '^a\\-\\_[\\-]\\@$' }, ['"a-_-@"']],
    ['without regard to case', { type: 'string', pattern: '(?i)^a$' }, ['"A"', '"a"']],
    [
      'with a hyphen that need not be escaped',
      { type: 'string', pattern: '^[\\d-.]\\d-$', maxLength: 3, enum: ['--', '.1-', '-2-'] },
      ['"-2-"', '".1-"'],
    ],
    [
      'of numbers that leave less room for decimals',
      { type: 'number', minimum: 17e11, maximum: 1700000000000.02 },
      ['1700000000000', '1700000000000.01', '1700000000000.02'],
    ],
    [
      'with the member that tells variants apart',
      {
        oneOf: ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((kind) => ({
          type: 'object',
          properties: { kind: { const: kind }, [`${kind}1`]: { const: 1 } },
          required: [`${kind}1`],
        })),
        not: { properties: { kind: { enum: ['c', 'd', 'e', 'f', 'g'] } } },
      },
      ['{"kind":"a","a1":1}', '{"kind":"b","b1":1}'],
    ],
    [
      'with the member that a discriminator names',
      {
        oneOf: ['a', 'b'].map((kind) => ({
          type: 'object',
          properties: { kind: { const: kind }, [kind]: { const: 1 } },
          required: [kind],
          additionalProperties: false,
        })),
        discriminator: { propertyName: 'kind' },
      },
      ['{"kind":"a","a":1}', '{"kind":"b","b":1}'],
    ],
    [
      'with values and names under a pattern that V8 takes forever to find wrong',
      {
        properties: {
          a: { enum: ['aa', `${'a'.repeat(60)}!`], pattern: '^(a+)+$' },
          [`${'b'.repeat(60)}!`]: { const: 1 },
        },
        patternProperties: { '^(b+)+$': false },
        required: ['a', `${'b'.repeat(60)}!`],
      },
      [`{"a":"aa","${'b'.repeat(60)}!":1}`],
    ],
    ['of multiples between bounds', { type: 'integer', multipleOf: 5, minimum: 6, maximum: 14 }, ['10']],
  ])('gives exactly these texts: %s', (_, schema, texts) => {
    const found = new Set(schemaTexts(schema, 200, 3).texts.map((text) => JSON.stringify(JSON.parse(text))));
    expect([...found].sort()).toEqual([...texts].sort());
  });

  it.each(['\\S', '^[\\s\\S]+$', '^[a-z0-9]+(?:-[a-z0-9]+)*$'])(
    'counts texts of pattern %s up to any bound',
    (pattern) => {
      for (const maxLength of [5000, 65_535, 2_147_483_647]) {
        expect(wrongTexts({ type: 'string', pattern, minLength: 1, maxLength }, 6, 1)).toEqual([]);
      }
    },
  );

  it('tells which keywords and formats nobody defines', () => {
    const schema = {
      type: 'object',
      'x-note': 1,
      properties: { a: { type: 'string', format: 'colour', propertyOrdering: 1 } },
    };
    expect(schemaTexts(schema, 1).ignored).toEqual([
      '"x-note" at #',
      '"propertyOrdering" at #/properties/a',
      '"format" "colour" at #/properties/a',
    ]);
  });
});
