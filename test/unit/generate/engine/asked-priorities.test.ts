import { afterAll, expect, it, vi } from 'vitest';
import { AskedPriorities } from '../../../../plv8/src/generate/engine/asked-priorities.ts';
import type { EngineRequest, SessionCall } from '../../../../plv8/src/generate/engine/messages.ts';

const execute = vi.fn<() => object[]>();
vi.stubGlobal('plv8', { execute });
afterAll(() => vi.unstubAllGlobals());

const call = { call: 'generate', role: 10, login: 10 } as SessionCall;
const limited = { limits: [['engine_priority', 3]] } as unknown as EngineRequest;

it('priorities are those of the limits of callers', () => {
  execute.mockReturnValue([{ role: 'anna', oid: 10, name: 'engine_priority', value: 2 }]);
  const priorities = new AskedPriorities();
  expect([call, limited, call].map((each) => priorities.of(each))).toEqual([2, 3, 2]);
});

it('limits that are locked are waited for once and not for every call', () => {
  execute.mockReset();
  execute.mockImplementation(() => {
    throw new Error('canceling statement due to lock timeout');
  });
  const priorities = new AskedPriorities();
  expect([call, call, limited, call].map((each) => priorities.of(each))).toEqual([0, 0, 3, 0]);
  expect(execute).toHaveBeenCalledTimes(1);
});
