/** What a hostile role tries against the limits set for it: each call counts, wherever it stands, and leaves a trace. */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, ingestFile, lacksOwn, roleName } from './harness.ts';

/** Elsewhere counts are those of one context of one backend and those of recorded runs (docs/reliability.md). */
const noCounters = lacksOwn('counters that all backends share');
const OVER_LIMIT = '53400';

let database: TestDatabase;
let caller = '';
let group = '';
const open: pg.Client[] = [];

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), 'stories');
});
afterAll(() => database.drop());

beforeEach(async () => {
  caller = roleName('caller');
  group = roleName('group');
  await database.createRole(group, 'hartonomous_user');
  await database.createRole(caller, 'hartonomous_user');
  await database.pool.query(`alter role ${caller} login password 'secret'; grant ${group} to ${caller}`);
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((client) => client.end().catch(() => undefined)));
  await database.pool.query('delete from hartonomous.limits');
});

/** A connection that logged in as the caller. */
async function login(options?: string, role = caller): Promise<pg.Client> {
  const url = new URL(database.url);
  url.username = role;
  url.password = 'secret';
  const client = new pg.Client({ connectionString: url.toString(), ...(options === undefined ? {} : { options }) });
  client.on('error', () => undefined);
  await client.connect();
  open.push(client);
  return client;
}

async function limit(name: string, value: number, role = caller): Promise<void> {
  await database.pool.query('select hartonomous.set_limit($1, $2, $3)', [name, value, role]);
}

const CALL = `select hartonomous.generate('Once', 'stories', '{"raw": true, "num_predict": 1}') as text`;

async function runsOf(role: string): Promise<number> {
  const { rows } = await database.pool.query<{ n: string }>(
    'select count(*) as n from hartonomous.runs where caller = $1',
    [role],
  );
  return Number(rows[0]!.n);
}

describe('an hourly limit on calls', () => {
  beforeEach(() => limit('max_calls_per_hour', 2));

  const full = async (client: pg.Client): Promise<void> => {
    await expect(client.query(CALL)).rejects.toMatchObject({
      code: OVER_LIMIT,
      message: `role ${caller} made 2 calls within an hour, limit max_calls_per_hour is 2`,
    });
  };

  it.skipIf(noCounters)('counts calls that are rolled back, each in a connection of its own', async () => {
    for (let i = 0; i < 2; i++) {
      const client = await login();
      await client.query('begin');
      await client.query(CALL);
      await client.query('rollback');
      await client.end();
    }
    await full(await login());
  });

  it.skipIf(noCounters)('counts calls in read-only transactions', async () => {
    for (let i = 0; i < 2; i++) {
      const client = await login();
      await client.query('begin read only');
      await client.query(CALL);
      await client.query('commit');
      await client.end();
    }
    await full(await login());
  });

  it.skipIf(noCounters)('holds in another context, and after plv8_reset()', async () => {
    const client = await login();
    await client.query(CALL);
    await client.query(CALL);
    await client.query(`set plv8.context = 'another'`);
    await full(client);
    await client.query('select plv8_reset()');
    await full(client);
  });

  it.skipIf(noCounters)('is not lifted by what a connection asks for when it begins', async () => {
    for (const [name, value] of [
      ['hartonomous_v8.segment_role', caller],
      ['hartonomous_v8.extras', 'off'],
      ['hartonomous_v8.portable', 'on'],
      ['plv8.memory_limit', '3000'],
    ]) {
      const client = await login(`-c ${name}=${value}`);
      for (let i = 0; i < 3; i++) {
        await expect(client.query(CALL)).rejects.toMatchObject({
          code: '42501',
          message: `permission denied to set parameter "${name}"`,
        });
      }
    }
    const client = await login('-c work_mem=1MB');
    await client.query(CALL);
    await client.query(CALL);
    await full(client);
  });

  it('holds for the session’s user as any role that it may become', async () => {
    const client = await login();
    await client.query(CALL);
    await client.query(`set role ${group}`);
    await client.query(CALL);
    await full(client);
    await client.query('reset role');
    await full(client);
  });

  it('counts for the role that the session became, too', async () => {
    await limit('max_calls_per_hour', 1, group);
    const client = await login();
    await client.query(`set role ${group}`);
    await client.query(CALL);
    await expect(client.query(CALL)).rejects.toThrow(`role ${group} made 1 calls within an hour`);
    // What was refused is on nobody's account.
    await client.query('reset role');
    await client.query(CALL);
    await full(client);
  });

  it.skipIf(noCounters)('admits no more at the same moment than there is room for', async () => {
    const clients = await Promise.all(Array.from({ length: 5 }, () => login()));
    const outcomes = await Promise.allSettled(clients.map((client) => client.query(CALL)));
    const admitted = outcomes.filter(({ status }) => status === 'fulfilled').length;
    expect(admitted).toBeGreaterThan(0);
    expect(admitted).toBeLessThanOrEqual(2);
  });
});

