/**
 * Many sessions of several roles at once, and an outsider who takes every advisory lock it sees: generating with one thread
 * or more, embedding, classifying, ingesting, explaining, removing, upgrading, cancelling, terminating, reconnecting; killing
 * where that is asked for. Every answer has to be the one given alone, every error one that is documented, and at the end the
 * data has to be sound. Which steps a worker takes follows from the seed; how they interleave is the machine's affair.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { CommandError } from '../../cli/errors.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { install } from '../../cli/install/install.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { modelPath } from '../golden/model-files.ts';
import { killBackends } from './kills.ts';
import { connected, connectedAgain, PASSWORD, wasKilled } from './sessions.ts';

/** Models that stay, and those that come and go; all of them small. */
const STAYING = 'staying';
const PASSING = ['passing-a', 'passing-b', 'passing-c'];
const FILES: Record<string, string> = {
  [STAYING]: join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'),
  'passing-a': modelPath('zoo/qwen2-tiny-f32.gguf'),
  'passing-b': modelPath('zoo/llama-untied-gqa-f32.gguf'),
  'passing-c': modelPath('zoo/qwen3-tiny-f32.gguf'),
};
const PROMPTS = ['Hello, how are you?', 'Who are you?', 'What is two plus three?', 'Good evening!', 'Tell me a story.'];
const OPTIONS = { temperature: 0.7, seed: 5, num_predict: 12 };
const THREADS = 3;

/**
 * Errors that a caller has to expect here, by SQLSTATE: cancelled; a model that was removed; the answer of a session whose
 * model is gone; a run that is gone with its model; a function replaced under a running statement.
 */
const DOCUMENTED: ReadonlySet<string> = new Set(['57014', '42704', '55000', '02000', 'P0002']);
/** How a session that was terminated ends. */
const TERMINATED = /terminating connection due to administrator command|Connection terminated/;
/** Sentences of the command line for the same. */
const DOCUMENTED_COMMANDS = [/is being ingested/, /does not exist/, /was removed/];

export interface StressOptions {
  url: string;
  seconds: number;
  seed: number;
  sessions: number;
  /** Also kill backends (SIGKILL), each of which ends every session: for a server of one's own on this machine. */
  kills?: boolean;
  log?(line: string): void;
}

export interface StressResult {
  /** Steps that were taken, by kind. */
  steps: Record<string, number>;
  /** Documented errors, by SQLSTATE. */
  expected: Record<string, number>;
  /** What should not have happened. */
  findings: string[];
}

/** Random numbers of one worker (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Who the workers are by turns: the one who runs this, users of whom one has every call recorded, an admin. */
const GROUPS = [null, 'hartonomous_user', 'hartonomous_user', 'hartonomous_admin'] as const;

/** A login in a group, or in none. */
async function createLogin(client: pg.Client, name: string, group: string | null): Promise<void> {
  await client.query(`create role ${name} login password '${PASSWORD}'`);
  if (group === 'hartonomous_admin') await client.query(`grant hartonomous_user to ${name}`);
  if (group !== null) await client.query(`grant ${group} to ${name}`);
}

const key = (model: string, prompt: string): string => `${model}\0${prompt}`;

/** Functions besides generate whose result has to be the one given alone: statements over a prompt, model and options. */
const QUESTIONS: Record<string, string> = {
  embed: `select hartonomous.embed($1, $2, '{"pooling": "mean"}')::text as text where $3::jsonb is not null`,
  classify: `select string_agg(label || ' ' || probability, ', ') as text from hartonomous.classify($1, array['a greeting', 'a question', 'a story'], $2, $3)`,
  generate_json: `select hartonomous.generate_json($1, '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "count"], "additionalProperties": false}', $2, ($3::jsonb || '{"num_predict": 40}')::json)::text as text`,
  explain: `select hartonomous.explain((hartonomous.complete($1, $2, ($3::jsonb || '{"record": true}')::json) ->> 'run_id')::bigint, 0) ->> 'summary' as text`,
};

/** Answers given alone, of every model to every prompt, and of one model to every question. */
async function answersAlone(url: string): Promise<Map<string, string>> {
  const client = await connected(url);
  const answers = new Map<string, string>();
  try {
    for (const [name, file] of Object.entries(FILES)) {
      await ingest(client, file, { name, replace: true });
      for (const prompt of PROMPTS) {
        const { rows } = await client.query<{ text: string }>('select hartonomous.generate($1, $2, $3) as text', [
          prompt,
          name,
          { ...OPTIONS, cache: false },
        ]);
        answers.set(key(name, prompt), rows[0]!.text);
      }
    }
    for (const [question, sql] of Object.entries(QUESTIONS)) {
      for (const prompt of PROMPTS) {
        const { rows } = await client.query<{ text: string }>(sql, [prompt, STAYING, OPTIONS]);
        answers.set(key(question, prompt), rows[0]!.text);
      }
    }
  } finally {
    await client.end();
  }
  return answers;
}

