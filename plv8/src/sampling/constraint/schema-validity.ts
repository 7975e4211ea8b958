/** Whether a JSON value is valid under a schema: for values that a schema lists, and for names of members. */
import type { SchemaDocument } from './schema-document.ts';
import type { Schema, Type } from './schema-keywords.ts';
import { isObject } from '../../format/json-object.ts';
import { countOf, membersOf, sameJson, typesOf } from './schema-keywords.ts';

/** Whether `value` is valid under `schema`, a part of `document`. Formats are taken as kept. */
export function isValid(document: SchemaDocument, schema: unknown, value: unknown): boolean {
  if (typeof schema === 'boolean') return schema;
  if (!isObject(schema)) return false;
  return Object.keys(schema).every((keyword) => holds(document, schema, keyword, value));
}

export function typeOf(value: unknown): Type {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as 'boolean' | 'string' | 'object';
}

export function isOfType(value: unknown, types: ReadonlySet<Type>): boolean {
  const type = typeOf(value);
  return types.has(type) || (type === 'integer' && types.has('number'));
}

/** Whether `keyword` of `schema` allows `value`. */
export function holds(document: SchemaDocument, schema: Schema, keyword: string, value: unknown): boolean {
  document.step();
  const argument = schema[keyword];
  const valid = (inner: unknown, of: unknown): boolean => isValid(document, inner, of);
  switch (keyword) {
    case 'type': {
      const types = typesOf(schema, '#');
      return types === null || isOfType(value, types);
    }
    case 'enum':
      return Array.isArray(argument) && argument.some((member) => sameJson(member, value));
    case 'const':
      return sameJson(argument, value);
    case '$ref':
      return valid(document.target(argument as string), value);
    case 'allOf':
      return membersOf(schema, keyword, '#').every((member) => valid(member, value));
    case 'anyOf':
      return membersOf(schema, keyword, '#').some((member) => valid(member, value));
    case 'oneOf':
      return membersOf(schema, keyword, '#').filter((member) => valid(member, value)).length === 1;
    case 'not':
      return !valid(argument, value);
    case 'if':
      return valid(valid(argument, value) ? (schema.then ?? true) : (schema.else ?? true), value);
    default:
      if (typeof value === 'string') return holdsForString(document, schema, keyword, value);
      if (typeof value === 'number') return holdsForNumber(schema, keyword, value);
      if (Array.isArray(value)) return holdsForArray(document, schema, keyword, value);
      return isObject(value) ? holdsForObject(document, schema, keyword, value) : true;
  }
}

function holdsForString(document: SchemaDocument, schema: Schema, keyword: string, value: string): boolean {
  switch (keyword) {
    case 'minLength':
      return [...value].length >= countOf(schema, keyword, 0, '#');
    case 'maxLength':
      return [...value].length <= countOf(schema, keyword, 0, '#');
    case 'pattern':
      return document.matches(String(schema.pattern), value);
    default:
      return true;
  }
}

function holdsForNumber(schema: Schema, keyword: string, value: number): boolean {
  const bound = schema[keyword];
  if (typeof bound !== 'number') return true;
  switch (keyword) {
    case 'minimum':
      return schema.exclusiveMinimum === true ? value > bound : value >= bound;
    case 'maximum':
      return schema.exclusiveMaximum === true ? value < bound : value <= bound;
    case 'exclusiveMinimum':
      return value > bound;
    case 'exclusiveMaximum':
      return value < bound;
    case 'multipleOf':
      return Number.isInteger(value / bound);
    default:
      return true;
  }
}

function holdsForArray(document: SchemaDocument, schema: Schema, keyword: string, value: readonly unknown[]): boolean {
  const { items, prefixItems } = tupleOf(schema);
  switch (keyword) {
    case 'items':
    case 'prefixItems':
    case 'additionalItems':
      return value.every((item, i) =>
        isValid(document, i < prefixItems.length ? prefixItems[i] : (items ?? true), item),
      );
    case 'minItems':
      return value.length >= countOf(schema, keyword, 0, '#');
    case 'maxItems':
      return value.length <= countOf(schema, keyword, 0, '#');
    case 'uniqueItems':
      return schema.uniqueItems !== true || value.every((item, i) => !value.slice(0, i).some((o) => sameJson(o, item)));
    case 'contains': {
      const found = value.filter((item) => isValid(document, schema.contains, item)).length;
      return found >= countOf(schema, 'minContains', 1, '#') && found <= countOf(schema, 'maxContains', Infinity, '#');
    }
    case 'unevaluatedItems': {
      const evaluated = evaluatedIn(document, schema, value);
      return value.every((item, i) => evaluated.has(i) || isValid(document, schema.unevaluatedItems, item));
    }
    default:
      return true;
  }
}

