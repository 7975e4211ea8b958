/**
 * The engine of a database, every core at its disposal: `npm run bench -- --engine [--models qwen-q4_0,qwen-q8_0,smollm2]`.
 * Eight clients at once beside llama.cpp with eight sequences; one client through the engine over one that computes in its
 * backend; what eight sessions wait for their first and next tokens; the engine's memory for 32 clients whose prompts begin alike
 * over that for one; and the first token of a new connection. Rows go to results/engine.json, in the place of those of the same name.
 */
import { cpus } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { cacheFolder } from '../python-package.mjs';
import { withClient } from './database.ts';
import type { Target } from './hartonomous.ts';
import { exactRun, privateBytes } from './hartonomous.ts';
import { measureLlamaClients, preparePeers } from './llama.ts';
import type { Row } from './report.ts';
import { circumstancesOf, comparison, keepRows, printTable, thisMachine } from './report.ts';
import { median, percentile } from './statistics.ts';
import type { Subject } from './subjects.ts';

const CLIENTS = 8;
const PROMPT = 120;
const ANSWER = 64;
const CONTEXT = 2048;
const MANY_CLIENTS = 32;
const BEGINNING = 1000;
const SHORT_ANSWER = 16;
const COLD_PROMPT = 16;
const CONNECTIONS = 20;
const SAMPLE_MS = 20;
const WORD = ' a'; // one token in every vocabulary measured here
const FIRST_WORDS = ['One', 'Two', 'A', 'The', 'We', 'No', 'All', 'It'];

/** What the project promises, of the models of which it does. */
const PROMISED = ['qwen-q4_0', 'qwen-q8_0'];
const CLIENTS_BAR = 1.8;
const ONE_BAR = 0.97;
const MEMORY_BAR = 1.6;
const FIRST_TOKEN_BAR_MS = 40;
const FIRST_TOKEN_MODEL = 'smollm2';

/** A connection that asks the engine, or computes itself. */
class Client {
  private constructor(
    private readonly client: pg.Client,
    private readonly target: Target,
  ) {}

  static async open(target: Target, engine = true): Promise<Client> {
    const options = `-c hartonomous_v8.engine=${engine ? 'on' : 'off'}`;
    const client = new pg.Client({ connectionString: target.url, options });
    await client.connect();
    return new Client(client, target);
  }

  /** Write `tokens` tokens after a prompt. */
  async complete(prompt: string, tokens: number, more: object = {}): Promise<void> {
    const { model, ends } = this.target;
    const { rows } = await this.client.query<{ n: number }>(
      `select (hartonomous.complete($1, $2, $3)->>'eval_count')::int as n`,
      [prompt, model, exactRun(tokens, CONTEXT, ends, more)],
    );
    if (rows[0]!.n !== tokens) throw new Error(`${model} wrote ${rows[0]!.n} tokens, expected ${tokens}`);
  }

  async openSession(prompt: string, tokens: number): Promise<string> {
    const { model, ends } = this.target;
    const { rows } = await this.client.query<{ id: string }>(
      'select hartonomous.open_session($1::json, $2, $3) as id',
      [JSON.stringify(prompt), model, exactRun(tokens, CONTEXT, ends)],
    );
    return rows[0]!.id;
  }

  /** Milliseconds of each of the next tokens, one after the other. */
  async waits(session: string, tokens: number): Promise<number[]> {
    const waits: number[] = [];
    for (let i = 0; i < tokens; i++) {
      const since = performance.now();
      const { rows } = await this.client.query('select token_id from hartonomous.next_tokens($1, 1)', [session]);
      if (rows.length !== 1) throw new Error(`${this.target.model} wrote ${i} tokens, expected ${tokens}`);
      waits.push(performance.now() - since);
    }
    return waits;
  }

  end(): Promise<void> {
    return this.client.end();
  }
}

async function withClients<T>(target: Target, count: number, work: (clients: Client[]) => Promise<T>): Promise<T> {
  const clients = await Promise.all(Array.from({ length: count }, () => Client.open(target)));
  try {
    return await work(clients);
  } finally {
    for (const client of clients) await client.end();
  }
}

