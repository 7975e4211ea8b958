import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { freePort } from '../../cli/cluster/cluster.ts';
import { ingestFile } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { missing, Pgbouncer, pgbouncerProgram, query, Standby, startPrimary } from './servers.ts';

const FILE = modelPath('zoo/llama-untied-gqa-f32.gguf');
const WORDS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'];
const GENERATE = `select hartonomous.generate($1, options => '{"raw": true, "temperature": 0, "num_predict": 16}') as text`;

/** Reads go to two standbys at two loopback addresses and one port, as pgbouncer's list of hosts wants them. */
describe.skipIf(pgbouncerProgram() === null && missing('pgbouncer'))('pgbouncer before two standbys', () => {
  let primary: { cluster: Cluster; url: string };
  let standbys: Standby[];
  let pooler: Pgbouncer;

  beforeAll(async () => {
    primary = await startPrimary();
    await ingestFile(primary.url, FILE, 'zoo');
    const port = await freePort();
    standbys = [
      await Standby.follow(primary.url, '127.0.0.2', port),
      await Standby.follow(primary.url, '127.0.0.3', port),
    ];
    for (const standby of standbys) await standby.catchUp(primary.url);
    pooler = await Pgbouncer.start(
      primary.url,
      `host=127.0.0.2,127.0.0.3 port=${port} dbname=hartonomous pool_size=4`,
      { server_login_retry: '1', server_round_robin: '1' },
    );
  });

  afterAll(async () => {
    await pooler.stop();
    for (const standby of standbys) standby.destroy();
    primary.cluster.destroy();
  });

  test('spreads sessions over both, and every answer is the primary’s', async () => {
    const expected = await Promise.all(WORDS.map((word) => query(primary.url, GENERATE, [word])));
    const pool = new pg.Pool({ connectionString: pooler.url, max: WORDS.length });
    try {
      const answers = await Promise.all(WORDS.map(async (word) => (await pool.query(GENERATE, [word])).rows));
      expect(answers).toEqual(expected);
      const addresses = await Promise.all(
        WORDS.map(async () => {
          const sql = 'select host(inet_server_addr()) as host from pg_sleep(0.2)';
          return (await pool.query<{ host: string }>(sql)).rows[0]?.host;
        }),
      );
      expect(new Set(addresses)).toEqual(new Set(['127.0.0.2', '127.0.0.3']));
    } finally {
      await pool.end();
    }
  });

  test('goes on with the other standby when one dies', async () => {
    standbys[0]?.kill();
    const answers: unknown[] = [];
    for (const word of WORDS) {
      // Connections to the dead one break once; a client of a pooler tries again.
      for (let tries = 0; ; tries++) {
        try {
          answers.push(await query(pooler.url, GENERATE, [word]));
          break;
        } catch (error) {
          if (tries === 20) throw error;
          await new Promise((resolve) => setTimeout(resolve, 250));
        }
      }
    }
    expect(answers).toEqual(await Promise.all(WORDS.map((word) => query(primary.url, GENERATE, [word]))));
  });
});
