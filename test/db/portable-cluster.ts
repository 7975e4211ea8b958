/** A private cluster with the LANGUAGE plv8 that this run of the tests is about. */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cluster } from '../../cli/cluster/cluster.ts';

/** Whether our own host is to do as PL/V8 3.2 does: TEST_PORTABLE=1. */
export const PORTABLE = process.env.TEST_PORTABLE === '1';

/** Start a cluster, in the portable mode where this run is in it; the URL of its first database, as its superuser. */
export async function startCluster(cluster: Cluster): Promise<string> {
  await cluster.up();
  if (PORTABLE) {
    appendFileSync(join(cluster.home, 'data/postgresql.auto.conf'), '\nhartonomous_v8.portable = on\n');
    cluster.down();
    await cluster.up();
  }
  return cluster.url();
}
