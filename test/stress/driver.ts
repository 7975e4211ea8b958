/**
 * Many sessions of several roles at once, and an outsider who takes every advisory lock it sees: generating with one thread
 * or more, embedding, classifying, ingesting, explaining, removing, upgrading, cancelling, terminating, reconnecting; killing,
 * and asking an engine that is ended and starved (engine.ts), where that is asked for. Every answer has to be the one given
 * alone, every error one that is documented, and at the end the data has to be sound. Which steps a worker takes follows from the
 * seed; how they interleave is the machine's affair.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { ingest } from '../../cli/ingest/ingest.ts';
import { install } from '../../cli/install/install.ts';
import { answersAlone, FILES, GENERATE, key, OPTIONS, PASSING, PROMPTS, STAYING } from './answers.ts';
import { Neighbours, setEngine } from './engine.ts';
import { killProcesses } from './kills.ts';
import { connected, connectedAgain, PASSWORD, wasKilled } from './sessions.ts';
import type { StressOptions, StressResult } from './worker.ts';
import { randomOf, THREADS, Worker } from './worker.ts';

/** Who the workers are by turns: the one who runs this, users of whom one has every call recorded, an admin. */
const GROUPS = [null, 'hartonomous_user', 'hartonomous_user', 'hartonomous_admin'] as const;

/** A login in a group, or in none. */
async function createLogin(client: pg.Client, name: string, group: string | null): Promise<void> {
  await client.query(`create role ${name} login password '${PASSWORD}'`);
  if (group === 'hartonomous_admin') await client.query(`grant hartonomous_user to ${name}`);
  if (group !== null) await client.query(`grant ${group} to ${name}`);
}

/** Take every advisory lock that others hold, exclusively as soon as they let it go, until the time is over. */
async function takeLocks(url: string, login: string, until: number): Promise<void> {
  const client = await connected(url, login);
  try {
    while (Date.now() < until) {
      await client.query(
        `select case objsubid when 1 then pg_try_advisory_lock(classid::bigint << 32 | objid::bigint)
           else pg_try_advisory_lock(classid::bigint::bit(32)::integer, objid::bigint::bit(32)::integer) end
         from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database())`,
      );
      await sleep(10);
    }
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** The same, again and again, as long as backends are killed. */
async function takeLocksAgain(options: StressOptions, login: string, until: number): Promise<void> {
  while (Date.now() < until) {
    try {
      await takeLocks(options.url, login, until);
    } catch (error) {
      if (!options.kills || !wasKilled(error)) throw error;
      await sleep(100);
    }
  }
}

/** What databases beside the one of the sessions have to answer. */
function questionOf(alone: Map<string, string>): { sql: string; args: unknown[]; text: string } {
  const [prompt] = PROMPTS as [string];
  return { sql: GENERATE, args: [prompt, STAYING, OPTIONS], text: alone.get(key(STAYING, prompt))! };
}

/** Run the workers; the result's findings are empty when all is well. */
export async function stress(options: StressOptions): Promise<StressResult> {
  const result: StressResult = { steps: {}, expected: {}, findings: [] };
  const alone = await answersAlone(options.url);
  const neighbours = options.engine === true ? new Neighbours(options, questionOf(alone)) : null;
  await neighbours?.begin();
  if (options.engine === true) await setEngine(options.url, true);
  options.log?.(`${options.sessions} sessions, ${options.seconds} s, seed ${options.seed}`);
  let client = await connected(options.url);
  const logins = GROUPS.map((group, i) => (group === null ? null : `stress_${process.pid}_${i}`));
  const [, anna, ben] = logins as [null, string, string];
  const outsider = `stress_${process.pid}_outsider`;
  try {
    for (const [i, login] of logins.entries()) if (login !== null) await createLogin(client, login, GROUPS[i]!);
    await createLogin(client, outsider, null);
    await client.query(`select hartonomous.set_limit('recording', 1, $1)`, [anna]);
    await client.query(
      `do $$ begin execute format('alter database %I set hartonomous_v8.threads = ${THREADS}', current_database()); end $$`,
    );
    const until = Date.now() + options.seconds * 1000;
    const workers = Array.from(
      { length: options.sessions },
      (_, i) => new Worker(options, alone, result, i, logins[i % logins.length]!),
    );
    const killing = options.kills ? killProcesses(options.url, randomOf(options.seed), until) : null;
    const [beside] = await Promise.all([
      neighbours?.run(until),
      ...workers.map((worker) => worker.run(until)),
      takeLocksAgain(options, outsider, until),
      killing,
    ]);
    if (beside !== undefined) {
      result.steps['databases copied, renamed and dropped'] = beside.rounds;
      result.findings.push(...beside.findings);
    }
    if (killing !== null) {
      result.steps.killed = await killing;
      await client.end().catch(() => undefined);
      client = await connectedAgain(options.url);
      // The same commands complete what was interrupted.
      await install(client);
      for (const name of PASSING) await ingest(client, FILES[name]!, { name, replace: true });
    }
    for (const login of [anna, ben]) {
      const own = await connected(options.url, login);
      const { rows } = await own.query<{ caller: string; n: number }>(
        'select caller, count(*)::integer as n from hartonomous.run_list group by caller',
      );
      await own.end();
      for (const { caller } of rows) if (caller !== login) result.findings.push(`${login} sees runs of ${caller}`);
      if (login === anna && rows.length === 0) result.findings.push('nothing was recorded where everything has to be');
    }
    const { rows } = await client.query('select * from hartonomous.check_integrity()');
    for (const row of rows) result.findings.push(`integrity at the end: ${JSON.stringify(row)}`);
    const left = await client.query<{ name: string }>(`select name from hartonomous.models where state <> 'ready'`);
    for (const row of left.rows) result.findings.push(`model ${row.name} was left half ingested`);
  } finally {
    await client.query(
      `do $$ begin execute format('alter database %I reset hartonomous_v8.threads', current_database()); end $$`,
    );
    if (options.engine === true) await setEngine(options.url, false);
    await neighbours?.end();
    for (const login of [...logins, outsider]) {
      if (login === null) continue;
      await client.query(`delete from hartonomous.limits where role_name = '${login}'`);
      await client.query(`drop owned by ${login}; drop role ${login}`);
    }
    await client.end();
  }
  return result;
}

/** `npm run stress -- [SECONDS] [SEED] [kills] [engine]`: against a private cluster of its own. */
export function readArguments(args: string[]): { seconds: number; seed: number; kills: boolean; engine: boolean } {
  const [seconds = '300', seed = String(Date.now() % 1_000_000), ...words] = args;
  if (!/^\d+$/.test(seconds) || !/^\d+$/.test(seed) || words.some((word) => word !== 'kills' && word !== 'engine'))
    throw new Error('usage: npm run stress -- [SECONDS] [SEED] [kills] [engine]');
  const [kills, engine] = ['kills', 'engine'].map((word) => words.includes(word)) as [boolean, boolean];
  return { seconds: Number(seconds), seed: Number(seed), kills, engine };
}
