/** The short form of bench/serve.ts: clients that come and leave, backends that are killed, and nothing else goes wrong. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadServer } from '../../bench/serve-load.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { startTestServer } from './test-server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'tiny');
});
afterAll(() => database.drop());

test('32 clients get the right answers or a documented error while backends are killed', async () => {
  const server = await startTestServer(database.url, { queue: 16 });
  const result = await loadServer({
    url: server.url,
    model: 'tiny',
    questions: [
      { text: 'hello', answer: 'Hello! How can I help you?' },
      { text: 'how are you?', answer: "I'm doing well, thank you for asking!" },
    ],
    clients: 32,
    seconds: 6,
    tokens: 32,
    killEvery: 1,
    kill: async () => {
      const { rows } = await database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'hartonomous'
         order by state = 'active' desc, state_change desc limit 1`, // statements of the small model are short
      );
      return rows.length > 0;
    },
  });
  await server.close();
  expect(result.unexpected).toEqual([]);
  expect(result.answered).toBeGreaterThan(0);
  expect(result.left).toBeGreaterThan(0);
  expect(result.killed).toBeGreaterThan(0);
  expect(result.lost.length).toBeLessThanOrEqual(result.killed);
  const connections = async (): Promise<unknown[]> =>
    (
      await database.pool.query(
        `select pid, query from pg_stat_activity
         where datname = current_database() and application_name like 'hartonomous%' and backend_type = 'client backend'`,
      )
    ).rows;
  await expect.poll(connections, { timeout: 5000 }).toEqual([]);
});