/** Process id and answers so far of the engine. Throws where there is none: the clients would have computed themselves. */
async function engineOf({ url }: Target): Promise<{ pid: number; answers: number }> {
  return await withClient(url, async (client) => {
    const { rows } = await client.query<{ pid: number; answers: string }>(
      'select pid, answers from hartonomous.engine_list',
    );
    if (rows.length === 0) throw new Error('the database has no engine');
    return { pid: rows[0]!.pid, answers: Number(rows[0]!.answers) };
  });
}

/** End the engine, so that the next one begins with no cache and no memory of what was before. */
async function endEngine({ url }: Target): Promise<void> {
  await withClient(url, async (client) => {
    await client.query('select pg_terminate_backend(pid, 10000) from hartonomous.engine_list');
  });
}

/** The prompt of one of several clients, of PROMPT tokens. */
const promptOf = (client: number): string => FIRST_WORDS[client % FIRST_WORDS.length]! + WORD.repeat(PROMPT - 1);

/** Tokens a second of CLIENTS clients at once, from the first question to the last answer. */
async function measureClients(target: Target): Promise<number> {
  return await withClients(target, CLIENTS, async (clients) => {
    await Promise.all(clients.map((client) => client.complete('One', 1))); // connections, and the model in the engine
    const since = performance.now();
    await Promise.all(clients.map((client, i) => client.complete(promptOf(i), ANSWER)));
    return (1000 * CLIENTS * ANSWER) / (performance.now() - since);
  });
}

/** Tokens a second of one client. */
async function measureOne(client: Client): Promise<number> {
  const since = performance.now();
  await client.complete(promptOf(0), ANSWER);
  return (1000 * ANSWER) / (performance.now() - since);
}

/** Milliseconds that CLIENTS sessions at once wait for their first and for their next tokens. */
async function measureWaits(target: Target): Promise<{ first: number[]; next: number[] }> {
  return await withClients(target, CLIENTS, async (clients) => {
    const sessions = await Promise.all(clients.map((client, i) => client.openSession(promptOf(i), ANSWER)));
    const all = await Promise.all(clients.map((client, i) => client.waits(sessions[i]!, ANSWER)));
    return { first: all.map((waits) => waits[0]!), next: all.flatMap((waits) => waits.slice(1)) };
  });
}

/** The most memory that a fresh engine takes for so many clients whose prompts begin alike, bytes. */
async function measureMemory(target: Target, count: number): Promise<number> {
  await endEngine(target);
  return await withClients(target, count, async (clients) => {
    await clients[0]!.complete('One', 1);
    const { pid } = await engineOf(target);
    let most = 0;
    const sampling = setInterval(() => (most = Math.max(most, privateBytes(pid))), SAMPLE_MS);
    try {
      const beginning = WORD.repeat(BEGINNING);
      const ask = (client: Client, i: number): Promise<void> =>
        client.complete(`${beginning} ${FIRST_WORDS[i % FIRST_WORDS.length]!} ${i}`, SHORT_ANSWER, { cache: true });
      await Promise.all(clients.map(ask));
      return Math.max(most, privateBytes(pid));
    } finally {
      clearInterval(sampling);
    }
  });
}

/** Milliseconds from opening a connection to the first token of a short prompt, the model being in the engine. */
async function measureConnection(target: Target): Promise<number> {
  const since = performance.now();
  const client = await Client.open(target);
  await client.complete(WORD.repeat(COLD_PROMPT), 1);
  const taken = performance.now() - since;
  await client.end();
  return taken;
}

/** A figure of our own, in milliseconds. */
function ownRow(what: string, ours: number, bar: number | null): Row {
  const nothing = { oursSpread: null, peer: null, peerSpread: null, ratio: null };
  return { what, unit: 'ms', ours, ...nothing, bar, smaller: true };
}

