import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, lacksOwn } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { stress } from './driver.ts';

const SECONDS = 15;
const SEED = Number(process.env.STRESS_SEED ?? 1);

/** Whether the tests run on a host that has no engine. */
const foreign = lacksOwn('an engine');

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

for (const engine of [false, true])
  test.skipIf(engine && foreign)(
    `eight sessions at once for ${SECONDS} s (seed ${SEED})${engine ? ', with an engine,' : ''} find nothing but documented errors`,
    async () => {
      const result = await stress({ url: database.url, seconds: SECONDS, seed: SEED, sessions: 8, engine });
      console.log(JSON.stringify({ steps: result.steps, expected: result.expected }));
      expect(result.findings).toEqual([]);
      expect(result.steps.generate).toBeGreaterThan(0);
    },
  );