describe('an hourly limit on tokens', () => {
  it.skipIf(noCounters)('counts those of a call whose session was ended in the middle', async () => {
    await limit('max_tokens_per_hour', 100_000);
    const client = await login();
    const pid = Number((await client.query<{ pid: string }>('select pg_backend_pid() as pid')).rows[0]!.pid);
    await client.query(CALL);
    const endless = client.query(
      `select hartonomous.generate(array_fill('Once'::text, array[200]), 'stories', '{"raw": true, "num_predict": 400}')`,
    );
    const failed = expect(endless).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await database.pool.query('select pg_terminate_backend($1)', [pid]);
    await failed;
    await limit('max_tokens_per_hour', 50);
    await expect((await login()).query(CALL)).rejects.toThrow(
      /used \d+ tokens within an hour, limit max_tokens_per_hour is 50/,
    );
  });
});

describe('the other limits', () => {
  it('hold for the session’s user after SET ROLE, the stricter of both', async () => {
    await limit('max_tokens_per_answer', 3);
    await limit('max_tokens_per_answer', 5, group);
    const client = await login();
    await client.query(`set role ${group}`);
    await expect(
      client.query(`select hartonomous.generate('Once', 'stories', '{"raw": true, "num_predict": 4}')`),
    ).rejects.toThrow('option num_predict is 4, limit max_tokens_per_answer is 3');
    const { rows } = await client.query('select role_name from hartonomous.limit_list order by value');
    expect(rows).toEqual([{ role_name: caller }, { role_name: group }]);
  });

  it.skipIf(noCounters)('on loaded models hold over all contexts of a backend', async () => {
    await limit('max_loaded_models', 1);
    const client = await login();
    for (const context of ['', 'a', 'b', 'c']) {
      await client.query(`set plv8.context = '${context}'`);
      await client.query(CALL);
    }
    const { rows } = await client.query<{ load_duration: string; calls: string }>(
      'select calls from hartonomous.loaded_models',
    );
    expect(rows).toEqual([{ calls: '4' }]);
  });
});

/** Every function that computes with a model's layers; what it leaves under `recording` 1, and whether it evaluates tokens. */
const COMPUTING: [call: string, recorded: string[]][] = [
  [CALL, ['generate']],
  [
    `select * from hartonomous.generate(array['Once', 'Lily'], 'stories', '{"raw": true, "num_predict": 1}')`,
    ['generate', 'generate'],
  ],
  [`select hartonomous.complete('Once', 'stories', '{"raw": true, "num_predict": 1}')`, ['complete']],
  [
    `select hartonomous.chat('[{"role": "user", "content": "Once"}]', 'stories', '{"template": "chatml", "num_predict": 1}')`,
    ['chat'],
  ],
  [`select * from hartonomous._generate_stream('Once', 'stories', '{"raw": true, "num_predict": 1}')`, ['stream']],
  [`select hartonomous.generate_regex('Once', '[a-c]{2}', 'stories', '{"raw": true, "num_predict": 9}')`, ['generate']],
  [
    `select * from hartonomous.next_tokens(hartonomous.open_session('"Once"', 'stories', '{"raw": true, "num_predict": 1}'), 1)`,
    ['stream'],
  ],
  [`select hartonomous.logits(array[1, 2, 3], 'stories')`, ['logits']],
  [`select * from hartonomous.classify('Once', array['a', 'b'], 'stories', '{"raw": true}')`, ['classify']],
  // STABLE functions may write nothing.
  [`select hartonomous.embed('Once', 'stories', '{"pooling": "mean"}')`, []],
  [`select * from hartonomous.embed(array['Once', 'Lily'], 'stories', '{"pooling": "mean"}')`, []],
  [`select hartonomous.similarity('Once', 'Lily', 'stories', '{"pooling": "mean"}')`, []],
  [`select * from hartonomous.rerank('Once', array['Lily'], 'stories', '{"pooling": "mean"}')`, []],
];

describe('every call that computes', () => {
  const as = async (role: string, sql: string): Promise<unknown> => {
    const client = await database.pool.connect();
    try {
      await client.query(`set role ${role}`);
      return await client.query(sql);
    } finally {
      await client.query('reset role');
      client.release();
    }
  };

  it.each(COMPUTING)('counts, by its tokens too: %s', async (call, recorded) => {
    await limit('recording', 1);
    await limit('max_calls_per_hour', 0);
    await expect(as(caller, call)).rejects.toMatchObject({ code: OVER_LIMIT });
    await limit('max_calls_per_hour', 100);
    await as(caller, call);
    const { rows } = await database.pool.query<{ kind: string; evaluated: number }>(
      'select kind, prompt_eval_count as evaluated from hartonomous.runs where caller = $1 order by id',
      [caller],
    );
    expect(rows.map(({ kind }) => kind)).toEqual(recorded);
    for (const { evaluated } of rows) expect(evaluated).toBeGreaterThan(0);
    if (noCounters && recorded.length === 0) return;
    await limit('max_tokens_per_hour', 1);
    await expect(as(caller, CALL)).rejects.toThrow(/used \d+ tokens within an hour, limit max_tokens_per_hour is 1/);
  });

  it('is refused under recording 1 where it would leave a row and cannot', async () => {
    await limit('recording', 1);
    for (const [call, recorded] of COMPUTING) {
      if (recorded.length === 0) continue;
      await expect(as(caller, `set transaction read only; ${call}`), call).rejects.toMatchObject({ code: '25006' });
    }
  });
});