class Worker {
  private readonly random: () => number;
  private client: pg.Client | null = null;

  constructor(
    private readonly options: StressOptions,
    private readonly alone: Map<string, string>,
    private readonly result: StressResult,
    number: number,
    private readonly login: string | null,
  ) {
    this.random = randomOf(options.seed * 1009 + number);
  }

  private pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.random() * from.length)]!;
  }

  private async session(): Promise<pg.Client> {
    this.client ??= await connectedAgain(this.options.url, this.login);
    return this.client;
  }

  private expectAnswer(model: string, prompt: string, text: string | null | undefined): void {
    const alone = this.alone.get(key(model, prompt));
    if (text === alone) return;
    this.result.findings.push(`${model} answered ${JSON.stringify(text)}, alone ${JSON.stringify(alone)}`);
  }

  private readonly steps: [kind: string, weight: number, run: () => Promise<void>][] = [
    ['generate', 30, () => this.generate(STAYING)],
    ['generate, model comes and goes', 15, () => this.generate(this.pick(PASSING))],
    ['session', 10, () => this.sessionAnswer()],
    ['batch', 10, () => this.batch()],
    ['embed', 8, () => this.ask('embed')],
    ['classify', 5, () => this.ask('classify')],
    ['constrained', 5, () => this.ask('generate_json')],
    ['explain', 5, () => this.ask('explain')],
    ['cancelled', 6, () => this.interrupted('pg_cancel_backend')],
    ['terminated', 3, () => this.terminated()],
    ['ingest', 5, () => this.ingest()],
    ['remove', 3, () => this.remove()],
    ['upgrade', 1, () => this.upgrade()],
    ['integrity', 1, () => this.integrity()],
    ['reconnect', 6, () => this.reconnect()],
    ['discard all', 4, async () => void (await (await this.session()).query('discard all'))],
  ];

  /** Take steps until the time is over. */
  async run(until: number): Promise<void> {
    const total = this.steps.reduce((sum, [, weight]) => sum + weight, 0);
    while (Date.now() < until) {
      let at = this.random() * total;
      const [kind, , run] = this.steps.find(([, weight]) => (at -= weight) < 0)!;
      this.result.steps[kind] = (this.result.steps[kind] ?? 0) + 1;
      try {
        await run();
      } catch (error) {
        this.judge(kind, error);
      }
    }
    await this.client?.end().catch(() => undefined);
  }

  private judge(kind: string, error: unknown): void {
    const { code, message } = error as pg.DatabaseError;
    if (this.options.kills && wasKilled(error)) {
      this.result.expected.killed = (this.result.expected.killed ?? 0) + 1;
      void this.client?.end().catch(() => undefined);
      this.client = null;
      return;
    }
    const documented =
      error instanceof CommandError
        ? DOCUMENTED_COMMANDS.some((pattern) => pattern.test(message))
        : code !== undefined && DOCUMENTED.has(code);
    if (!documented) {
      this.result.findings.push(`${kind}: ${code ?? ''} ${message}`);
      return;
    }
    const name = code ?? 'command';
    this.result.expected[name] = (this.result.expected[name] ?? 0) + 1;
  }

  private async generate(model: string): Promise<void> {
    const prompt = this.pick(PROMPTS);
    const client = await this.session();
    const threads = { num_thread: 1 + Math.floor(this.random() * THREADS) };
    const options = { ...OPTIONS, ...threads, ...(this.random() < 0.3 ? { record: true } : {}) };
    const { rows } = await client.query<{ text: string }>('select hartonomous.generate($1, $2, $3) as text', [
      prompt,
      model,
      options,
    ]);
    this.expectAnswer(model, prompt, rows[0]?.text);
  }

  private async batch(): Promise<void> {
    const prompts = Array.from({ length: 1 + Math.floor(this.random() * 5) }, () => this.pick(PROMPTS));
    const { rows } = await (
      await this.session()
    ).query<{ ord: number; text: string }>(
      'select ord, text from hartonomous.generate($1::text[], $2, $3) order by ord',
      [prompts, STAYING, OPTIONS],
    );
    prompts.forEach((prompt, i) => this.expectAnswer(STAYING, prompt, rows[i]?.text));
  }

  private async sessionAnswer(): Promise<void> {
    const prompt = this.pick(PROMPTS);
    const client = await this.session();
    const opened = await client.query<{ id: string }>(
      'select hartonomous.open_session(to_jsonb($1::text), $2, $3) as id',
      [prompt, STAYING, OPTIONS],
    );
    let text = '';
    for (;;) {
      const { rows } = await client.query<{ token: string; done_reason: string | null }>(
        'select token, done_reason from hartonomous.next_tokens($1, $2)',
        [opened.rows[0]?.id, 1 + Math.floor(this.random() * 4)],
      );
      text += rows.map((row) => row.token).join('');
      if (rows.length === 0 || typeof rows.at(-1)?.done_reason === 'string') break;
    }
    await client.query('select hartonomous.close_session($1)', [opened.rows[0]?.id]);
    this.expectAnswer(STAYING, prompt, text);
  }

  private async ask(question: string): Promise<void> {
    const prompt = this.pick(PROMPTS);
    const client = await this.session();
    const { rows } = await client.query<{ text: string }>(QUESTIONS[question]!, [prompt, STAYING, OPTIONS]);
    this.expectAnswer(question, prompt, rows[0]?.text);
  }

  /** Call a function of the server's on this session's process while it generates. */
  private async interrupted(how: 'pg_cancel_backend' | 'pg_terminate_backend'): Promise<void> {
    const client = await this.session();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const ended = client
      .query('select hartonomous.generate($1, $2, $3)', [
        PROMPTS[0],
        STAYING,
        { ...OPTIONS, num_predict: 200, num_thread: THREADS, logit_bias: { 2: -1000 } },
      ])
      .then(
        () => null,
        (error: unknown) => error,
      );
    const other = await connected(this.options.url);
    await sleep(this.random() * 50);
    await other.query(`select ${how}($1)`, [rows[0]?.pid]);
    await other.end();
    const error = await ended;
    if (error !== null) throw error;
  }

  private async terminated(): Promise<void> {
    try {
      await this.interrupted('pg_terminate_backend');
    } catch (error) {
      if (!TERMINATED.test((error as Error).message)) throw error;
    }
    await this.reconnect();
  }

  private async ingest(): Promise<void> {
    const name = this.pick(PASSING);
    const client = await connected(this.options.url);
    try {
      await ingest(client, FILES[name]!, { name, replace: true });
    } finally {
      await client.end();
    }
  }

  private async remove(): Promise<void> {
    const client = await connected(this.options.url);
    try {
      await client.query('select hartonomous.remove_model($1)', [this.pick(PASSING)]);
    } finally {
      await client.end();
    }
  }

  /** Replace every function, as the install of another version does. */
  private async upgrade(): Promise<void> {
    const client = await connected(this.options.url);
    try {
      await client.query(`update hartonomous.settings set value = '"another"' where name = 'build_id'`);
      await install(client);
    } finally {
      await client.end();
    }
  }

  private async integrity(): Promise<void> {
    const client = await connected(this.options.url);
    const { rows } = await client
      .query('select * from hartonomous.check_integrity(false)')
      .finally(() => void client.end());
    for (const row of rows) this.result.findings.push(`integrity: ${JSON.stringify(row)}`);
  }

  private async reconnect(): Promise<void> {
    await this.client?.end().catch(() => undefined);
    this.client = null;
  }
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

