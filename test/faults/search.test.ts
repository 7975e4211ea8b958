/** work() whose client is killed, `work --follow`, and a disk that is full: no change is lost, and at most one batch is done again. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { random } from '../../bench/random.ts';
import { Searches } from '../db/searches.ts';
import { LONG } from '../long.ts';
import { growDisk, releaseDisk, smallDisk } from './small-disk.ts';

const SEED = Number(process.env.FAULT_SEED ?? 1);
const KILLS = LONG ? 40 : 8;
const ROWS = 40;
/** Rows of a batch where nobody says how many. */
const BATCH = 16;
/** What a session of the owner's waits for in a trigger on chunks. */
const ADVISORY = 26;

const searches = new Searches();
const { owner, rows, login, differences, waitUntil } = searches;
let admin: pg.Client;
let session: pg.Client;

beforeAll(async () => {
  ({ admin, session } = await searches.open());
  // So that a batch reads the texts of its rows alone, as of a table that is large; what is switched off costs much, for which
  // PostgreSQL would compile.
  for (const setting of ['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']) {
    await admin.query(`alter role ${owner} set ${setting} = off`);
    await session.query(`set ${setting} = off`);
  }
  // Stable in name only: no rollback takes back that a text was read.
  await session.query(`
    create sequence reads;
    create function read(body text) returns text language plpgsql stable as $$
    begin perform nextval('app.reads'); return body; end $$;
    create function hold() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(${ADVISORY}); return new; end $$`);
});
afterAll(searches.close);

const PROGRAMS = {
  psql: () => [join(postgresBin(), 'psql'), '-X', '-q', '-d', searches.ownersUrl, '-c', 'call hartonomous.work()'],
  'hartonomous work': () => [process.execPath, join(packageRoot(), 'dist/cli/main.js'), 'work'],
} as const;
type Program = keyof typeof PROGRAMS;

