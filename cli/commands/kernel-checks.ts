/** What `doctor` says of the speed that a database gets out of its machine: which kernels, how many threads, and why. */
import type pg from 'pg';
import { OWN_HOST } from '../install/language.ts';
import type { Finding } from './operation-checks.ts';

export interface KernelFacts {
  /** As `loaded_models` has it: `native (avx2)`, `relaxed` or `plain`. */
  kernels: string;
  threads: number;
  /** hartonomous_v8.extras, .portable and .threads, and whether .segment_role names our owner; null of another host. */
  extras: string | null;
  portable: string | null;
  setting: string | null;
  owner: boolean;
}

/** The host's kernels for any processor, without vectors wider than 128 bits. */
const BASELINE = 'native (baseline)';

const FACTS = `
select k.kernels, k.threads, current_setting('hartonomous_v8.extras', true) as extras,
  current_setting('hartonomous_v8.portable', true) as portable, current_setting('hartonomous_v8.threads', true) as setting,
  coalesce(current_setting('hartonomous_v8.segment_role', true) = 'hartonomous_owner', false) as owner
from hartonomous._kernels() as k`;

/** Why models are computed by slow kernels, and what would make it otherwise; null where they are not. */
function slowness({ kernels, extras, portable, owner }: KernelFacts, host: string): [why: string, next: string] | null {
  if (kernels === BASELINE)
    return [
      'this processor has neither AVX2 with F16C nor AVX-512, nor NEON with dotprod',
      'a machine that has one of them',
    ];
  if (kernels.startsWith('native')) return null;
  if (host !== OWN_HOST) return [`${host} has no native kernels`, 'docs/managed.md'];
  if (extras === 'off') return ['hartonomous_v8.extras is off', 'alter system reset hartonomous_v8.extras'];
  if (portable === 'on') return ['hartonomous_v8.portable is on', 'alter system reset hartonomous_v8.portable'];
  if (!owner)
    return ['hartonomous_v8.segment_role is not hartonomous_owner', 'run as a superuser: hartonomous install'];
  return ['the extension has none', 'run: host/setup.sh, then restart the server'];
}

export function kernelFindings(facts: KernelFacts, host: string): Finding[] {
  const slow = slowness(facts, host);
  const { kernels, threads, setting } = facts;
  return [
    {
      check: 'kernels',
      ok: true,
      found: slow === null ? kernels : `${kernels}, which is slow: ${slow[0]}`,
      next: slow?.[1] ?? '',
    },
    {
      check: 'threads',
      ok: true,
      found: setting === null ? `${threads} a call` : `${threads} a call, hartonomous_v8.threads ${setting}`,
      next:
        setting === '-1' || setting === null ? '' : 'alter system set hartonomous_v8.threads = -1 for every processor',
    },
  ];
}

export async function kernelChecks(client: pg.Client, host: string): Promise<Finding[]> {
  return kernelFindings((await client.query<KernelFacts>(FACTS)).rows[0]!, host);
}
