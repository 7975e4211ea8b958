/** A private cluster with the LANGUAGE plv8 that this run of the tests is about. */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cluster } from '../../cli/cluster/cluster.ts';

/** Whether our own host is to do as PL/V8 3.2 does: TEST_PORTABLE=1. */
export const PORTABLE = process.env.TEST_PORTABLE === '1';

/** Whether sessions ask engines: TEST_ENGINE=1. */
export const ENGINE = process.env.TEST_ENGINE === '1';

/** Start a cluster, in the portable mode, or with engines, where this run is in it; the URL of its first database, as its superuser. */
export async function startCluster(cluster: Cluster): Promise<string> {
  await cluster.up();
  const settings = [...(PORTABLE ? ['portable'] : []), ...(ENGINE ? ['engine'] : [])];
  if (settings.length > 0) {
    const lines = settings.map((name) => `\nhartonomous_v8.${name} = on\n`);
    appendFileSync(join(cluster.home, 'data/postgresql.auto.conf'), lines.join(''));
    cluster.down();
    await cluster.up();
  }
  return cluster.url();
}
