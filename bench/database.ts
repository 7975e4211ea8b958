/** The database that is measured, and connections to it. */
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';

/** The private one, as its superuser: models are installed, and extras switched off. */
export async function privateDatabase(): Promise<string> {
  const cluster = new Cluster();
  await cluster.up();
  return cluster.url();
}

export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
