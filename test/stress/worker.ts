/** One session of the stress test, which takes one step after the other and compares what comes of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { CommandError } from '../../cli/errors.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { install } from '../../cli/install/install.ts';
import {
  answerTo,
  CHANGING,
  CHANGING_FILES,
  CHAT,
  CONVERSATION,
  FILES,
  GENERATE,
  key,
  OPTIONS,
  PASSING,
  PROMPTS,
  QUESTIONS,
  STAYING,
  STREAM,
} from './answers.ts';
import { interruptEngine, starve } from './engine.ts';
import { connected, connectedAgain, wasKilled } from './sessions.ts';

/** Threads of one call at most: more than the processors of a small machine. */
export const THREADS = 3;
/** Options of an answer that takes long. */
const ENDLESS = { num_predict: 200, logit_bias: { 2: -1000 } };

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
  /** Have sessions ask the engine of the database, which is ended, starved and kept from what it needs meanwhile. */
  engine?: boolean;
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
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Worker {
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
    ['generate, model changes', 8, () => this.changing()],
    ['stream', 8, () => this.stream()],
    ['chat', 10, () => this.chat()],
    ['transaction', 6, () => this.inTransaction()],
    ['session', 10, () => this.sessionAnswer()],
    ['batch', 10, () => this.batch()],
    ['embed', 8, () => this.ask('embed')],
    ['classify', 5, () => this.ask('classify')],
    ['constrained', 5, () => this.ask('generate_json')],
    ['explain', 5, () => this.ask('explain')],
    ['cancelled', 6, () => this.interrupted('pg_cancel_backend')],
    ['terminated', 3, () => this.terminated()],
    ['left alone', 2, () => this.leftAlone()],
    ['ingest', 5, () => this.ingest()],
    ['change', 2, () => this.change()],
    ['remove', 3, () => this.remove()],
    ['upgrade', 1, () => this.upgrade()],
    ['integrity', 1, () => this.integrity()],
    ['reconnect', 6, () => this.reconnect()],
    ['discard all', 4, async () => void (await (await this.session()).query('discard all'))],
  ];

  /** Steps that concern engines. */
  private engineSteps(): [kind: string, weight: number, run: () => Promise<void>][] {
    if (this.options.engine !== true) return [];
    const { url } = this.options;
    return [
      ['engine interrupted', 3, () => interruptEngine(url, this.random)],
      ['starved', 2, () => starve(url, this.random)],
    ];
  }

  /** Take steps until the time is over. */
  async run(until: number): Promise<void> {
    const steps = [...this.steps, ...this.engineSteps()];
    const total = steps.reduce((sum, [, weight]) => sum + weight, 0);
    while (Date.now() < until) {
      let at = this.random() * total;
      const [kind, , run] = steps.find(([, weight]) => (at -= weight) < 0)!;
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
    const options = { ...OPTIONS, ...this.threads(), ...(this.random() < 0.3 ? { record: true } : {}) };
    this.expectAnswer(model, prompt, await answerTo(client, GENERATE, prompt, model, options));
  }

  /** Cores of one's own: with them a session computes itself, be there an engine or not. */
  private threads(): { num_thread?: number } {
    if (this.options.engine === true && this.random() < 0.8) return {};
    return { num_thread: 1 + Math.floor(this.random() * THREADS) };
  }

  private async changing(): Promise<void> {
    const prompt = this.pick(PROMPTS);
    const text = await answerTo(await this.session(), GENERATE, prompt, CHANGING, OPTIONS);
    if (CHANGING_FILES.some((_, i) => this.alone.get(key(`${CHANGING} ${i}`, prompt)) === text)) return;
    this.result.findings.push(`${CHANGING} answered ${JSON.stringify(text)}, as neither of its models does`);
  }

  private async stream(): Promise<void> {
    const prompt = this.pick(PROMPTS);
    this.expectAnswer(STAYING, prompt, await answerTo(await this.session(), STREAM, prompt, STAYING, OPTIONS));
  }

  private async chat(): Promise<void> {
    const prompt = this.pick(PROMPTS);
    const conversation = CONVERSATION(prompt, this.alone.get(key(STAYING, prompt))!);
    const options = { ...OPTIONS, ...this.threads(), cache: this.random() < 0.8 };
    this.expectAnswer('chat', prompt, await answerTo(await this.session(), CHAT, conversation, STAYING, options));
  }

  /** Answers of a transaction and its parts, of which one fails; none of it is committed, or all. */
  private async inTransaction(): Promise<void> {
    const client = await this.session();
    const ask = async (): Promise<void> => {
      const prompt = this.pick(PROMPTS);
      this.expectAnswer(
        STAYING,
        prompt,
        await answerTo(client, GENERATE, prompt, STAYING, { ...OPTIONS, record: true }),
      );
    };
    await client.query('begin');
    try {
      await ask();
      await client.query('savepoint part');
      if (this.random() < 0.5) await ask();
      await client.query('select 1 / 0').catch((error: unknown) => {
        if ((error as pg.DatabaseError).code !== '22012') throw error;
      });
      await client.query('rollback to part');
      await ask();
    } catch (error) {
      await client.query('rollback');
      throw error;
    }
    await client.query(this.random() < 0.5 ? 'commit' : 'rollback');
  }

  /** A client that goes without a word while it waits for an answer. */
  private async leftAlone(): Promise<void> {
    const client = await this.session();
    const left = client.query(GENERATE, [PROMPTS[0], STAYING, { ...OPTIONS, ...ENDLESS }]).catch(() => undefined);
    await sleep(this.random() * 50);
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await left;
    this.client = null;
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
        { ...OPTIONS, ...ENDLESS, ...this.threads() },
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

  private async change(): Promise<void> {
    const client = await connected(this.options.url);
    try {
      await ingest(client, this.pick(CHANGING_FILES), { name: CHANGING, replace: true });
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
