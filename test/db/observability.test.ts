/** What an operator sees of loading, of errors, and in the log; and that none of it holds a prompt. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadingName } from '../../plv8/src/backend/load-progress.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, lacksOwn } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const MODEL = 'stories';
const SECRET = 'swordfish7351';
const ASK = `select hartonomous.generate('Once', options => '{"raw": true, "num_predict": 2, "temperature": 0}')`;
const user = `onlooker_${process.pid}_${Date.now().toString(36)}`;

let database: TestDatabase;
const clients: pg.Client[] = [];

type Client = pg.Client & { processID: number };

async function connect(name = 'reports'): Promise<Client> {
  // A host without segments reads the weights from their rows, and so does every backend here.
  const client = new pg.Client({
    connectionString: database.url,
    application_name: name,
    options: '-c hartonomous_v8.extras=off',
  }) as Client;
  await client.connect();
  clients.push(client);
  return client;
}

beforeAll(async () => {
  database = await createDatabase();
  await database.pool.query(`create role ${user}; grant hartonomous_user to ${user}`);
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-f32.gguf'), MODEL);
});

afterAll(async () => {
  for (const client of clients) await client.end();
  await database.pool.query(`drop owned by ${user}; drop role ${user}`);
  await database.drop();
});

async function nameOf(pid: number): Promise<string> {
  const { rows } = await database.pool.query<{ name: string }>(
    'select application_name as name from pg_stat_activity where pid = $1',
    [pid],
  );
  return rows[0]!.name;
}

/** Load a model in `client` while its tiles are locked; what others saw, and the error or the rows. */
async function loadWhileLocked(client: Client, end: (locker: pg.Client) => Promise<unknown>): Promise<unknown> {
  const locker = await connect('locker');
  await locker.query('begin; lock table hartonomous.compositions in access exclusive mode');
  const running = client.query(ASK).then(
    ({ rows }) => rows,
    (error: pg.DatabaseError) => error.code,
  );
  await expect.poll(() => nameOf(client.processID), { timeout: 20_000 }).toBe(`reports loading ${MODEL} 0 %`);
  await end(locker);
  await locker.query('rollback');
  return running;
}

describe('application_name while a model is loaded', () => {
  test('tells the model, and is again what it was when it is loaded', async () => {
    const client = await connect();
    await client.query('begin');
    expect(await loadWhileLocked(client, () => Promise.resolve())).toHaveLength(1);
    expect(await nameOf(client.processID)).toBe('reports');
    await client.query('commit');
    expect((await client.query('show application_name')).rows).toEqual([{ application_name: 'reports' }]);
  });

  test('is what it was after a cancel, and after an error that a function catches', async () => {
    const client = await connect();
    const cancel = (locker: pg.Client): Promise<unknown> =>
      locker.query('select pg_cancel_backend($1)', [client.processID]);
    expect(await loadWhileLocked(client, cancel)).toBe('57014');
    await client.query('select 1'); // the error comes before the transaction is taken back, this answer after it
    expect(await nameOf(client.processID)).toBe('reports');

    const locker = await connect('locker');
    await locker.query('begin; lock table hartonomous.compositions in access exclusive mode');
    await client.query(`set lock_timeout = '100ms'`);
    await client.query(
      `begin; do $$ begin perform 1 from (${ASK}) a; exception when lock_not_available then null; end $$`,
    );
    expect(await nameOf(client.processID)).toBe('reports');
    await locker.query('rollback');
    await client.query('commit; reset lock_timeout');
    expect((await client.query(ASK)).rows).toHaveLength(1);
  });

  test('keeps what the caller sets in the same transaction', async () => {
    const client = await connect();
    await client.query(`begin; set local application_name = 'inner'`);
    await client.query(ASK);
    expect(await nameOf(client.processID)).toBe('inner');
    await client.query(`set application_name = 'later'; commit`);
    expect(await nameOf(client.processID)).toBe('later');
  });

  test.skipIf(lacksOwn('functions in parallel plans'))(
    'stays as it is in a parallel query, where no setting can be changed',
    async () => {
      const client = await connect();
      await client.query(`create temporary table unused (id integer)`);
      await client.query(`create table lines as select 'line ' || g as line from generate_series(1, 3) g`);
      await client.query(`alter table lines set (parallel_workers = 2); analyze lines`);
      await client.query(
        `set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0`,
      );
      const sql = `select hartonomous.embed(line, options => '{"pooling": "mean"}') as e from lines`;
      expect(JSON.stringify((await client.query(`explain ${sql}`)).rows)).toContain('Gather');
      expect((await client.query(sql)).rows).toHaveLength(3);
      expect((await client.query(`select calls from hartonomous.loaded_models`)).rows).toEqual([{ calls: '3' }]);
    },
  );

  test.each([
    ['psql', 'smollm2', 0.426, 'psql loading smollm2 42 %'],
    ['', 'smollm2', 1.01, 'loading smollm2 100 %'],
    ['x'.repeat(80), 'smollm2', 0, `${'x'.repeat(43)} loading smollm2 0 %`],
    ['psql', 'm'.repeat(80), 0.5, `loading ${'m'.repeat(50)} 50 %`],
    ['psql', 'größe', 0.5, 'psql loading gr??e 50 %'],
  ])('fits what PostgreSQL keeps: %s, %s, %d', (client, model, share, expected) => {
    expect(loadingName(client, model, share)).toBe(expected);
    expect(expected.length).toBeLessThanOrEqual(63);
  });
});

