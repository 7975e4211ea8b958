/**
 * JSON texts that a schema (https://json-schema.org, draft 2020-12 and its elders) accepts, as an expression over bytes.
 * Every text is valid; not every valid text is among them: members come in the schema's order, numbers have at most 15
 * digits, and there is at most one space, after a colon or comma. A keyword that is not supported is refused by name.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Encoding } from './characters.ts';
import { byteText, jsonEncoding, LAST_CODE_POINT, normalise } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';
import { numbersWithin } from './number-range.ts';
import { compilePattern } from './pattern.ts';
import { lookUp, refuseCircle } from './schema-references.ts';
import type { Schema } from './schema.ts';
import { at, invalid, isObject, MAX_DEPTH, show } from './schema.ts';

const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const;
type Type = (typeof TYPES)[number];

/** Keywords that say something about values of one type only. */
const KEYWORDS: Readonly<Record<string, Type>> = {
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
};

/** Keywords that say nothing about which values are valid. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
]);

/** Keywords that decide alone: none of the others may stand beside them, `type` beside the first two excepted. */
const ALONE = ['enum', 'const', 'anyOf', '$ref'] as const;

const FORMATS: Readonly<Record<string, string>> = {
  date: '^[0-9]{4}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])$|^[0-9]{4}-(0[469]|11)-(0[1-9]|[12][0-9]|30)$|^[0-9]{4}-02-(0[1-9]|1[0-9]|2[0-8])$',
  time: '^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$',
  uuid: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
};

/** JSON texts valid under `schema`. Throws featureNotSupported naming keyword and place, or invalidParameterValue. */
export function compileSchema(expressions: Expressions, schema: unknown): Expression {
  const compiler = new SchemaCompiler(expressions, schema);
  const compiled = compiler.compile(schema, '#');
  compiler.defineReferences();
  return compiled;
}

/** Any JSON object. */
export function anyObject(expressions: Expressions): Expression {
  return compileSchema(expressions, { type: 'object' });
}

interface Reference {
  expression: Expression;
  define(e: Expression): void;
}

class SchemaCompiler {
  private readonly encode: Encoding;
  private readonly references = new Map<string, Reference>();
  private readonly toDefine: string[] = [];
  private readonly separator: Expression;
  private readonly colon: Expression;
  private readonly freeString: Expression;
  private anyValue: Reference | null = null;
  private depth = 0;

  constructor(
    private readonly expressions: Expressions,
    private readonly root: unknown,
  ) {
    this.encode = jsonEncoding(expressions);
    this.separator = expressions.sequence(expressions.literal(','), expressions.optional(expressions.literal(' ')));
    this.colon = expressions.sequence(expressions.literal(':'), expressions.optional(expressions.literal(' ')));
    const character = this.encode(normalise([[0, LAST_CODE_POINT]]));
    this.freeString = this.quoted(expressions.repeat(character, 0, Infinity));
  }

