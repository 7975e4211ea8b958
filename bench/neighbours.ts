/**
 * What generations do to each other and to the rest of a server, every core at their disposal: `npm run bench -- --neighbours`.
 * Tokens of two backends together over those of one alone, and pgbench's mean latency beside a backend that generates without
 * a pause over its latency on the idle server, reading (`-S`) and writing (TPC-B), with as many threads for the generation.
 * Alternating rounds; rows go to results/neighbours.json.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { postgresBin } from '../cli/cluster/cluster.ts';
import { withClient } from './database.ts';
import type { Target } from './hartonomous.ts';
import { exactRun } from './hartonomous.ts';
import { circumstancesOf, comparison, printTable, thisMachine } from './report.ts';
import { median } from './statistics.ts';
import type { Subject } from './subjects.ts';

const CONTEXT = 2048;
const PROMPT_WORDS = 16;
const TOKENS = 128;
const TOGETHER_BAR = 0.95;
const DATABASE = 'bench_pgbench';
const SECONDS = 5;
/** Arguments of pgbench for a script of its own; TPC-B is what it runs without. */
const SCRIPTS = { reading: ['-S'], writing: [] };

/** A connection that generates. */
class Backend {
  private constructor(
    readonly client: pg.Client,
    private readonly target: Target,
    private readonly threads: number,
  ) {}

  /** Loads the model, too. */
  static async open(target: Target, threads: number): Promise<Backend> {
    const client = new pg.Client({ connectionString: target.url });
    await client.connect();
    const backend = new Backend(client, target, threads);
    await backend.generate();
    return backend;
  }

  /** Seconds of a short prompt and TOKENS tokens after it. */
  async generate(): Promise<number> {
    const { model, ends } = this.target;
    const options = exactRun(TOKENS, CONTEXT, ends, { num_thread: this.threads });
    const started = performance.now();
    const { rows } = await this.client.query<{ n: number }>(
      `select (hartonomous.complete($1, $2, $3)->>'eval_count')::int as n`,
      [' a'.repeat(PROMPT_WORDS), model, options],
    );
    if (rows[0]!.n !== TOKENS) throw new Error(`${model} wrote ${rows[0]!.n} tokens, expected ${TOKENS}`);
    return (performance.now() - started) / 1000;
  }

  /** Generate without a pause until `work` is done, and give what it gives. */
  async beside<T>(work: () => Promise<T>): Promise<T> {
    let done = false;
    const generating = (async () => {
      while (!done) await this.generate();
    })();
    try {
      return await work();
    } finally {
      done = true;
      await generating;
    }
  }
}

/** Tokens a second of two backends together and of one alone, every core at the disposal of each. */
async function measureTogether(target: Target, rounds: number): Promise<{ one: number[]; two: number[] }> {
  const threads = cpus().length;
  const [first, second] = [await Backend.open(target, threads), await Backend.open(target, threads)];
  const rates = { one: [] as number[], two: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    rates.one.push(TOKENS / (await first.generate()));
    rates.two.push((2 * TOKENS) / Math.max(...(await Promise.all([first.generate(), second.generate()]))));
  }
  for (const { client } of [first, second]) await client.end();
  return rates;
}

async function pgbench(args: readonly string[], url: string): Promise<string> {
  return (await promisify(execFile)(join(postgresBin(), 'pgbench'), [...args, url])).stdout;
}

/** Milliseconds of a transaction, the mean of one client's in SECONDS. */
async function latency(script: readonly string[], url: string): Promise<number> {
  const report = await pgbench([...script, '-n', '-M', 'prepared', '-T', String(SECONDS)], url);
  const found = /latency average = ([\d.]+) ms/.exec(report);
  if (found === null) throw new Error(`pgbench reported no latency: ${report}`);
  return Number(found[1]);
}

/** Latencies of pgbench on a server that does nothing else, and beside a generation with `threads` threads. */
async function measureLatency(
  target: Target,
  threads: number,
  script: readonly string[],
  rounds: number,
): Promise<{ alone: number[]; beside: number[] }> {
  const url = new URL(target.url);
  url.pathname = `/${DATABASE}`;
  const backend = await Backend.open(target, threads);
  const latencies = { alone: [] as number[], beside: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    latencies.alone.push(await latency(script, url.href));
    latencies.beside.push(await backend.beside(() => latency(script, url.href)));
  }
  await backend.client.end();
  return latencies;
}

/** Measure a subject, print the table and write results/neighbours.json. */
export async function measureNeighbours(
  subject: Subject,
  target: Target,
  options: { rounds: number; results: string; progress: (text: string) => void },
): Promise<void> {
  const { rounds, results, progress } = options;
  const about = thisMachine();
  const circumstances = { ...about, ...circumstancesOf(rounds) };
  const { one, two } = await measureTogether(target, rounds);
  progress(`two backends ${median(two).toFixed(1)}, one ${median(one).toFixed(1)} tok/s`);
  const table = [comparison(`${subject.title}: two backends / one`, 'tok/s', two, one, TOGETHER_BAR)];
  await withClient(target.url, async (client) => {
    await client.query(`drop database if exists ${DATABASE}`);
    await client.query(`create database ${DATABASE}`);
    const url = new URL(target.url);
    url.pathname = `/${DATABASE}`;
    await pgbench(['-i', '-q'], url.href);
    for (const [name, script] of Object.entries(SCRIPTS)) {
      for (const threads of new Set([1, cpus().length])) {
        const { alone, beside } = await measureLatency(target, threads, script, rounds);
        const what = `pgbench ${name} beside a generation with ${threads} thread${threads === 1 ? '' : 's'} / alone`;
        progress(`${what}: ${median(beside).toFixed(3)} and ${median(alone).toFixed(3)} ms`);
        table.push(comparison(what, 'ms', beside, alone, null));
      }
    }
    await client.query(`drop database ${DATABASE}`);
  });
  printTable(`neighbours on ${about.processor ?? 'this processor'}`, table);
  writeFileSync(
    join(results, 'neighbours.json'),
    `${JSON.stringify({ model: subject.title, ...circumstances, rows: table }, null, 1)}\n`,
  );
}