function holdsForObject(document: SchemaDocument, schema: Schema, keyword: string, value: Schema): boolean {
  const names = Object.keys(value);
  switch (keyword) {
    case 'required':
      return Array.isArray(schema.required) && schema.required.every((name) => Object.hasOwn(value, name as string));
    case 'properties':
    case 'patternProperties':
    case 'additionalProperties':
      return names.every((name) =>
        memberSchemas(document, schema, name).every((member) => isValid(document, member, value[name])),
      );
    case 'propertyNames':
      return names.every((name) => isValid(document, schema.propertyNames, name));
    case 'minProperties':
      return names.length >= countOf(schema, keyword, 0, '#');
    case 'maxProperties':
      return names.length <= countOf(schema, keyword, 0, '#');
    case 'dependentRequired':
    case 'dependentSchemas':
    case 'dependencies':
      return Object.entries(schema[keyword] as Schema).every(
        ([name, needed]) =>
          !Object.hasOwn(value, name) ||
          (Array.isArray(needed)
            ? needed.every((other) => Object.hasOwn(value, other as string))
            : isValid(document, needed, value)),
      );
    case 'unevaluatedProperties': {
      const evaluated = evaluatedIn(document, schema, value);
      return names.every((name) => evaluated.has(name) || isValid(document, schema.unevaluatedProperties, value[name]));
    }
    default:
      return true;
  }
}

/** Members of an object, or places of an array, that the keywords of a schema look at, those for unevaluated ones apart. */
function evaluatedIn(document: SchemaDocument, schema: Schema, value: object): ReadonlySet<string | number> {
  document.step();
  const found = new Set<string | number>();
  const within = (inner: unknown): void => {
    if (!isObject(inner) || !isValid(document, inner, value)) return;
    evaluatedIn(document, inner, value).forEach((each) => found.add(each));
    const rest = Array.isArray(value) ? inner.unevaluatedItems : inner.unevaluatedProperties;
    if (rest !== undefined) placesOf(value).forEach((each) => found.add(each));
  };
  if (typeof schema.$ref === 'string') within(document.target(schema.$ref));
  for (const list of [schema.allOf, schema.anyOf, schema.oneOf]) if (Array.isArray(list)) list.forEach(within);
  if (schema.if !== undefined) {
    within(schema.if);
    within(isValid(document, schema.if, value) ? schema.then : schema.else);
  }
  for (const dependent of [schema.dependentSchemas, schema.dependencies]) {
    if (!isObject(dependent)) continue;
    for (const [name, inner] of Object.entries(dependent)) if (Object.hasOwn(value, name)) within(inner);
  }
  if (Array.isArray(value)) {
    const { prefixItems, items } = tupleOf(schema);
    // Draft 2020-12 counts what `contains` found, draft 2019-09 does not; nor is it counted here.
    value.forEach((_, i) => (i < prefixItems.length || items !== undefined) && found.add(i));
  } else {
    for (const name of Object.keys(value)) if (memberSchemas(document, schema, name).length > 0) found.add(name);
  }
  return found;
}

function placesOf(value: object): (string | number)[] {
  return Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value);
}

/** What one schema says about the member `name`: of its properties, its patterns, else its additionalProperties. */
export function memberSchemas(document: SchemaDocument, schema: Schema, name: string): unknown[] {
  const own = isObject(schema.properties) && Object.hasOwn(schema.properties, name) ? [schema.properties[name]] : [];
  const byPattern = isObject(schema.patternProperties)
    ? Object.entries(schema.patternProperties)
        .filter(([pattern]) => document.matches(pattern, name))
        .map(([, member]) => member)
    : [];
  const said = [...own, ...byPattern];
  return said.length === 0 && schema.additionalProperties !== undefined ? [schema.additionalProperties] : said;
}

/** Items by place and the further ones, in the words of draft 2020-12. */
export function tupleOf(schema: Schema): { prefixItems: readonly unknown[]; items: unknown } {
  if (Array.isArray(schema.items)) return { prefixItems: schema.items, items: schema.additionalItems };
  return { prefixItems: Array.isArray(schema.prefixItems) ? schema.prefixItems : [], items: schema.items };
}