describe('limit recording = 1', () => {
  beforeEach(() => limit('recording', 1));

  it('keeps all that a session wrote, though its caller says that it got less', async () => {
    const client = await login();
    const { rows } = await client.query<{ id: string }>(
      `select hartonomous.open_session('"Once"', 'stories', '{"raw": true, "temperature": 0}') as id`,
    );
    const { id } = rows[0]!;
    const goBack = `select set_config('hartonomous.session_steps', '{"${id}": 0}', false)`;
    const written = async (): Promise<unknown[]> => {
      const found = await database.pool.query<{ n: number; ids: number }>(
        'select eval_count as n, cardinality(output_ids) as ids from hartonomous.runs where caller = $1',
        [caller],
      );
      return found.rows;
    };
    expect((await client.query('select from hartonomous.next_tokens($1, 6)', [id])).rowCount).toBe(6);
    await client.query(goBack);
    expect((await client.query('select from hartonomous.next_tokens($1, 1)', [id])).rowCount).toBe(1);
    expect(await written()).toEqual([{ n: 6, ids: 6 }]);
    await client.query(goBack);
    await client.query('select hartonomous.close_session($1)', [id]);
    expect(await written()).toEqual([{ n: 6, ids: 6 }]);
  });

  it('refuses a call in a read-only transaction, in a session too', async () => {
    const client = await login();
    const refusal = { code: '25006', hint: 'call in a transaction that may write, on the primary server' };
    await client.query('begin read only');
    await expect(client.query(CALL)).rejects.toMatchObject(refusal);
    await client.query('rollback');
    const { rows } = await client.query<{ id: string }>(
      `select hartonomous.open_session('"Once"', 'stories', '{"raw": true, "num_predict": 4}') as id`,
    );
    await client.query('begin read only');
    await expect(client.query('select * from hartonomous.next_tokens($1, 1)', [rows[0]!.id])).rejects.toMatchObject(
      refusal,
    );
    await client.query('rollback');
    // Of the session, which began where its transaction could write.
    expect(
      (await database.pool.query('select done_reason from hartonomous.runs where caller = $1', [caller])).rows,
    ).toEqual([{ done_reason: 'open' }]);
  });

  it.skipIf(noCounters || process.env.TEST_DATABASE_URL !== undefined)(
    'leaves one line in the log for a call that was rolled back: who, what, how much, and no text',
    async () => {
      const { rows } = await database.pool.query<{ path: string }>(
        `select current_setting('data_directory') || '/../postgresql.log' as path`,
      );
      const lines = (): string[] =>
        readFileSync(rows[0]!.path, 'utf8')
          .split('\n')
          .filter((line) => line.includes(caller) && line.includes('rolled back'));
      const client = await login();
      await client.query('begin');
      await client.query(CALL.replace('Once', 'Onceuponsecret'));
      await client.query('rollback');
      await client.query('begin; savepoint s');
      await client.query(CALL);
      await client.query('rollback to s; commit');
      await client.query(CALL);
      expect(await runsOf(caller)).toBe(1);
      const found = lines();
      expect(found).toHaveLength(2);
      const facts = JSON.parse(/rolled back (\{.*\})/.exec(found[0]!)![1]!) as Record<string, unknown>;
      expect(facts).toMatchObject({ role: caller, login: caller, model: 'stories' });
      expect(Number(facts.evaluated_tokens)).toBeGreaterThan(1);
      expect(String(facts.started)).toMatch(/^\d{4}-\d\d-\d\dT/);
      expect(readFileSync(rows[0]!.path, 'utf8')).not.toContain('Onceuponsecret');
    },
  );

  it('records a session that is given up, with what was handed out', async () => {
    const client = await login();
    const open = `select hartonomous.open_session('"Once"', 'stories', '{"raw": true, "num_predict": 6, "logit_bias": {"2": -1000}}') as id`;
    const runs = async (): Promise<unknown[]> =>
      (
        await database.pool.query(
          `select done_reason, cardinality(prompt_ids) > 0 as prompted, cardinality(output_ids) as written
           from hartonomous.runs where caller = $1 order by id`,
          [caller],
        )
      ).rows;
    const [given, ended] = [
      (await client.query<{ id: string }>(open)).rows[0]!.id,
      (await client.query<{ id: string }>(open)).rows[0]!.id,
    ];
    await client.query('select * from hartonomous.next_tokens($1, 2)', [given]);
    await client.query('select * from hartonomous.next_tokens($1, 3)', [given]);
    await client.query('select * from hartonomous.next_tokens($1, 10)', [ended]);
    await client.query('select hartonomous.close_session($1)', [ended]);
    await client.end();
    expect(await runs()).toEqual([
      { done_reason: 'open', prompted: true, written: 5 },
      { done_reason: 'length', prompted: true, written: 6 },
    ]);
    const { rows } = await database.pool.query(
      'select sum(calls)::int as calls from hartonomous.role_usage where role = $1',
      [caller],
    );
    expect(rows).toEqual([{ calls: 2 }]);
  });

  it('records a session that was opened in a transaction which was rolled back', async () => {
    const client = await login();
    await client.query('begin');
    const { rows } = await client.query<{ id: string }>(
      `select hartonomous.open_session('"Once"', 'stories', '{"raw": true, "num_predict": 9, "logit_bias": {"2": -1000}}') as id`,
    );
    await client.query('rollback');
    await client.query('select * from hartonomous.next_tokens($1, 5)', [rows[0]!.id]);
    const written = async (): Promise<unknown[]> =>
      (
        await database.pool.query(
          'select done_reason, cardinality(output_ids) as n from hartonomous.runs where caller = $1',
          [caller],
        )
      ).rows;
    expect(await written()).toEqual([{ done_reason: 'open', n: 5 }]);
    // Its end, too: the caller says that it has had what was rolled back.
    await client.query('begin');
    await client.query('select * from hartonomous.next_tokens($1, 9)', [rows[0]!.id]);
    await client.query('rollback');
    await client.query(`select set_config('hartonomous.session_steps', $1, false)`, [`{"${rows[0]!.id}": 9}`]);
    await client.query('select hartonomous.close_session($1)', [rows[0]!.id]);
    expect(await written()).toEqual([{ done_reason: 'length', n: 9 }]);
  });

  it('keeps runs that were made in the role of a group from its other members', async () => {
    const other = roleName('other');
    await database.createRole(other, group);
    await database.pool.query(`alter role ${other} login password 'secret'`);
    const [concerned, free] = [await login(), await login(undefined, other)];
    for (const client of [concerned, free]) {
      await client.query(`set role ${group}`);
      await client.query(CALL);
      await client.query(
        `select hartonomous.generate('a', 'stories', '{"raw": true, "num_predict": 1, "record": true}')`,
      );
    }
    const prune = (): Promise<unknown> => free.query(`select hartonomous.prune_runs('-1 day')`);
    await prune();
    // Those of a login under a limit stay: two of the concerned login.
    expect(await runsOf(group)).toBe(2);
    await database.pool.query('delete from hartonomous.limits');
    await limit('max_tokens_per_hour', 1000);
    await prune();
    expect(await runsOf(group)).toBe(2);
    await database.pool.query('delete from hartonomous.limits');
    await prune();
    expect(await runsOf(group)).toBe(0);
  });

  it('lets an hourly limit hold over connections, in whatever role the calls were made', async () => {
    await limit('max_calls_per_hour', 2);
    const first = await login();
    await first.query(`set role ${group}`);
    for (let i = 0; i < 2; i++) await first.query(CALL);
    await expect((await login()).query(CALL)).rejects.toMatchObject({ code: OVER_LIMIT });
  });

  it('keeps the runs that it concerns, as hourly limits keep those of the hour', async () => {
    const client = await login();
    await client.query(CALL);
    const prune = (age: string): Promise<unknown> => client.query('select hartonomous.prune_runs($1::interval)', [age]);
    await expect(prune('-1 day')).rejects.toMatchObject({
      code: '42501',
      message: `limit recording keeps the runs of role ${caller}`,
    });
    await client.query(`set role ${group}`);
    await client.query(CALL);
    await expect(prune('-1 day')).rejects.toMatchObject({ code: '42501' });
    await client.query('reset role');
    await database.pool.query('delete from hartonomous.limits');
    await limit('max_calls_per_hour', 100);
    // The last is an hour by its months of 30 days, and days ahead by the calendar.
    for (const age of ['59 minutes', '-1 day', '-12 months 360 days 1 hour'])
      await expect(prune(age), age).rejects.toMatchObject({ code: '42501' });
    await prune('1 hour');
    expect(await runsOf(caller)).toBe(1);
    await database.pool.query('delete from hartonomous.limits');
    await prune('-1 day');
    expect(await runsOf(caller)).toBe(0);
  });
});
