/** What `doctor` says of kernels on machines that are not at hand. */
import { expect, test } from 'vitest';
import type { KernelFacts } from '../../../cli/commands/kernel-checks.ts';
import { kernelFindings } from '../../../cli/commands/kernel-checks.ts';

const FAST: KernelFacts = {
  kernels: 'native (avx2)',
  threads: 8,
  extras: 'on',
  portable: 'off',
  setting: '-1',
  owner: true,
};

const lines = (facts: Partial<KernelFacts>, host = 'hartonomous_v8'): string[] =>
  kernelFindings({ ...FAST, ...facts }, host).map(({ found, next }) =>
    [found, next].filter((text) => text !== '').join(' -> '),
  );

test.each<[Partial<KernelFacts>, string]>([
  [{}, 'native (avx2)'],
  [{ kernels: 'native (neon)' }, 'native (neon)'],
  [
    { kernels: 'native (baseline)' },
    'native (baseline), which is slow: this processor has neither AVX2 with F16C nor AVX-512, nor NEON with dotprod -> a machine that has one of them',
  ],
  [
    { kernels: 'relaxed', extras: 'off' },
    'relaxed, which is slow: hartonomous_v8.extras is off -> alter system reset hartonomous_v8.extras',
  ],
  [
    { kernels: 'plain', portable: 'on' },
    'plain, which is slow: hartonomous_v8.portable is on -> alter system reset hartonomous_v8.portable',
  ],
  [
    { kernels: 'plain', owner: false },
    'plain, which is slow: hartonomous_v8.segment_role is not hartonomous_owner -> run as a superuser: hartonomous install',
  ],
  [{ kernels: 'plain' }, 'plain, which is slow: the extension has none -> run: host/setup.sh, then restart the server'],
])('%j', (facts, line) => expect(lines(facts)[0]).toBe(line));

test('another host has none of them', () =>
  expect(
    lines({ kernels: 'plain', threads: 1, extras: null, portable: null, setting: null, owner: false }, 'plv8'),
  ).toEqual(['plain, which is slow: plv8 has no native kernels -> docs/managed.md', '1 a call']));

test.each<[string, string]>([
  ['-1', '8 a call, hartonomous_v8.threads -1'],
  ['0', '8 a call, hartonomous_v8.threads 0 -> alter system set hartonomous_v8.threads = -1 for every processor'],
  ['1', '8 a call, hartonomous_v8.threads 1 -> alter system set hartonomous_v8.threads = -1 for every processor'],
])('hartonomous_v8.threads %s', (setting, line) => expect(lines({ setting })[1]).toBe(line));
