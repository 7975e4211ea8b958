/**
 * Cancels and timeouts at random moments of everything that takes long: each is 57014, the next call answers, and no server
 * ends. On our own host in its portable mode, where a statement of the bundle is all that notices them, as on PL/V8.
 * CANCELS says how many; few without it. TEST_LONG=1 takes a model whose calls take seconds, else it is a tiny one. SEED repeats a run.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ingest } from '../../cli/ingest/ingest.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { smollm2File } from '../golden/smollm2-file.ts';
import { LONG } from '../long.ts';

const CANCELS = Number(process.env.CANCELS ?? 12);
const SEED = Number(process.env.SEED ?? 20);
/** Mode of our own host; PL/V8 takes it for a setting that nobody reads. */
const PORTABLE = '-c hartonomous_v8.portable=on';

const TALE = `repeat('Tell a very long story. ', 30)`;
const options = (more: object): string =>
  `'${JSON.stringify({ raw: true, temperature: 0, record: false, cache: false, logit_bias: { 0: -1000, 2: -1000 }, ...more })}'`;

interface Work {
  /** One statement, or many, which a timeout of one would hardly hit. */
  work: string | ((client: pg.Client) => Promise<unknown>);
  /** Whether it has to be the first call of its session, or is one of a session that has loaded its model. */
  fresh: boolean;
}

const WORK: Record<string, Work> = {
  load: { fresh: true, work: `select hartonomous.generate('Once', 'large', ${options({ num_predict: 1 })})` },
  prefill: { fresh: false, work: `select hartonomous.generate(${TALE}, 'large', ${options({ num_predict: 1 })})` },
  decode: { fresh: false, work: `select hartonomous.generate('Once', 'large', ${options({ num_predict: 40 })})` },
  embed: {
    fresh: true,
    work: `select count(*) from hartonomous.embed(array(select repeat('word ' || g, 40) from generate_series(1, 40) g), 'bert')`,
  },
  explain: { fresh: false, work: `select hartonomous.explain(RUN, 1, inputs => 'tokens', refresh => true)` },
  index: {
    fresh: true,
    work: `select hartonomous._check_tokenizer(id), hartonomous._check_model(id), hartonomous._index_embeddings(id)
      from hartonomous.models where name = 'large'`,
  },
  ingest: { fresh: true, work: (client) => ingest(client, largeFile(), { name: 'again' }) },
  session: {
    fresh: false,
    work: `select count(*) from hartonomous.next_tokens(hartonomous.open_session(to_json(${TALE}), 'large', ${options({ num_predict: 30 })}), 30)`,
  },
};

/** An answer of the small model, and enough garbage for the collector to run. */
const NEXT = `select hartonomous.generate('Once', 'small', ${options({ num_predict: 3 })}) as text,
  (select sum(hartonomous.token_count(repeat('some words ', 2000), 'small')) from generate_series(1, 4)) as tokens`;

let database: TestDatabase;
let watcher: pg.Client;
let expected: unknown[];
let ended = 0;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, largeFile(), 'large');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'small');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  watcher = new pg.Client({ connectionString: database.url });
  watcher.on('error', () => ended++);
  await watcher.connect();
}, 600_000);

afterAll(async () => {
  await watcher?.end();
  await database?.drop();
});

function largeFile(): string {
  if (!LONG) return modelPath('llama-260k/llama-260k-f32.gguf');
  const golden = readFileSync(new URL('../golden/smollm2-135m-q4_1.json', import.meta.url), 'utf8');
  return smollm2File((JSON.parse(golden) as { sha256: string }).sha256);
}

async function open(): Promise<{ client: pg.Client; pid: number }> {
  const client = new pg.Client({ connectionString: database.url, options: PORTABLE });
  client.on('error', () => undefined);
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { client, pid: rows[0]!.pid };
}

/** Numbers of a linear congruential generator in [0, 1). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1664525 + 1013904223) % 4294967296) / 4294967296;
}

test(
  `${CANCELS} cancels and timeouts at random moments`,
  async () => {
    const random = randomNumbers(SEED);
    const kinds = Object.entries(WORK);
    const warm = await open();
    expected = (await warm.client.query(NEXT)).rows;
    const recorded = await warm.client.query<{ id: string }>(
      `select hartonomous.complete('Tell a very long story. ', 'large', '{"raw": true, "num_predict": 2, "temperature": 0, "record": true}')->>'run_id' as id`,
    );
    const run = async ({ work }: Work, client: pg.Client): Promise<unknown> =>
      typeof work === 'string' ? client.query(work.replace('RUN', recorded.rows[0]!.id)) : work(client);
    // Ready or not, so that each ingest begins anew.
    const forget = (): Promise<unknown> =>
      watcher.query(`select hartonomous.remove_model(name) from hartonomous.models where name = 'again'`);

    // How long each takes by itself.
    const lasts = new Map<string, number>();
    for (const [name, work] of kinds) {
      const one = work.fresh ? await open() : warm;
      const started = performance.now();
      await run(work, one.client);
      lasts.set(name, performance.now() - started);
      if (work.fresh) await one.client.end();
      if (name === 'ingest') await forget();
    }
    console.log(`seed ${SEED}, ms: ${[...lasts].map(([name, ms]) => `${name} ${Math.round(ms)}`).join(', ')}`);

    const seen = new Map<string, number>();
    let done = 0;
    for (let i = 0; done < CANCELS && i < 3 * CANCELS; i++) {
      const [name, work] = kinds[i % kinds.length]!;
      const at = Math.max(1, Math.round(random() * lasts.get(name)!));
      const byTimeout = typeof work.work === 'string' && random() < 0.5;
      const { client, pid } = work.fresh ? await open() : warm;
      await client.query(`set statement_timeout = ${byTimeout ? at : 0}`);
      let code = 'ended by itself';
      const running = run(work, client).catch((error: unknown) => {
        code = (error as pg.DatabaseError).code ?? (error as Error).message;
      });
      if (!byTimeout) {
        await sleep(at);
        await watcher.query('select pg_cancel_backend($1)', [pid]);
      }
      await running;
      if (code !== 'ended by itself') {
        const key = `${name} ${code}`;
        seen.set(key, (seen.get(key) ?? 0) + 1);
        done++;
        if (done % 20 === 0) console.log(`${done} of ${CANCELS}`);
      }
      // A cancel that came too late ends the next statement, whatever it is.
      await client.query('set statement_timeout = 0').catch(() => client.query('set statement_timeout = 0'));
      expect((await client.query(NEXT)).rows, `after ${name} at ${at} ms: ${code}`).toEqual(expected);
      // A session whose opening statement was ended is there all the same, and a backend holds few.
      if (name === 'session')
        await client.query('select hartonomous.close_session(session_id) from hartonomous.sessions');
      if (work.fresh) await client.end();
      if (name === 'ingest') await forget();
    }
    await warm.client.end();
    console.log([...seen].map(([key, n]) => `${n} ${key}`).join(', '));
    expect(done).toBe(CANCELS);
    expect([...seen.keys()].filter((key) => !key.endsWith(' 57014'))).toEqual([]);
    expect(ended).toBe(0);
    expect((await watcher.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  },
  60 * 60_000,
);
