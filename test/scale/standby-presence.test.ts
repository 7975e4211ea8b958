import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { hartonomous } from '../cli/program.ts';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { query, Standby, startPrimary } from './servers.ts';

const ASK = `select hartonomous.generate('Once', 'zoo', '{"raw": true, "num_predict": 1}')`;

let primary: { cluster: Cluster; url: string };
let standby: Standby;

beforeAll(async () => {
  primary = await startPrimary();
  await ingestFile(primary.url, modelPath('zoo/llama-untied-gqa-f32.gguf'), 'zoo');
  standby = await Standby.follow(primary.url);
});

afterAll(() => {
  standby.destroy();
  primary.cluster.destroy();
});

test('a standby shows its own backends, and a stop on the primary frees them', async () => {
  await standby.catchUp(primary.url);
  const client = new pg.Client({ connectionString: standby.url });
  await client.connect();
  try {
    await client.query(ASK);
    const { processID } = client as pg.Client & { processID: number };
    const { stdout } = await hartonomous(['ps', '--format', 'json'], { url: standby.url });
    expect(JSON.parse(stdout)).toMatchObject([{ model: 'zoo', pid: processID }]);
    expect(await query(primary.url, 'select * from hartonomous.loaded_everywhere')).toEqual([]);
    await query(primary.url, `select hartonomous.stop_model('zoo')`);
    await standby.catchUp(primary.url);
    expect((await client.query('select * from hartonomous.loaded_models')).rows).toEqual([]);
    expect(await query(standby.url, 'select * from hartonomous.loaded_everywhere')).toEqual([]);
  } finally {
    await client.end();
  }
});
