/** Random JSON schemas out of every keyword that constrained decoding supports, each of which some value satisfies. */
import { Random } from '../../../../plv8/src/sampling/random.ts';
import { inDraft7 } from './schema-drafts.ts';

type Schema = Record<string, unknown>;

const NAMES = ['a', 'b', 'name', 'na', 'größe', 'with space', 'quote"d', '', 'name2'];
const PATTERNS = [
  '^[a-z]{2,5}$',
  '^\\d{3}-\\d{4}$',
  'ab|c+',
  '^(foo|bar)*$',
  '[^a-z"\\\\]',
  '^\\S+@\\w+\\.(com|org)$',
  '^.{3}$',
  '^[À-ÿ]{1,3}x?$',
  '^(?=.*\\d)(?=.*[a-z])[a-z\\d]{4,8}$',
  '\\bcat\\b',
];
const FORMATS = [
  ...['date-time', 'date', 'time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uri-reference', 'uuid'],
  ...['json-pointer', 'regex'],
];
const TEXTS = ['red', 'größer', '"', '\\', 'line\nbreak', '', '🎈', 'red wine'];

/** Keywords that say nothing about values, those of the root and those that name a place left out. */
const ANNOTATIONS: Readonly<Schema> = {
  $comment: 'one',
  title: 'One',
  description: 'one of "many"',
  default: null,
  example: 2,
  examples: [2, 'a'],
  deprecated: true,
  readOnly: true,
  writeOnly: false,
  contentMediaType: 'text/plain',
  contentSchema: { type: 'integer' },
  discriminator: { propertyName: 'kind' },
  xml: { name: 'one' },
  externalDocs: { url: 'https://example.com' },
};

export class SchemaMaker {
  private readonly random: Random;
  private readonly definitions: Record<string, Schema> = {};
  private places = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  /** A schema of draft 2020-12, or now and then of draft 7. */
  make(): Schema {
    const named = this.maybe() ? { $id: 'https://example.com/one' } : {};
    const schema: Schema = { ...named, ...this.schema(3) };
    if (Object.keys(this.definitions).length > 0) schema.$defs = this.definitions;
    if (this.random.next() < 0.2) return inDraft7(schema);
    if (this.random.next() < 0.1) schema.$vocabulary = { 'https://json-schema.org/draft/2020-12/vocab/core': true };
    return this.maybe() ? { $schema: 'https://json-schema.org/draft/2020-12/schema', ...schema } : schema;
  }