describe('errors', () => {
  const errorsOf = async (client: pg.Client): Promise<unknown> =>
    (await client.query('select sqlstate, errors from hartonomous.call_errors order by sqlstate')).rows;
  const everywhere = async (pid: number): Promise<unknown> =>
    (await database.pool.query('select errors from hartonomous.call_errors_everywhere where pid = $1', [pid])).rows;

  test('are counted by SQLSTATE in each backend, and their number is seen by every other', async () => {
    const client = await connect();
    expect(await errorsOf(client)).toEqual([]);
    expect(await everywhere(client.processID)).toEqual([]);
    for (let i = 0; i < 2; i++)
      await expect(client.query(`select hartonomous.generate('x', options => '{"nonsense": 1}')`)).rejects.toThrow();
    expect(await everywhere(client.processID)).toEqual([{ errors: '2' }]);
    await expect(client.query(`select hartonomous.tokenize('x', 'nobody')`)).rejects.toThrow('does not exist');
    await expect(client.query(`select hartonomous.hilbert_decode(-1, 2, 2)`)).rejects.toThrow();
    await client.query(ASK);
    await client.query(`set role ${user}`);
    expect(await errorsOf(client)).toEqual([
      { sqlstate: '22023', errors: '3' },
      { sqlstate: '42704', errors: '1' },
    ]);
    expect(await everywhere(client.processID)).toEqual([{ errors: '4' }]);
    const { rows } = await client.query(
      'select errors from hartonomous.call_errors_everywhere where pid = pg_backend_pid()',
    );
    expect(rows).toEqual([{ errors: '4' }]);
  });

  test('that cut a call off are counted at the next one', async () => {
    const client = await connect();
    await client.query(ASK);
    const endless = `select * from hartonomous.generate(array_fill('Once'::text, array[1000]), options =>
      '{"raw": true, "num_predict": -1, "logit_bias": {"1": -1000, "2": -1000}}')`; // one call
    await client.query(`set statement_timeout = '200ms'`);
    for (let i = 0; i < 2; i++) await expect(client.query(endless)).rejects.toMatchObject({ code: '57014' });
    await client.query('reset statement_timeout');
    expect(await errorsOf(client)).toEqual([{ sqlstate: '57014', errors: '2' }]);
    expect(await everywhere(client.processID)).toEqual([{ errors: '2' }]);
    await client.query(ASK);
    expect(await errorsOf(client)).toEqual([{ sqlstate: '57014', errors: '2' }]);
  });
});

test('the log has a line of JSON for loading, answering and unloading, without the text', async () => {
  const client = await connect();
  const events: Record<string, unknown>[] = [];
  client.on('notice', ({ message }) => {
    expect(message).not.toContain(SECRET);
    const found = /^hartonomous (\{.*\})$/.exec(message ?? '');
    if (found !== null) events.push(JSON.parse(found[1]!) as Record<string, unknown>);
  });
  await client.query('set client_min_messages = debug1');
  const options = { raw: true, num_predict: 3, temperature: 0 };
  await client.query('select hartonomous.generate($1, options => $2)', [SECRET, options]);
  await client.query('select * from hartonomous.generate(array[$1, $1], options => $2)', [SECRET, options]);
  await client.query(
    `select * from hartonomous.next_tokens(hartonomous.open_session(to_jsonb($1::text), options => $2), 9)`,
    [SECRET, options],
  );
  await client.query(`select hartonomous.embed($1, options => '{"pooling": "mean"}')`, [SECRET]);
  await client.query('select * from hartonomous.classify($1, array[$2, $3])', [SECRET, 'yes', 'no']);
  const recorded = { ...options, record: true };
  const sql = `select hartonomous.explain((hartonomous.complete($1, options => $2) ->> 'run_id')::bigint, 0)`;
  await client.query(sql, [SECRET, recorded]);
  await client.query('select hartonomous.unload()');
  await client.query('reset client_min_messages');
  const answer = { event: 'generate', model: MODEL, done_reason: 'length', eval_count: 3 };
  expect(events).toMatchObject([
    { event: 'load', model: MODEL, precision: 'f32', shared_bytes: 0 },
    answer,
    answer,
    answer,
    answer,
    { event: 'embed', model: MODEL, texts: 1 },
    { event: 'classify', model: MODEL, labels: 2 },
    answer,
    { event: 'explain', model: MODEL, steps: 1, inputs: 'spans' },
    { event: 'unload', model: MODEL },
  ]);
  for (const event of events) {
    if (event.event !== 'generate') continue;
    for (const name of ['prompt_tokens', 'prompt_eval_count', 'prompt_eval_duration', 'eval_duration'])
      expect(event[name]).toBeTypeOf('number');
  }
});
