/** Before each test, vitest's messages have their turn: else they time out where many tests compute without a pause. */
import { setImmediate } from 'node:timers/promises';
import { beforeEach } from 'vitest';

beforeEach(async () => {
  await setImmediate();
});