  private below(n: number): number {
    return Math.floor(this.random.next() * n);
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  private maybe(): boolean {
    return this.random.next() < 0.5;
  }

  private schema(depth: number): Schema {
    const schema = this.plain(depth);
    if (this.random.next() > 0.15) return schema;
    const keyword = this.pick(['$dynamicAnchor', ...Object.keys(ANNOTATIONS)]);
    const value = keyword === '$dynamicAnchor' ? `place${this.places++}` : ANNOTATIONS[keyword];
    return { [keyword]: value, ...schema };
  }

  private plain(depth: number): Schema {
    const flat = [
      () => ({ type: this.pick(['null', 'boolean', 'string', 'integer', 'number']) }),
      () => this.number(),
      () => this.text(),
      () => ({ enum: [...new Set([this.pick(TEXTS), this.pick(TEXTS)]), this.below(100), null, [1, { x: true }]] }),
      () => ({ const: this.pick<unknown>([...TEXTS, -3.25, false, { k: [1, 2] }]) }),
      () => ({ type: ['string', 'null'], maxLength: 4 }),
      () => ({ type: 'string', enum: [...TEXTS, 7, null] }),
      () => ({ type: 'string', nullable: true, minLength: 1 }),
      () => ({ type: 'string', format: this.pick(FORMATS) }),
      () => ({ type: 'string', pattern: this.pick(PATTERNS), maxLength: 12 }),
      () => ({ type: 'string', contentEncoding: 'base64', minLength: 3 }),
      () => ({ type: 'string', not: { enum: ['', 'a', '"'] } }),
      () => ({ type: this.pick(['integer', 'number']), multipleOf: this.pick([3, 7, 250]), minimum: this.below(40) }),
      () => ({ type: 'number', multipleOf: this.pick([0.5, 0.01]), maximum: this.below(9) }),
      () => ({ enum: [...TEXTS, 7], [this.pick(['minLength', 'maxLength'])]: this.below(7) }),
      () => ({ type: ['string', 'integer', 'null'], anyOf: [{ minLength: 2 }, { minimum: this.below(9) }] }),
      () => ({ type: 'string', format: 'date', pattern: this.pick(['^20', '-0[1-9]$']) }),
      () => ({ type: 'string', format: 'email', maxLength: 8 + this.below(9) }),
      () => this.exactlyOne(),
      () => this.word(),
    ];
    const nested = [
      () => this.object(depth),
      () => this.object(depth),
      () => this.array(depth),
      () => ({ anyOf: [this.schema(depth - 1), this.schema(depth - 1)] }),
      () => ({ allOf: [this.schema(depth - 1)] }),
      () => this.recursive(depth),
      () => this.variants(depth),
      () => this.merged(depth),
      () => this.conditional(),
      () => this.counted(depth),
      () => this.named(),
      () => this.set(),
      () => this.containing(),
      () => this.evaluated(depth),
      () => ({ not: { type: this.pick(['string', 'object', ['array', 'integer'], 'number']) } }),
      () => this.pick<Schema>([{}, { title: 'anything' }, { type: 'object' }, { type: 'array' }]),
    ];
    return this.pick(depth > 0 ? [...flat, ...nested, ...nested] : flat)();
  }

  private number(): Schema {
    const scale = this.pick([1, 10, 1000, 0.25, 0.001]);
    // Sums of decimal fractions have digits that nobody writes.
    const decimal = (value: number): number => Number(value.toFixed(3));
    const least = decimal((this.below(2001) - 1000) * scale);
    const most = decimal(least + (1 + this.below(500)) * scale);
    const schema: Schema = { type: this.pick(['number', scale >= 1 ? 'integer' : 'number']) };
    if (this.maybe()) schema[this.maybe() && schema.type === 'number' ? 'exclusiveMinimum' : 'minimum'] = least;
    if (this.maybe()) schema[this.maybe() && schema.type === 'number' ? 'exclusiveMaximum' : 'maximum'] = most;
    return schema;
  }

  private text(): Schema {
    if (this.maybe()) return { type: 'string', pattern: this.pick(PATTERNS) };
    const minLength = this.below(4);
    return { type: 'string', minLength, ...(this.maybe() ? { maxLength: minLength + this.below(6) } : {}) };
  }

  /** Branches that overlap. */
  private exactlyOne(): Schema {
    const least = this.below(9);
    return {
      oneOf: this.pick<Schema[]>([
        [
          { type: 'integer', minimum: least },
          { type: 'integer', maximum: least + 5 },
        ],
        [
          { type: 'string', maxLength: 3 },
          { type: 'string', minLength: 2 },
        ],
        [{ enum: TEXTS.slice(0, 4) }, { enum: TEXTS.slice(2) }],
        [{ type: 'number' }, { multipleOf: 3 }],
      ]),
    };
  }

  /** A reference with siblings. */
  private word(): Schema {
    const name = `word${Object.keys(this.definitions).length}`;
    this.definitions[name] = { $anchor: name, type: 'string', minLength: this.below(3) };
    return { $ref: this.pick([`#/$defs/${name}`, `#${name}`]), maxLength: 3 + this.below(5) };
  }

  private evaluated(depth: number): Schema {
    const first: Schema = { prefixItems: [this.schema(depth - 1), this.schema(0)] };
    if (this.maybe()) first.items = this.schema(0);
    return {
      type: 'array',
      allOf: [first],
      minItems: this.below(3),
      unevaluatedItems: this.pick<unknown>([false, {}]),
    };
  }

  /** Members told apart by a constant. */
  private variants(depth: number): Schema {
    const kinds = ['circle', 'square', 'line'];
    return {
      [this.pick(['oneOf', 'anyOf'])]: kinds.map((kind) => ({
        type: 'object',
        properties: { kind: { const: kind }, size: this.schema(depth - 1) },
        required: ['kind', ...(this.maybe() ? ['size'] : [])],
      })),
    };
  }

  private merged(depth: number): Schema {
    const least = this.below(50);
    return {
      allOf: [
        { type: 'object', properties: { id: { type: 'integer', minimum: least } }, required: ['id'] },
        { properties: { id: { maximum: least + 40 }, note: this.schema(depth - 1) } },
      ],
      ...(this.maybe() ? { required: ['note'], properties: { note: true } } : {}),
      ...(this.maybe() ? { unevaluatedProperties: false } : {}),
    };
  }

  private conditional(): Schema {
    return {
      type: 'object',
      properties: { country: { enum: ['US', 'NL', 'DE'] }, code: {}, extra: { type: 'boolean' } },
      required: ['country', 'code'],
      if: { properties: { country: { const: 'US' } } },
      then: { properties: { code: { type: 'string', pattern: '^\\d{5}$' } } },
      else: { properties: { code: { type: 'integer', not: { enum: [1, 7] } } } },
      ...(this.maybe() ? { dependentRequired: { extra: ['code'] } } : {}),
    };
  }

  private counted(depth: number): Schema {
    const minProperties = this.below(4);
    return {
      type: 'object',
      properties: { a: this.schema(depth - 1), b: { type: 'null' } },
      additionalProperties: this.pick<unknown>([true, { type: 'integer' }]),
      minProperties,
      ...(this.maybe() ? { maxProperties: minProperties + 2 } : {}),
    };
  }

  private named(): Schema {
    return this.pick<Schema>([
      { type: 'object', patternProperties: { '^s_': { type: 'string' }, _i$: { minLength: 2 } } },
      {
        type: 'object',
        patternProperties: { '^x': { type: 'integer' } },
        additionalProperties: false,
        minProperties: 1,
      },
      { type: 'object', propertyNames: { pattern: '^[a-z]{2,4}$' }, additionalProperties: { type: 'boolean' } },
      { type: 'object', properties: { a: {}, b: {} }, dependentSchemas: { a: { required: ['b'] } } },
    ]);
  }

  private set(): Schema {
    const items = this.pick<Schema>([
      { enum: ['a', 'b', 'c', 4] },
      { type: 'string', minLength: 1 },
      { type: 'integer' },
      { type: 'integer', minimum: 1, maximum: 20 },
      { type: 'boolean' },
    ]);
    return { type: 'array', items, uniqueItems: true, minItems: this.below(3) };
  }

  private containing(): Schema {
    return {
      type: 'array',
      items: { type: ['integer', 'string'], maxLength: 5 },
      contains: { type: 'integer' },
      ...(this.maybe() ? { minContains: this.below(3), maxContains: 3 } : {}),
      ...(this.maybe() ? { minItems: 2 } : {}),
    };
  }

  private array(depth: number): Schema {
    const minItems = this.below(3);
    const schema: Schema = { type: 'array', items: this.schema(depth - 1), minItems };
    if (this.maybe()) schema.maxItems = minItems + this.below(3);
    if (this.maybe()) schema.prefixItems = [this.schema(depth - 1), this.schema(0)];
    return schema;
  }

  private object(depth: number): Schema {
    const names = NAMES.filter(() => this.random.next() < 0.3);
    const properties = Object.fromEntries(names.map((name) => [name, this.schema(depth - 1)]));
    const schema: Schema = { type: 'object', properties, required: names.filter(() => this.maybe()) };
    if (this.maybe()) schema.additionalProperties = this.pick<unknown>([false, true, this.schema(0)]);
    if (schema.additionalProperties !== false && this.random.next() < 0.2) schema.required = [...names, 'further'];
    return schema;
  }

  /** A list whose tail is of its own kind. */
  private recursive(depth: number): Schema {
    const name = `list${Object.keys(this.definitions).length}`;
    this.definitions[name] = {};
    this.definitions[name] = {
      type: 'object',
      properties: {
        value: this.schema(depth - 2),
        next: { anyOf: [{ $ref: `#/$defs/${name}` }, { type: 'null' }] },
      },
      required: ['value', 'next'],
      additionalProperties: false,
    };
    return { $ref: `#/$defs/${name}` };
  }
}
