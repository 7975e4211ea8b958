/** The built loader of the bundle: what an isolate sees of it, and when. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const SQL = readFileSync(new URL('../../dist/hartonomous.sql', import.meta.url), 'utf8');
const TAG = '$hartonomous_bundle$';
const LOADER = SQL.split(TAG)[1]!;
/** What the SQL functions call. */
const CALLED = new Set([...SQL.matchAll(/^(?:try { )?return h\.(\w+)\(/gm)].map(([, name]) => name!));

it('shows the bundle to other functions in one step, with everything that they call', () => {
  const shown: Record<string, unknown>[] = [];
  const isolate = new Proxy<Record<string, unknown>>(
    {},
    {
      set(target, name, value) {
        // A cancel may end the loader right after this: what is there now is what the next call finds.
        if (name === 'hartonomous') shown.push({ ...(value as object) });
        return Reflect.set(target, name, value);
      },
    },
  );
  // The loader asks whether a context was chosen; none was.
  const load = new Function('globalThis', 'plv8', LOADER) as (globalThis: object, plv8: object) => string;
  const id = load(isolate, { execute: () => [] });
  expect(shown).toHaveLength(1);
  expect(shown[0]!.id).toBe(id);
  expect(CALLED.size).toBeGreaterThan(30);
  for (const name of CALLED) expect(shown[0]![name], name).toBeTypeOf('function');
});
