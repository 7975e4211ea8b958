/** Which keywords the drafts of JSON Schema and OpenAPI have, which ones a schema uses, and a schema of 2020-12 in draft 7's words. */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

type Schema = Record<string, unknown>;

const DRAFT_4 =
  'id $schema title description default multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern ' +
  'additionalItems items maxItems minItems uniqueItems maxProperties minProperties required additionalProperties definitions ' +
  'properties patternProperties dependencies enum type format allOf anyOf oneOf not $ref';
const OPENAPI =
  'title multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems ' +
  'maxProperties minProperties required enum type allOf oneOf anyOf not items properties additionalProperties description format ' +
  'default nullable discriminator readOnly writeOnly xml externalDocs example deprecated $ref';

/** Keywords of drafts 4 to 2020-12, by the metaschemas that ajv brings, and of OpenAPI 3.0 and 3.1. */
export function knownKeywords(): Set<string> {
  const refs = join(dirname(createRequire(import.meta.url).resolve('ajv/package.json')), 'dist/refs');
  const files = [
    'json-schema-draft-06.json',
    'json-schema-draft-07.json',
    ...['2019-09', '2020-12'].flatMap((draft) =>
      readdirSync(join(refs, `json-schema-${draft}/meta`)).map((file) => `json-schema-${draft}/meta/${file}`),
    ),
  ];
  const ofMetaschemas = files.flatMap((file) =>
    Object.keys((JSON.parse(readFileSync(join(refs, file), 'utf8')) as { properties: object }).properties),
  );
  return new Set([...ofMetaschemas, ...DRAFT_4.split(' '), ...OPENAPI.split(' ')]);
}

/** Keywords whose members are schemas by name. */
const BY_NAME = ['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas', 'dependencies'];

/** Keywords that hold a schema or a list of them. */
const HOLDING = [
  ...[
    'items',
    'additionalItems',
    'prefixItems',
    'contains',
    'unevaluatedItems',
    'additionalProperties',
    'propertyNames',
  ],
  ...['unevaluatedProperties', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else'],
];

/** A schema whose schemas, the innermost first, are what `change` makes of them. */
function changed(schema: unknown, change: (schema: Schema) => Schema): unknown {
  if (Array.isArray(schema)) return schema.map((each) => changed(each, change));
  if (typeof schema !== 'object' || schema === null) return schema;
  const members = Object.entries(schema).map(([keyword, value]: [string, unknown]) => {
    if (HOLDING.includes(keyword)) return [keyword, changed(value, change)];
    if (!BY_NAME.includes(keyword)) return [keyword, value];
    const named = Object.entries(value as object).map(([name, each]: [string, unknown]) => [
      name,
      Array.isArray(each) ? each : changed(each, change),
    ]);
    return [keyword, Object.fromEntries(named)];
  });
  return change(Object.fromEntries(members) as Schema);
}

/** Keywords that a schema uses anywhere. */
export function keywordsOf(schema: object): Set<string> {
  const found = new Set<string>();
  changed(schema, (each) => {
    Object.keys(each).forEach((keyword) => found.add(keyword));
    return each;
  });
  return found;
}

const DRAFT_7_NAMES: Readonly<Record<string, string>> = {
  $defs: 'definitions',
  dependentRequired: 'dependencies',
  dependentSchemas: 'dependencies',
};

/** Keywords that draft 7 has not. */
const LATER = [
  'minContains',
  'maxContains',
  'unevaluatedItems',
  'unevaluatedProperties',
  '$dynamicAnchor',
  '$vocabulary',
];

/** A schema of draft 2020-12 in draft 7's words, which says no more and perhaps less. */
export function inDraft7(schema: Schema): Schema {
  const translated = changed(schema, (each) =>
    Object.fromEntries(
      Object.entries(each).flatMap(([keyword, value]): [string, unknown][] => {
        if (LATER.includes(keyword)) return [];
        if (keyword === '$anchor') return [['$id', `#${String(value)}`]];
        if (keyword === '$ref') return [[keyword, (value as string).replace('#/$defs/', '#/definitions/')]];
        if (each.prefixItems !== undefined && keyword === 'items') return [['additionalItems', value]];
        if (keyword === 'prefixItems') return [['items', value]];
        return [[DRAFT_7_NAMES[keyword] ?? keyword, value]];
      }),
    ),
  );
  return { $schema: 'http://json-schema.org/draft-07/schema#', ...(translated as Schema) };
}
