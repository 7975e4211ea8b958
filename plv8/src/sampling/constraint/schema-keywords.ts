/** A schema, its keywords, and what is said about one that cannot be compiled, and where in it. */
import { isObject } from '../../format/json-object.ts';
import { HartonomousError, prefixed, raise, SQLSTATE } from '../../errors.ts';
import { quoted } from '../../format/visible-text.ts';

export type Schema = Record<string, unknown>;

/** Schemas within schemas. */
export const MAX_DEPTH = 100;

export const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const;
export type Type = (typeof TYPES)[number];

/** Keywords that say something about values of one type only, and nothing but that. */
export const KEYWORDS: Readonly<Record<string, Type>> = {
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  patternProperties: 'object',
  propertyNames: 'object',
  minProperties: 'object',
  maxProperties: 'object',
  unevaluatedProperties: 'object',
  items: 'array',
  additionalItems: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  uniqueItems: 'array',
  contains: 'array',
  minContains: 'array',
  maxContains: 'array',
  unevaluatedItems: 'array',
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  contentEncoding: 'string',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
  multipleOf: 'number',
};

/** Keywords about values of every type. */
const GENERAL: ReadonlySet<string> = new Set(['type', 'nullable', 'enum', 'const']);

/** Keywords that put schemas for the same value together. */
const APPLICATORS: ReadonlySet<string> = new Set([
  ...['$ref', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else'],
  ...['dependentRequired', 'dependentSchemas', 'dependencies'],
]);

/** Keywords of JSON Schema's drafts and of OpenAPI that say nothing about which values are valid. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['$schema', '$id', 'id', '$anchor', '$comment', '$defs', 'definitions', '$vocabulary', '$dynamicAnchor'],
  ...['$recursiveAnchor', 'title', 'description', 'default', 'example', 'examples', 'deprecated', 'readOnly'],
  ...['writeOnly', 'contentMediaType', 'contentSchema', 'discriminator', 'xml', 'externalDocs'],
]);

/** Keywords of the drafts that decide about values in ways that are not followed here. */
const REFUSED: ReadonlySet<string> = new Set(['$dynamicRef', '$recursiveRef', 'extends', 'disallow', 'divisibleBy']);

export type KeywordKind = 'local' | 'applicator' | 'annotation' | 'refused' | 'unknown';

export function kindOf(keyword: string): KeywordKind {
  if (Object.hasOwn(KEYWORDS, keyword) || GENERAL.has(keyword)) return 'local';
  if (APPLICATORS.has(keyword)) return 'applicator';
  if (ANNOTATIONS.has(keyword)) return 'annotation';
  return REFUSED.has(keyword) ? 'refused' : 'unknown';
}

/** A place in a schema, of which a long one is cut. */
export function at(path: string): string {
  return path.length > 80 ? `${path.slice(0, 77)}...` : path;
}

export function invalid(path: string, what: string): never {
  raise(SQLSTATE.invalidParameterValue, `schema at ${at(path)}: ${what}`);
}

/** What is wrong with a pattern names its place. */
export function inPlace<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof HartonomousError)) throw error;
    throw prefixed(`schema at ${at(path)}`, error);
  }
}

/** Refuse a keyword that decides about values and is not followed. */
export function unsupported(keyword: string, path: string, how = '', hint?: string): never {
  raise(
    SQLSTATE.featureNotSupported,
    `schema keyword ${show(keyword)} at ${at(path)} is not supported${how}`,
    hint === undefined ? {} : { hint },
  );
}

/** A value as it stands in a message. */
export function show(value: unknown): string {
  return quoted(value, 60);
}

/** The types that a schema names, `nullable` of OpenAPI included; null where it names none. */
export function typesOf(schema: Schema, path: string): ReadonlySet<Type> | null {
  const given = schema.type;
  if (given === undefined) return null;
  const names: unknown[] = Array.isArray(given) ? given : [given];
  for (const name of names) {
    if (!(TYPES as readonly unknown[]).includes(name)) {
      invalid(path, `type must be one of ${TYPES.join(', ')} or an array of them, got ${show(given)}`);
    }
  }
  const types = new Set(names as Type[]);
  if (schema.nullable === true) types.add('null');
  return types;
}

/** Two JSON values are the same: members in any order. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  }
  if (!isObject(a)) return a === b;
  if (!isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
  );
}

/** An integer that is not negative. */
export function countOf(schema: Schema, key: string, fallback: number, path: string): number {
  const value = schema[key];
  if (value === undefined) return fallback;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
    invalid(path, `${key} must be an integer that is not negative, got ${show(value)}`);
  }
  return value;
}

/** The counts that `min` and `max` of a keyword say, from 0 to Infinity where they are silent. */
export function countsOf(schema: Schema, keyword: string, path: string): [least: number, most: number] {
  const least = countOf(schema, `min${keyword}`, 0, path);
  const most = countOf(schema, `max${keyword}`, Infinity, path);
  if (least > most) invalid(path, `min${keyword} is ${least}, max${keyword} is ${most}`);
  return [least, most];
}

/** The non-empty array of schemas of allOf, anyOf or oneOf. */
export function membersOf(schema: Schema, key: string, path: string): readonly unknown[] {
  const members = schema[key];
  if (!Array.isArray(members) || members.length === 0) {
    invalid(path, `${key} must be an array that is not empty, got ${show(members)}`);
  }
  return members;
}
