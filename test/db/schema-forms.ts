/** What schemas ask of a text or value, keyword by keyword and several at once, each with how an answer of that form is known. */
import { isIPv4, isIPv6 } from 'node:net';

export type Form = [what: string, schema: object, holds: (value: never) => boolean];

const matching =
  (form: RegExp) =>
  (text: string): boolean =>
    form.test(text);
const equal =
  (...values: unknown[]) =>
  (value: unknown): boolean =>
    values.some((each) => JSON.stringify(each) === JSON.stringify(value));
const isDate = (text: string): boolean => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text);
const format = (name: string, maxLength = 40): object => ({ type: 'string', format: name, maxLength });

const FORMATS: Form[] = [
  ['email', format('email'), matching(/^[^\s@]+@[^\s@]+\.[a-z]+$/)],
  [
    'date-time',
    format('date-time'),
    (text: string) => isDate(text.slice(0, 10)) && /^.{10}T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text),
  ],
  ['date', format('date'), isDate],
  ['time', format('time'), matching(/^\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/)],
  ['uri', format('uri'), (text: string) => URL.canParse(text) && text.includes('://')],
  ['ipv4', format('ipv4'), isIPv4],
  ['ipv6', format('ipv6'), isIPv6],
  ['hostname', format('hostname'), matching(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/)],
  ['duration', format('duration'), matching(/^P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?)$/)],
  ['uuid', format('uuid'), matching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)],
];

const COMBINATIONS: Form[] = [
  [
    'pattern with lengths',
    { type: 'string', pattern: '^[a-z]+$', minLength: 3, maxLength: 4 },
    matching(/^[a-z]{3,4}$/),
  ],
  ['enum with lengths', { enum: ['a', 'abc', 'abcdef'], minLength: 2, maxLength: 4 }, equal('abc')],
  [
    'type with anyOf',
    {
      type: ['string', 'integer', 'null'],
      anyOf: [
        { type: 'string', minLength: 3, maxLength: 4 },
        { type: 'integer', minimum: 5, maximum: 6 },
      ],
    },
    (value: unknown) => (typeof value === 'string' ? [3, 4].includes([...value].length) : equal(5, 6)(value)),
  ],
  [
    'format with pattern',
    { type: 'string', format: 'date', pattern: '^2024-02' },
    (text: string) => isDate(text) && text.startsWith('2024-02-'),
  ],
  [
    'look-ahead at an anchor',
    { type: 'string', pattern: '^(?=.*\\d)(?=.*[A-Z])[A-Za-z\\d]{4}$' },
    matching(/^(?=.*\d)(?=.*[A-Z])[A-Za-z\d]{4}$/),
  ],
  ['(?i)', { type: 'string', pattern: '(?i)^ab{2}$' }, matching(/^abb$/i)],
  ['\\b', { type: 'string', pattern: '^a\\b.b$' }, matching(/^a[^\w]b$/u)],
  ['\\p{..}', { type: 'string', pattern: '^\\p{Lu}\\p{Nd}$' }, matching(/^\p{Lu}\p{Nd}$/u)],
];

const KEYWORDS: Form[] = [
  [
    'oneOf that overlap',
    {
      oneOf: [
        { type: 'integer', minimum: 0, maximum: 5 },
        { type: 'integer', minimum: 3, maximum: 9 },
      ],
    },
    equal(0, 1, 2, 6, 7, 8, 9),
  ],
  [
    'allOf merged',
    {
      allOf: [
        { type: 'object', properties: { a: { const: 1 } }, required: ['a'] },
        { properties: { b: { const: 2 } }, required: ['b'] },
      ],
    },
    equal({ a: 1, b: 2 }),
  ],
  ['siblings of $ref', { $ref: '#/$defs/n', maximum: 3, $defs: { n: { type: 'integer', minimum: 2 } } }, equal(2, 3)],
  ['multipleOf', { type: 'integer', multipleOf: 7, minimum: 1, maximum: 20 }, equal(7, 14)],
  [
    'multipleOf with decimals',
    { type: 'number', multipleOf: 0.25, minimum: 0.1, maximum: 0.9 },
    equal(0.25, 0.5, 0.75),
  ],
  [
    'uniqueItems',
    { type: 'array', items: { enum: ['a', 'b', 'c'] }, uniqueItems: true, minItems: 3 },
    (value: string[]) => equal(['a', 'b', 'c'])(value.sort()),
  ],
  [
    'patternProperties',
    { type: 'object', patternProperties: { '^x_.?$': { const: 1 } }, additionalProperties: false, minProperties: 1 },
    (value: object) =>
      Object.keys(value).length > 0 && Object.entries(value).every(([name, one]) => /^x_.?$/.test(name) && one === 1),
  ],
  [
    'propertyNames, minProperties, maxProperties',
    {
      type: 'object',
      propertyNames: { pattern: '^[a-c]$' },
      minProperties: 2,
      maxProperties: 2,
      additionalProperties: { type: 'null' },
    },
    (value: object) => Object.keys(value).length === 2 && Object.keys(value).every((name) => /^[a-c]$/.test(name)),
  ],
  [
    'dependentRequired',
    {
      type: 'object',
      properties: { a: { const: 1 }, b: { const: 2 } },
      required: ['a'],
      dependentRequired: { a: ['b'] },
    },
    equal({ a: 1, b: 2 }),
  ],
  [
    'contains',
    { type: 'array', items: { enum: [1, 2] }, contains: { const: 2 }, maxContains: 1, minItems: 2, maxItems: 2 },
    equal([1, 2], [2, 1]),
  ],
  ['not over values that can be listed', { enum: ['a', 'b'], not: { const: 'a' } }, equal('b')],
  [
    'if, then, else over a discriminator',
    {
      type: 'object',
      properties: { kind: { enum: ['x', 'y'] }, value: {} },
      required: ['kind', 'value'],
      if: { properties: { kind: { const: 'x' } } },
      then: { properties: { value: { type: 'boolean' } } },
      else: { properties: { value: { type: 'null' } } },
    },
    equal({ kind: 'x', value: true }, { kind: 'x', value: false }, { kind: 'y', value: null }),
  ],
  ['nullable', { type: 'string', nullable: true, not: { type: 'string' } }, equal(null)],
  [
    'contentEncoding',
    { type: 'string', contentEncoding: 'base64', minLength: 3, maxLength: 4 },
    matching(/^[A-Za-z0-9+/]{2}[A-Za-z0-9+/=]{2}$/),
  ],
];

export const FORMS: readonly Form[] = [...FORMATS, ...COMBINATIONS, ...KEYWORDS];
