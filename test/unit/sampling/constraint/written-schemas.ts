/** Schemas as people and their libraries write them, and whether a value is valid. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';

interface WrittenSchema {
  name: string;
  schema: Record<string, unknown>;
  /** what it says in the words of JSON Schema, where it is OpenAPI's or has a pattern that flag u does not allow */
  sameAs?: Record<string, unknown>;
}

export const WRITTEN_SCHEMAS = JSON.parse(
  readFileSync(new URL('written-schemas.json', import.meta.url), 'utf8'),
) as WrittenSchema[];

// One of each: making one compiles its metaschema. ownProperties: `toString` and its like are no members of an empty object.
const OPTIONS = { strict: false, logger: false, validateFormats: false, ownProperties: true } as const;
const AJV = { 'draft2020-12': new Ajv2020(OPTIONS), draft7: new Ajv(OPTIONS) };

/** Whether a value is valid under a schema of draft 7, where it says so, else of draft 2020-12. */
export function validatorOf(schema: object | boolean, draft?: keyof typeof AJV): (value: unknown) => boolean {
  const says = JSON.stringify((schema as { $schema?: unknown }).$schema ?? '');
  const ajv = AJV[draft ?? (says.includes('draft-07') ? 'draft7' : 'draft2020-12')];
  const valid = ajv.compile(schema);
  if (typeof schema === 'object') ajv.removeSchema(schema); // another may have the same $id
  return valid;
}