async function measureSubject(
  subject: Subject,
  target: Target,
  { rounds, program, progress }: { rounds: number; program: string; progress: (text: string) => void },
): Promise<Row[]> {
  const { title, key } = subject;
  const barOf = (bar: number): number | null => (PROMISED.includes(key) ? bar : null);
  const [many, peer, through, alone, small, large] = [[], [], [], [], [], []] as number[][];
  const waits = { first: [] as number[], next: [] as number[] };
  const [asking, computing] = [await Client.open(target), await Client.open(target, false)];
  for (const client of [asking, computing]) await measureOne(client); // warm-up
  const before = await engineOf(target);
  for (let i = 0; i < rounds; i++) {
    many!.push(await measureClients(target));
    peer!.push(median(measureLlamaClients(program, subject.file(), cpus().length, 1)));
    through!.push(await measureOne(asking));
    alone!.push(await measureOne(computing));
    const { first, next } = await measureWaits(target);
    waits.first.push(...first);
    waits.next.push(...next);
    progress(
      `${title}, round ${i + 1} of ${rounds}: ${many!.at(-1)!.toFixed(1)} and ${peer!.at(-1)!.toFixed(1)} tok/s`,
    );
  }
  const computed = (await engineOf(target)).answers - before.answers;
  const expected = rounds * (3 * CLIENTS + 1);
  if (computed !== expected) throw new Error(`the engine wrote ${computed} answers, expected ${expected}`);
  for (const client of [asking, computing]) await client.end();
  for (let i = 0; i < rounds; i++) {
    small!.push((await measureMemory(target, 1)) / 1e6);
    large!.push((await measureMemory(target, MANY_CLIENTS)) / 1e6);
  }
  progress(
    `${title}: ${median(large!).toFixed(0)} MB for ${MANY_CLIENTS} clients, ${median(small!).toFixed(0)} MB for one`,
  );
  const connections: number[] = [];
  for (let i = 0; i < CONNECTIONS; i++) connections.push(await measureConnection(target));
  const memory = `engine's memory, ${MANY_CLIENTS} clients with a beginning of ${BEGINNING} tokens / one`;
  const sessions = `of ${CLIENTS} sessions of ${PROMPT} + ${ANSWER} tokens`;
  const latencies = (['first', 'next'] as const).flatMap((which) =>
    [50, 95, 99].map((p) => ownRow(`${title}: ${which} token ${sessions}, p${p}`, percentile(waits[which], p), null)),
  );
  return [
    comparison(
      `${title}: ${CLIENTS} clients of ${PROMPT} + ${ANSWER} tokens`,
      'tok/s',
      many!,
      peer!,
      barOf(CLIENTS_BAR),
    ),
    comparison(`${title}: one client through the engine / in its backend`, 'tok/s', through!, alone!, barOf(ONE_BAR)),
    { ...comparison(`${title}: ${memory}`, 'MB', large!, small!, barOf(MEMORY_BAR)), smaller: true },
    ownRow(
      `${title}: first token of a new connection`,
      median(connections),
      key === FIRST_TOKEN_MODEL ? FIRST_TOKEN_BAR_MS : null,
    ),
    ...latencies,
  ];
}

/** Measure the subjects, print the table and write results/engine.json. */
export async function measureEngine(
  subjects: readonly Subject[],
  url: string,
  options: {
    rounds: number;
    results: string;
    ingest: (subject: Subject) => Promise<Target>;
    progress: (text: string) => void;
  },
): Promise<void> {
  const program = preparePeers(cacheFolder());
  const about = thisMachine();
  const circumstances = circumstancesOf(options.rounds);
  const table: Row[] = [];
  const setDatabase = (...changes: string[]): Promise<void> =>
    withClient(url, async (client) => {
      const { rows } = await client.query<{ name: string }>('select quote_ident(current_database()) as name');
      for (const change of changes) await client.query(`alter database ${rows[0]!.name} ${change}`);
    });
  // Threads of an engine and of backends alike: a client that names some would compute itself. The engine outlasts the peer's turns.
  await setDatabase('set hartonomous_v8.threads = -1', `set hartonomous_v8.engine_idle = '1h'`);
  try {
    for (const subject of subjects) {
      options.progress(`${subject.title}: ingest`);
      const target = await options.ingest(subject);
      await endEngine(target);
      const rows = await measureSubject(subject, target, { ...options, program });
      table.push(...rows.map((row) => ({ ...row, ...circumstances })));
      keepRows(join(options.results, 'engine.json'), about, table);
    }
  } finally {
    await setDatabase('reset hartonomous_v8.threads', 'reset hartonomous_v8.engine_idle');
  }
  printTable(`engine on ${about.processor ?? 'this processor'}`, table);
}