/** Run the workers; the result's findings are empty when all is well. */
export async function stress(options: StressOptions): Promise<StressResult> {
  const result: StressResult = { steps: {}, expected: {}, findings: [] };
  const alone = await answersAlone(options.url);
  options.log?.(`${options.sessions} sessions, ${options.seconds} s, seed ${options.seed}`);
  let client = await connected(options.url);
  const logins = GROUPS.map((group, i) => (group === null ? null : `stress_${process.pid}_${i}`));
  const [, anna, ben] = logins as [null, string, string];
  const outsider = `stress_${process.pid}_outsider`;
  try {
    for (const [i, login] of logins.entries()) if (login !== null) await createLogin(client, login, GROUPS[i]!);
    await createLogin(client, outsider, null);
    await client.query(`select hartonomous.set_limit('recording', 1, $1)`, [anna]);
    // More than the processors of a small machine.
    await client.query(
      `do $$ begin execute format('alter database %I set hartonomous_v8.threads = ${THREADS}', current_database()); end $$`,
    );
    const until = Date.now() + options.seconds * 1000;
    const workers = Array.from(
      { length: options.sessions },
      (_, i) => new Worker(options, alone, result, i, logins[i % logins.length]!),
    );
    const killing = options.kills ? killBackends(options.url, randomOf(options.seed), until) : null;
    await Promise.all([
      ...workers.map((worker) => worker.run(until)),
      takeLocksAgain(options, outsider, until),
      killing,
    ]);
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
    for (const login of [...logins, outsider]) {
      if (login === null) continue;
      await client.query(`delete from hartonomous.limits where role_name = '${login}'`);
      await client.query(`drop owned by ${login}; drop role ${login}`);
    }
    await client.end();
  }
  return result;
}

/** `npm run stress -- [SECONDS] [SEED] [kills]`: against a private cluster of its own. */
export function readArguments(args: string[]): { seconds: number; seed: number; kills: boolean } {
  const [seconds = '300', seed = String(Date.now() % 1_000_000), kills] = args;
  if (!/^\d+$/.test(seconds) || !/^\d+$/.test(seed) || (kills ?? 'kills') !== 'kills')
    throw new Error('usage: npm run stress -- [SECONDS] [SEED] [kills]');
  return { seconds: Number(seconds), seed: Number(seed), kills: kills !== undefined };
}
