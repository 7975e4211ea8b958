import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { ingestFile, OWN_LANGUAGE } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { query, Standby, startPrimary } from './servers.ts';

const FILE = modelPath('zoo/llama-untied-gqa-f32.gguf');
const OPTIONS = `'{"raw": true, "temperature": 0, "num_predict": 24, "record": true}'`;
const GENERATE = `select hartonomous.generate('one two three', options => ${OPTIONS}) as text`;

let primary: { cluster: Cluster; url: string };
let standby: Standby;

beforeAll(async () => {
  primary = await startPrimary();
  await ingestFile(primary.url, FILE, 'zoo');
  standby = await Standby.follow(primary.url);
  await standby.catchUp(primary.url);
});

afterAll(() => {
  standby.destroy();
  primary.cluster.destroy();
});

describe('a hot standby', () => {
  test('is read-only and answers as the primary does', async () => {
    expect(await query(standby.url, 'show transaction_read_only')).toEqual([{ transaction_read_only: 'on' }]);
    expect(await query(standby.url, GENERATE)).toEqual(await query(primary.url, GENERATE));
  });

  test('chats, counts tokens and gives logits', async () => {
    for (const sql of [
      `select hartonomous.token_count('one two three') as value`,
      `select hartonomous.logits(hartonomous.tokenize('one two three')) as value`,
      `select hartonomous.complete('one two', options => ${OPTIONS}) ->> 'text' as value`,
    ]) {
      expect(await query(standby.url, sql)).toEqual(await query(primary.url, sql));
    }
  });

  test('shares weights between its backends, in segments of its own', async () => {
    for (let i = 0; i < 2; i++) {
      const client = new pg.Client({ connectionString: standby.url });
      await client.connect();
      try {
        await client.query(GENERATE);
        const { rows } = await client.query('select shared_bytes > 0 as shared from hartonomous.loaded_models');
        expect(rows).toEqual([{ shared: true }]);
      } finally {
        await client.end();
      }
    }
    expect(await query(standby.url, 'select count(*)::integer as n from hartonomous.segment_list')).toEqual([{ n: 1 }]);
  });

  test('records nothing, though it was asked to', async () => {
    const count = `select count(*)::integer as n from hartonomous.run_list`;
    await standby.catchUp(primary.url);
    const before = await query(standby.url, count);
    await query(standby.url, GENERATE);
    expect(await query(standby.url, count)).toEqual(before);
  });

  test('counts the calls that it answers itself, over connections, and refuses them where each has to be recorded', async () => {
    const as = (url: string): Promise<unknown> => {
      const counted = new URL(url);
      counted.searchParams.set('options', '-c role=counted');
      return query(counted.toString(), GENERATE);
    };
    await query(primary.url, 'create role counted');
    await query(primary.url, 'grant hartonomous_user to counted');
    await query(primary.url, `select hartonomous.set_limit('max_calls_per_hour', 2, 'counted')`);
    await standby.catchUp(primary.url);
    for (const url of OWN_LANGUAGE ? [standby.url, primary.url] : []) {
      await as(url);
      await as(url);
      await expect(as(url)).rejects.toMatchObject({ code: '53400' });
    }
    await query(primary.url, `select hartonomous.set_limit('max_calls_per_hour', null, 'counted')`);
    await query(primary.url, `select hartonomous.set_limit('recording', 1, 'counted')`);
    await standby.catchUp(primary.url);
    await expect(as(standby.url)).rejects.toMatchObject({
      code: '25006',
      hint: 'call in a transaction that may write, on the primary server',
    });
    await as(primary.url);
  });

  test('sees a model that was ingested on the primary, and no longer one that was removed', async () => {
    await ingestFile(primary.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'second');
    await standby.catchUp(primary.url);
    const asked = `select length(hartonomous.generate('one', 'second', ${OPTIONS})) > 0 as answered`;
    const client = new pg.Client({ connectionString: standby.url });
    await client.connect();
    try {
      expect((await client.query(asked)).rows).toEqual([{ answered: true }]);
      await query(primary.url, `select hartonomous.remove_model('second')`);
      await standby.catchUp(primary.url);
      await expect(client.query(asked)).rejects.toThrow('model second does not exist');
    } finally {
      await client.end();
    }
  });

  // The last one: afterwards it is no standby any more.
  test('is promoted in the middle of a generation, which ends as it would have, and records from then on', async () => {
    const long = `select hartonomous.generate('one two three', options => '{"raw": true, "temperature": 0, "num_predict": 480, "num_ctx": 512}') as text`;
    const [alone] = await query(primary.url, long);
    const running = query(standby.url, long);
    await new Promise((resolve) => setTimeout(resolve, 30));
    standby.promote();
    expect(await running).toEqual([alone]);
    const [before] = await query(standby.url, `select count(*)::integer as n from hartonomous.run_list`);
    await query(standby.url, GENERATE);
    const [after] = await query(standby.url, `select count(*)::integer as n from hartonomous.run_list`);
    expect(after?.n).toBe(Number(before?.n) + 1);
  });
});