  compile(schema: unknown, path: string): Expression {
    if (schema === true) return this.any();
    if (schema === false) return NEVER;
    if (!isObject(schema)) invalid(path, `a schema must be an object or a boolean, got ${show(schema)}`);
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `schema at ${at(path)} nests deeper than ${MAX_DEPTH} levels`);
    }
    const compiled = this.compileObject(schema, path);
    this.depth--;
    return compiled;
  }

  /** Compile what references led to, which may lead to more. */
  defineReferences(): void {
    for (let i = 0; i < this.toDefine.length; i++) {
      const path = this.toDefine[i]!;
      this.references.get(path)!.define(this.compile(lookUp(this.root, path), path));
    }
  }

  private compileObject(schema: Schema, path: string): Expression {
    for (const key of Object.keys(schema)) {
      const known = key === 'type' || Object.hasOwn(KEYWORDS, key) || ANNOTATIONS.has(key) || key === 'allOf';
      if (!known && !(ALONE as readonly string[]).includes(key)) {
        raise(SQLSTATE.featureNotSupported, `schema keyword ${show(key)} at ${at(path)} is not supported`, {
          hint: `supported: type, ${[...ALONE, ...Object.keys(KEYWORDS)].join(', ')}, and allOf with one schema`,
        });
      }
    }
    const types = this.typesOf(schema, path);
    const deciding = [...ALONE, 'allOf'].filter((key) => schema[key] !== undefined);
    const [key] = deciding;
    if (key === undefined) return this.typed(schema, types, path);
    const beside = Object.keys(schema).filter(
      (other) => other !== key && !ANNOTATIONS.has(other) && !(other === 'type' && (key === 'enum' || key === 'const')),
    );
    if (beside.length > 0) {
      raise(
        SQLSTATE.featureNotSupported,
        `schema keyword ${show(beside[0])} beside ${key} at ${at(path)} is not supported`,
      );
    }
    switch (key) {
      case 'const':
        return this.values([schema.const], types);
      case 'enum': {
        if (!Array.isArray(schema.enum) || schema.enum.length === 0) {
          invalid(path, `enum must be an array that is not empty, got ${show(schema.enum)}`);
        }
        return this.values(schema.enum, types);
      }
      case '$ref':
        return this.reference(schema.$ref, path);
      default:
        return this.alternatives(schema[key], key, path);
    }
  }

  private alternatives(members: unknown, key: string, path: string): Expression {
    if (!Array.isArray(members) || members.length === 0) {
      invalid(path, `${key} must be an array that is not empty, got ${show(members)}`);
    }
    if (key === 'allOf' && members.length > 1) {
      raise(
        SQLSTATE.featureNotSupported,
        `schema keyword "allOf" with ${members.length} schemas at ${at(path)} is not supported`,
      );
    }
    return this.expressions.any(members.map((member: unknown, i) => this.compile(member, `${path}/${key}/${i}`)));
  }

  private typesOf(schema: Schema, path: string): ReadonlySet<Type> | null {
    const given = schema.type;
    if (given === undefined) return null;
    const names: unknown[] = Array.isArray(given) ? given : [given];
    for (const name of names) {
      if (!(TYPES as readonly unknown[]).includes(name)) {
        invalid(path, `type must be one of ${TYPES.join(', ')} or an array of them, got ${show(given)}`);
      }
    }
    return new Set(names as Type[]);
  }

  /** Values given one by one, those of other types left out. */
  private values(values: readonly unknown[], types: ReadonlySet<Type> | null): Expression {
    const isOf = (value: unknown): boolean => {
      if (types === null) return true;
      if (value === null) return types.has('null');
      if (Array.isArray(value)) return types.has('array');
      if (typeof value === 'number') return types.has('number') || (types.has('integer') && Number.isInteger(value));
      return types.has(typeof value as Type);
    };
    const { expressions } = this;
    return expressions.any(values.filter(isOf).map((value) => expressions.literal(byteText(JSON.stringify(value)))));
  }

  /** Without `type`, the types that the keywords speak of; without any, every value. */
  private typed(schema: Schema, given: ReadonlySet<Type> | null, path: string): Expression {
    const spoken = Object.keys(schema).flatMap((key) => (Object.hasOwn(KEYWORDS, key) ? [KEYWORDS[key]!] : []));
    const types = given ?? new Set(spoken);
    if (types.size === 0) return this.any();
    return this.expressions.any([...types].map((type) => this.ofType(type, schema, path)));
  }

  private ofType(type: Type, schema: Schema, path: string): Expression {
    const { expressions } = this;
    switch (type) {
      case 'null':
        return expressions.literal('null');
      case 'boolean':
        return expressions.any([expressions.literal('true'), expressions.literal('false')]);
      case 'integer':
      case 'number':
        return this.number(schema, type === 'integer', path);
      case 'string':
        return this.string(schema, path);
      case 'array':
        return this.array(schema, path);
      case 'object':
        return this.object(schema, path);
    }
  }

  private any(): Expression {
    if (this.anyValue === null) {
      this.anyValue = this.expressions.reference();
      const types = TYPES.filter((type) => type !== 'integer');
      this.anyValue.define(this.expressions.any(types.map((type) => this.ofType(type, {}, '#'))));
    }
    return this.anyValue.expression;
  }

  private number(schema: Schema, integer: boolean, path: string): Expression {
    const bound = (key: string): number | null => {
      const value = schema[key];
      if (value === undefined) return null;
      if (typeof value !== 'number' || !Number.isFinite(value))
        invalid(path, `${key} must be a number, got ${show(value)}`);
      return value;
    };
    // The narrower of the two bounds that may be given on one side.
    const least = bound('minimum') ?? -Infinity;
    const above = bound('exclusiveMinimum') ?? -Infinity;
    const most = bound('maximum') ?? Infinity;
    const below = bound('exclusiveMaximum') ?? Infinity;
    const found = numbersWithin(this.expressions, {
      integer,
      least: Math.max(least, above),
      leastExcluded: above >= least && above > -Infinity,
      most: Math.min(most, below),
      mostExcluded: below <= most && below < Infinity,
    });
    if (found === NEVER) invalid(path, 'no number is within minimum and maximum');
    return found;
  }

  private quoted(inner: Expression): Expression {
    const quote = this.expressions.literal('"');
    return this.expressions.sequence(quote, inner, quote);
  }

  private string(schema: Schema, path: string): Expression {
    const { expressions, encode } = this;
    const { pattern, format } = schema;
    const [least, most] = this.counts(schema, 'minLength', 'maxLength', path);
    const bounded = schema.minLength !== undefined || schema.maxLength !== undefined;
    const given = ['pattern', 'format'].filter((key) => schema[key] !== undefined);
    if (given.length > 1 || (given.length === 1 && bounded)) {
      raise(
        SQLSTATE.featureNotSupported,
        `schema keyword ${given[0]} beside ${given[1] ?? (schema.minLength === undefined ? 'maxLength' : 'minLength')} at ${at(path)} is not supported`,
      );
    }
    if (pattern !== undefined) {
      if (typeof pattern !== 'string') invalid(path, `pattern must be a text, got ${show(pattern)}`);
      return this.quoted(compilePattern(expressions, pattern, encode, 'part'));
    }
    if (format !== undefined) {
      if (typeof format !== 'string' || !Object.hasOwn(FORMATS, format)) {
        raise(SQLSTATE.featureNotSupported, `schema format ${show(format)} at ${at(path)} is not supported`, {
          hint: `supported: ${Object.keys(FORMATS).join(', ')}; others can be said with pattern`,
        });
      }
      return this.quoted(compilePattern(expressions, FORMATS[format]!, encode, 'part'));
    }
    if (!bounded) return this.freeString;
    return this.quoted(expressions.repeat(encode(normalise([[0, LAST_CODE_POINT]])), least, most));
  }

  /** A pair of bounds on a count: [least, most]. */
  private counts(schema: Schema, leastKey: string, mostKey: string, path: string): [number, number] {
    const count = (key: string, fallback: number): number => {
      const value = schema[key];
      if (value === undefined) return fallback;
      if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
        invalid(path, `${key} must be an integer that is not negative, got ${show(value)}`);
      }
      return value;
    };
    const least = count(leastKey, 0);
    const most = count(mostKey, Infinity);
    if (least > most) invalid(path, `${leastKey} is ${least}, ${mostKey} is ${most}`);
    return [least, most];
  }

  private array(schema: Schema, path: string): Expression {
    const { expressions } = this;
    const [least, most] = this.counts(schema, 'minItems', 'maxItems', path);
    const prefix = schema.prefixItems ?? [];
    if (!Array.isArray(prefix)) invalid(path, `prefixItems must be an array, got ${show(prefix)}`);
    if (Array.isArray(schema.items)) {
      raise(SQLSTATE.featureNotSupported, `schema keyword "items" with an array at ${at(path)} is not supported`, {
        hint: 'prefixItems says the same',
      });
    }
    const item = schema.items === undefined ? null : this.compile(schema.items, `${path}/items`);
    const further = item ?? this.any();
    const n = prefix.length;
    // Items after the prefix; where the schema says nothing about them, there are none after a prefix.
    const mostFurther = item === null && n > 0 && least <= n ? 0 : Math.max(0, most - n);
    const next = (e: Expression): Expression => expressions.sequence(this.separator, e);
    let rest = expressions.repeat(next(further), Math.max(0, least - n), mostFurther);
    for (let i = n - 1; i > 0; i--) {
      const member = i >= most ? NEVER : next(this.compile(prefix[i], `${path}/prefixItems/${i}`));
      rest = expressions.sequence(member, rest);
      if (i >= least) rest = expressions.optional(rest);
    }
    const first =
      n > 0
        ? expressions.sequence(this.compile(prefix[0], `${path}/prefixItems/0`), rest)
        : expressions.sequence(
            further,
            expressions.repeat(next(further), Math.max(0, least - 1), Math.max(0, most - 1)),
          );
    const inner = expressions.any([least === 0 ? EMPTY : NEVER, most === 0 ? NEVER : first]);
    return expressions.sequence(expressions.literal('['), inner, expressions.literal(']'));
  }

  private object(schema: Schema, path: string): Expression {
    const { expressions } = this;
    const properties = schema.properties ?? {};
    if (!isObject(properties)) invalid(path, `properties must be an object, got ${show(properties)}`);
    const required = schema.required ?? [];
    if (!Array.isArray(required) || required.some((name) => typeof name !== 'string')) {
      invalid(path, `required must be an array of texts, got ${show(required)}`);
    }
    const additional = schema.additionalProperties;
    // Where the schema lists members and is silent about others, there are no others.
    const others = additional ?? Object.keys(properties).length === 0;
    const otherPath = `${path}/additionalProperties`;
    const otherValue = others === false ? NEVER : this.compile(others, otherPath);
    const members = Object.entries(properties).map(([name, member]) => ({
      name,
      value: this.compile(member, `${path}/properties/${name}`),
      required: required.includes(name),
    }));
    for (const name of new Set(required as string[])) {
      if (Object.hasOwn(properties, name)) continue;
      const value = additional === undefined ? this.any() : otherValue;
      if (value === NEVER) invalid(path, `required names ${show(name)}, which additionalProperties forbids`);
      members.push({ name, value, required: true });
    }
    const names = members.map(({ name }) => name);
    const other = otherValue === NEVER ? NEVER : expressions.sequence(this.otherName(names), this.colon, otherValue);
    const next = (e: Expression): Expression => expressions.sequence(this.separator, e);
    const moreOthers = otherValue === NEVER ? EMPTY : expressions.repeat(next(other), 0, Infinity);
    // From the last member to the first: what may follow when no member stands before, and when one does.
    let first = expressions.optional(expressions.sequence(other, moreOthers));
    let later = moreOthers;
    for (const { name, value, required: needed } of members.reverse()) {
      const member = expressions.sequence(
        expressions.literal(byteText(JSON.stringify(name))),
        this.colon,
        value,
        later,
      );
      first = needed ? member : expressions.any([member, first]);
      later = needed ? next(member) : expressions.any([next(member), later]);
    }
    return expressions.sequence(expressions.literal('{'), first, expressions.literal('}'));
  }

  /** A member's name that is none of `names`, without escapes, which could spell one of them. */
  private otherName(names: readonly string[]): Expression {
    const { expressions } = this;
    const beyondAscii = this.encode(normalise([[0x80, LAST_CODE_POINT]]));
    const plain = (taken: ReadonlySet<string>): Expression => {
      const foreign = [...taken].some((character) => character.codePointAt(0)! > 0x7f);
      const ascii = expressions.bytes(
        (byte) =>
          byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c && !taken.has(String.fromCharCode(byte)),
      );
      return expressions.any([ascii, foreign ? NEVER : beyondAscii]);
    };
    const rest = expressions.sequence(expressions.repeat(plain(new Set()), 0, Infinity), expressions.literal('"'));
    const differing = (suffixes: readonly string[]): Expression => {
      if (suffixes.length === 0) return rest;
      const byFirst = new Map<string, string[]>();
      for (const suffix of suffixes) {
        const character = String.fromCodePoint(suffix.codePointAt(0) ?? 0);
        if (suffix === '') continue;
        byFirst.set(character, [...(byFirst.get(character) ?? []), suffix.slice(character.length)]);
      }
      const parts = [expressions.sequence(plain(new Set(byFirst.keys())), rest)];
      if (!suffixes.includes('')) parts.push(expressions.literal('"'));
      for (const [character, tails] of byFirst) {
        const written = this.encode(normalise([[character.codePointAt(0)!, character.codePointAt(0)!]]));
        parts.push(expressions.sequence(written, differing(tails)));
      }
      return expressions.any(parts);
    };
    return expressions.sequence(expressions.literal('"'), differing(names));
  }

  private reference(target: unknown, path: string): Expression {
    if (typeof target !== 'string') invalid(path, `$ref must be a text, got ${show(target)}`);
    if (!target.startsWith('#')) {
      raise(SQLSTATE.featureNotSupported, `schema $ref ${show(target)} at ${at(path)} is not supported`, {
        hint: 'only references within the schema are, as #/$defs/NAME',
      });
    }
    refuseCircle(this.root, target);
    const known = this.references.get(target);
    if (known !== undefined) return known.expression;
    const made = this.expressions.reference();
    this.references.set(target, made);
    this.toDefine.push(target);
    return made.expression;
  }
}
