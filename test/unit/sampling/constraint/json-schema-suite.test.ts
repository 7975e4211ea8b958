/**
 * The public test suite of JSON Schema, out of the source archive of the Python package jsonschema: how many of its schemas are
 * accepted, and that no text of those is invalid. Skipped where pip cannot fetch it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { HartonomousError } from '../../../../plv8/src/errors.ts';
import { sourceMember } from '../../../../python-package.mjs';
import { schemaTexts } from './schema-walk.ts';
import { validatorOf } from './written-schemas.ts';

const SUITE = {
  requirement: 'jsonschema==4.23.0',
  member: 'jsonschema-4.23.0/json',
  name: 'json-schema-test-suite-4.23.0',
};

/** ajv does not count what a condition without `then` looked at as evaluated; the suite does. */
const AJV_DIFFERS = 'unevaluatedProperties with if/then/else, then not defined';

function suite(): string | null {
  try {
    return sourceMember(SUITE) as string;
  } catch {
    return null;
  }
}

const folder = suite();

it.skipIf(folder === null).each([
  ['draft2020-12', 0.7],
  ['draft7', 0.7],
] as const)('of the schemas of %s most are accepted, and every text is valid', async (draft, share) => {
  let accepted = 0;
  let refused = 0;
  const wrong: string[] = [];
  for (const file of readdirSync(join(folder!, 'tests', draft)).filter((name) => name.endsWith('.json'))) {
    await setImmediate(); // vitest wants to hear of its worker
    const groups = JSON.parse(readFileSync(join(folder!, 'tests', draft, file), 'utf8')) as {
      description: string;
      schema: object;
    }[];
    for (const { description, schema } of groups) {
      let texts: string[];
      try {
        ({ texts } = schemaTexts(schema, 3, 3));
      } catch (error) {
        // A schema that nothing satisfies is neither.
        if (error instanceof HartonomousError && error.sqlerrcode === '0A000') refused++;
        continue;
      }
      accepted++;
      if (description === AJV_DIFFERS || file === 'vocabulary.json') continue; // ajv lacks the suite's vocabularies
      const validate = validatorOf(schema, draft);
      wrong.push(
        ...texts.filter((text) => !validate(JSON.parse(text))).map((text) => `${file}: ${description}: ${text}`),
      );
    }
  }
  console.log(`${draft}: ${accepted} schemas accepted, ${refused} refused`);
  expect(wrong).toEqual([]);
  expect(accepted / (accepted + refused)).toBeGreaterThan(share);
});
