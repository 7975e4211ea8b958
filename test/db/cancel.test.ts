/** A long call ends soon after statement_timeout or a cancel request, and its backend goes on. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smollm2File } from '../golden/smollm2-file.ts';
import { createDatabase, ingestFile } from './harness.ts';
import { processorTime } from './processor-time.ts';

const MODEL = 'smollm2';
const TIMEOUT_MS = 500; // statement_timeout, and the delay before a cancel request
const LATENCY_MS = 250; // stated: a call ends this soon after it was asked to
const ASSERTED_MS = 4 * LATENCY_MS; // of the processor: machines that run tests are busy, and what others take does not count
const QUERY_CANCELED = '57014';

const ENDLESS = `select hartonomous.complete(repeat('Tell a very long story. ', 20), '${MODEL}',
  '{"raw": true, "num_predict": -1, "num_ctx": 2048, "temperature": 0, "record": false, "logit_bias": {"2": -1000, "0": -1000}}')`;
// A prompt of about 2,000 tokens that stands in no cache.
const LONG_PROMPT = `select hartonomous.complete(repeat('Tell a very long story. ', 330), '${MODEL}',
  '{"raw": true, "num_predict": 1, "num_ctx": 2100, "record": false, "cache": false}')`;
const SHORT = `select hartonomous.complete('Once upon', '${MODEL}', '{"raw": true, "num_predict": 2, "record": false}') as answer`;
// A recorded run of about 100 tokens: with one deletion for each, explaining it takes far longer than without.
const RECORDED = `select (hartonomous.complete(repeat('Tell a very long story. ', 16), '${MODEL}',
  '{"raw": true, "num_predict": 2, "temperature": 0, "record": true}')->>'run_id')::int as id`;

let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  const golden = JSON.parse(readFileSync(new URL('../golden/smollm2-135m-q4_1.json', import.meta.url), 'utf8')) as {
    sha256: string;
  };
  database = await createDatabase();
  await ingestFile(database.url, smollm2File(golden.sha256), MODEL);
}, 300_000);

afterAll(async () => {
  await database?.drop();
});

interface Ended {
  code: string | undefined;
  /** Milliseconds from when it was asked to end to its error: as they passed, and those of the processor that its backend took. */
  passed: number;
  computed: number;
}

/** Run a statement that has to fail, and is asked to after `ms` milliseconds: by itself, or by `ask`. */
async function untilError(
  client: pg.Client,
  pid: number,
  sql: string,
  ms: number,
  ask?: () => Promise<unknown>,
): Promise<Ended> {
  const ended = client.query(sql).then(
    () => null,
    (error: unknown) => (error as pg.DatabaseError).code,
  );
  await sleep(ms);
  const asked = performance.now();
  const before = processorTime(pid);
  await ask?.();
  const code = await ended;
  if (code === null) throw new Error(`statement ended by itself: ${sql}`);
  return { code, passed: performance.now() - asked, computed: processorTime(pid) - before };
}

/** What Ctrl-C in psql sends: a cancel request for this client's backend from another connection. */
async function cancelAfter(client: pg.Client, pid: number, sql: string): Promise<Ended> {
  return await untilError(client, pid, sql, TIMEOUT_MS, () =>
    database.pool.query('select pg_cancel_backend($1)', [pid]),
  );
}

async function withClient<T>(setup: string[], work: (client: pg.Client, pid: number) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    for (const sql of setup) await client.query(sql);
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    return await work(client, rows[0].pid);
  } finally {
    await client.end();
  }
}

function check(what: string, { code, passed, computed }: Ended): void {
  console.log(`${what}: ${Math.round(passed)} ms, ${computed} ms of the processor`);
  expect(code).toBe(QUERY_CANCELED);
  expect(computed).toBeLessThan(ASSERTED_MS);
}

async function expectAnswer(client: pg.Client): Promise<void> {
  await client.query('set statement_timeout = 0');
  const { rows } = await client.query<{ answer: { eval_count: number; text: string } }>(SHORT);
  expect(rows[0].answer.eval_count).toBeGreaterThan(0);
}

describe.each([
  ['as the host comes', []],
  ['with interruption by the host switched off', ['set hartonomous_v8.interrupts = off']],
])('%s', (title, setup) => {
  it('statement_timeout ends a generation', async () => {
    await withClient([...setup, SHORT, `set statement_timeout = ${TIMEOUT_MS}`], async (client, pid) => {
      check(`statement_timeout in a generation, ${title}`, await untilError(client, pid, ENDLESS, TIMEOUT_MS));
      await expectAnswer(client);
    });
  });

  it('a cancel request ends a generation', async () => {
    await withClient([...setup, SHORT], async (client, pid) => {
      check(`cancel request in a generation, ${title}`, await cancelAfter(client, pid, ENDLESS));
      await expectAnswer(client);
    });
  });

  it.each([100, 300, TIMEOUT_MS])(
    'statement_timeout of %i ms ends the prefill of a prompt of 2,000 tokens',
    async (timeout) => {
      await withClient([...setup, SHORT, `set statement_timeout = ${timeout}`], async (client, pid) => {
        const ended = await untilError(client, pid, LONG_PROMPT, timeout);
        check(`statement_timeout of ${timeout} ms in a prefill, ${title}`, ended);
        await expectAnswer(client);
      });
    },
  );

  it.each([20, 60, 150, 400, TIMEOUT_MS])(
    'statement_timeout of %i ms ends a call that has to load first',
    async (timeout) => {
      await withClient([...setup, `set statement_timeout = ${timeout}`], async (client, pid) => {
        const ended = await untilError(client, pid, ENDLESS, timeout);
        check(`statement_timeout of ${timeout} ms while loading, ${title}`, ended);
        await expectAnswer(client);
      });
    },
  );

  it('statement_timeout ends an explanation among its deletions', async () => {
    await withClient(setup, async (client, pid) => {
      const { rows } = await client.query<{ id: number }>(RECORDED);
      const explain = (inputs: string): string => `select hartonomous.explain(${rows[0].id}, 1, inputs => '${inputs}')`;
      // All that comes before the deletions, so that the timeout falls among them.
      const started = performance.now();
      await client.query(explain('none'));
      const timeout = Math.ceil(performance.now() - started) + TIMEOUT_MS;
      await client.query(`set statement_timeout = ${timeout}`);
      const ended = await untilError(client, pid, explain('tokens'), timeout);
      check(`statement_timeout of ${timeout} ms in an explanation, ${title}`, ended);
      await expectAnswer(client);
    });
  });
});