/** A client that works for the owner; its session looks every so often whether the client is there, 0: never. */
function start(program: Program, { checks, more = [] }: { checks: string; more?: string[] }): ChildProcess {
  const [command, ...args] = [...PROGRAMS[program](), ...more] as [string, ...string[]];
  return spawn(command, args, {
    env: {
      ...process.env,
      DATABASE_URL: searches.ownersUrl,
      PGOPTIONS: `-c client_connection_check_interval=${checks}`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
}

/** Sessions of these programs. */
const SESSIONS = `from pg_stat_activity where usename = '${owner}' and application_name in ('psql', 'hartonomous')`;
const WAITING = `${SESSIONS} and wait_event_type = 'Lock' and query ~ 'call hartonomous.work'`;

async function makeNotes(name: string, count = ROWS): Promise<void> {
  await session.query(`create table ${name} (id bigint primary key, body text)`);
  await session.query(`select hartonomous.create_search('${name}', options =>
    '{"expression": "app.read(body)", "chunking": {"size": 20}, "language": "english", "vector": "bytea"}')`);
  await session.query(
    `create trigger hold before insert on ${name}_search_chunks for each row execute function hold()`,
  );
  await session.query(`insert into ${name} select i, 'note ' || i from generate_series(1, ${count}) i`);
  await session.query(`alter sequence reads restart`);
}

/** Everything is embedded as it is in the table, every entry done once, and rows were read that often again at most. */
async function expectAll(name: string, again: number, count = ROWS): Promise<void> {
  expect(await differences(name)).toEqual([]);
  expect(await rows(`select count(*)::integer as n from ${name}_search_queue`)).toEqual([{ n: 0 }]);
  const state = `select rows_done::integer as done, failed::integer as failed, error from hartonomous.search_list where search = $1::regclass`;
  expect(await rows(state, `${name}_search`)).toEqual([{ done: count + 1, failed: 0, error: null }]);
  const [{ n }] = (await rows(`select last_value::integer as n from reads`)) as [{ n: number }];
  expect(n).toBeGreaterThanOrEqual(count);
  expect(n).toBeLessThanOrEqual(count + again);
  await session.query(`select hartonomous.drop_search('${name}_search'); drop table ${name}`);
}

/** What holds a worker in its first batch. */
const PHASES = {
  'before it takes rows': (name: string) => `lock table app.${name}_search_queue in exclusive mode`,
  'when it has read them': () => 'lock table hartonomous.models in access exclusive mode',
  'before it writes': () => 'select from hartonomous.searches for update',
  'before it commits': () => `select pg_advisory_xact_lock(${ADVISORY})`,
} as const;

describe('a client that is killed', () => {
  const cases = Object.keys(PROGRAMS).flatMap((program) => Object.keys(PHASES).map((phase) => [program, phase]));
  test.each(cases as [Program, keyof typeof PHASES][])(
    '%s, %s: its session ends, and the next one does what it had taken',
    async (program, phase) => {
      await makeNotes('notes');
      const holder = await login(null);
      await holder.query(`begin; ${PHASES[phase]('notes')}`);
      const child = start(program, { checks: '100ms' });
      const gone = ended(child);
      await waitUntil('a worker waits', `exists (select ${WAITING})`);
      child.kill('SIGKILL');
      expect(await gone).toEqual({ code: null, signal: 'SIGKILL' });
      await waitUntil('its session is gone', `not exists (select ${SESSIONS})`);
      await holder.query('rollback');
      await holder.end();
      expect(await rows('select count(*)::integer as n from notes_search_queue')).toEqual([{ n: ROWS + 1 }]);
      expect(await rows('select count(*)::integer as n from notes_search_chunks')).toEqual([{ n: 0 }]);
      await session.query('call hartonomous.work()');
      await expectAll('notes', BATCH);
    },
  );

  test('at any moment, again and again: each time one batch at most is done again', async () => {
    const count = 20 * BATCH;
    await makeNotes('often', count);
    const next = random(SEED);
    for (let i = 0; i < KILLS; i++) {
      const child = start(i % 4 === 0 ? 'hartonomous work' : 'psql', { checks: '10ms' });
      const gone = ended(child);
      await sleep(next() * (i % 4 === 0 ? 800 : 300));
      child.kill('SIGKILL');
      await gone;
      await waitUntil('its session is gone', `not exists (select ${SESSIONS})`);
    }
    await session.query('call hartonomous.work()');
    await expectAll('often', KILLS * BATCH, count);
  });

  test('and that its session does not miss: it works to the end', async () => {
    await makeNotes('unmissed');
    const holder = await login(null);
    await holder.query(`begin; ${PHASES['before it writes']()}`);
    const child = start('psql', { checks: '0' });
    const gone = ended(child);
    await waitUntil('a worker waits', `exists (select ${WAITING})`);
    child.kill('SIGKILL');
    await gone;
    await holder.query('rollback');
    await waitUntil('nothing waits', `not exists (select from app.unmissed_search_queue)`);
    await expectAll('unmissed', 0);
  });
});

describe('work --follow', () => {
  test('embeds what comes later, is in no database meanwhile, and ends when it is interrupted', async () => {
    await makeNotes('followed');
    const child = start('hartonomous work', { checks: '0', more: ['--follow'] });
    const gone = ended(child);
    let printed = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (printed += text));
    const nobody = `not exists (select ${SESSIONS})`;
    for (const [done, body] of [
      [ROWS + 1, 'once'],
      [ROWS + 2, 'twice'],
      [ROWS + 3, 'thrice'],
    ] as const) {
      const line = `followed_search: ${done} changes done in all, 0 wait, 0 given up\n`;
      await vi.waitFor(() => expect(printed).toContain(line), { timeout: 60_000 });
      await waitUntil('it has left', nobody);
      await session.query(`update followed set body = $1 where id = 7`, [body]);
    }
    await waitUntil('nothing waits', 'not exists (select from app.followed_search_queue)');
    expect(child.exitCode).toBeNull();
    child.kill('SIGINT');
    expect([
      { code: null, signal: 'SIGINT' },
      { code: 130, signal: null },
    ]).toContainEqual(await gone);
    expect(await differences('followed')).toEqual([]);
    await session.query(`select hartonomous.drop_search('followed_search'); drop table followed`);
  });

  test('ends with one line where its session is ended, and what it had taken is there for the next', async () => {
    await makeNotes('ended');
    const holder = await login(null);
    await holder.query(`begin; ${PHASES['before it commits']()}`);
    const child = start('hartonomous work', { checks: '0', more: ['--follow'] });
    const gone = ended(child);
    let told = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (told += text));
    await waitUntil('a worker waits', `exists (select ${WAITING})`);
    await admin.query(`select pg_terminate_backend(pid) ${WAITING}`);
    expect(await gone).toEqual({ code: 1, signal: null });
    expect(told).toMatch(/^hartonomous: [^\n]*terminat[^\n]*\n$/);
    await holder.query('rollback');
    await session.query('call hartonomous.work()');
    await expectAll('ended', BATCH);
  });
});

/** Rows with more than a megabyte of chunks. */
const FILLED = 120;

test('a full disk stops the work and says so, nothing is given up, and with room it goes on', async (context) => {
  const disk = smallDisk(1);
  if (disk === null) return context.skip('this user may not mount a small file system');
  const space = `small_search_${process.pid}`;
  await admin.query(`create tablespace ${space} location '${disk}'`);
  try {
    await searches.makeTable('filled');
    await searches.makeSearch('filled');
    await admin.query(`alter table app.filled_search_chunks set tablespace ${space}`);
    await session.query(
      `insert into filled select i, (select string_agg(md5(i || ' ' || j), ' ') from generate_series(1, 40) j) from generate_series(1, ${FILLED}) i`,
    );
    await session.query('call hartonomous.work()');
    const state = `select waiting::integer as waiting, failed::integer as failed, error, paused_until > now() as paused,
      (select count(distinct key)::integer from filled_search_chunks) as embedded
      from hartonomous.search_list where search = 'filled_search'::regclass`;
    const [before] = (await rows(state)) as [{ waiting: number; embedded: number }];
    expect(before).toMatchObject({
      failed: 0,
      error: expect.stringMatching(/^could not extend file .*: No space left on device$/) as string,
      paused: true,
    });
    expect(before.embedded).toBeGreaterThan(0);
    expect(before.waiting).toBeGreaterThan(0);
    expect(before.embedded + before.waiting).toBeGreaterThanOrEqual(FILLED);
    // Whoever writes does not notice, since only the chunks have no room.
    await session.query(`insert into filled values (0, 'one more')`);
    growDisk(disk, 100);
    await session.query(`select hartonomous.retry_search('filled_search')`);
    await session.query('call hartonomous.work()');
    expect(await differences('filled')).toEqual([]);
    expect(await rows(state)).toEqual([{ waiting: 0, failed: 0, error: null, paused: null, embedded: FILLED + 1 }]);
  } finally {
    await session.query(`select hartonomous.drop_search('filled_search'); drop table filled`);
    await admin.query(`drop tablespace ${space}`);
    releaseDisk(disk);
  }
});
