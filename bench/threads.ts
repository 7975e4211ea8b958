/**
 * Hartonomous beside llama.cpp with one thread and with all processors, alternating: `npm run bench -- --threads 1,2`.
 * Prefill of 128 and of 1,024 tokens, decode of 64, and eight prompts together; with --short decode and the prefill of 128
 * alone. The peer is llama.cpp's library from C. Rows go to results/threads.json, in the place of those of the same name.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import pg from 'pg';
import { cacheFolder } from '../python-package.mjs';
import type { Target, ThreadsMeasurement } from './hartonomous.ts';
import { exactRun } from './hartonomous.ts';
import { measureLlamaThreads, preparePeers } from './llama.ts';
import type { Row } from './report.ts';
import { circumstancesOf, comparison, keepRows, printTable, thisMachine } from './report.ts';
import { median } from './statistics.ts';
import type { Subject } from './subjects.ts';

type Figure = keyof ThreadsMeasurement;

const PREFILL = 128;
const PREFILL_LONG = 1024;
const DECODE = 64;
const CONTEXT = 2048;
const BATCH_WORDS = 16;
const WORD = ' a'; // one token in every vocabulary measured here
const FIRST_WORDS = ['One', 'Two', 'A', 'The', 'We', 'No', 'All', 'It'];
const TITLES: Record<Figure, string> = {
  decode: 'decode',
  prefill: 'prefill of 128',
  prefill_long: 'prefill of 1,024',
  batch: 'eight prompts together',
};

/** Least ratio ours / llama.cpp that the project promises with that many threads. */
function barOf(figure: Figure, threads: number, subject: Subject): number | null {
  if (!subject.threads) return null;
  if (figure === 'batch') return 1.3;
  if (figure === 'decode') return subject.large ? 1 : 1.05;
  return threads === 1 ? 1.1 : 1.05;
}

interface Counts {
  prompt_eval_count: number;
  prompt_eval_duration: number; // ns
  eval_count: number;
  eval_duration: number; // ns
}

async function measureThreads(
  target: Target,
  threads: number,
  { repeats, short }: { repeats: number; short: boolean },
): Promise<ThreadsMeasurement> {
  const client = new pg.Client({ connectionString: target.url });
  await client.connect();
  try {
    const pid = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
    execFileSync('taskset', ['-a', '-p', '-c', `0-${threads - 1}`, String(pid)], { stdio: 'ignore' });
    const options = (tokens: number): string => exactRun(tokens, CONTEXT, target.ends, { num_thread: threads });
    const complete = async (words: number, tokens: number): Promise<Counts> => {
      const { rows } = await client.query<{ answer: Counts }>('select hartonomous.complete($1, $2, $3) as answer', [
        WORD.repeat(words),
        target.model,
        options(tokens),
      ]);
      const { answer } = rows[0]!;
      if (Math.abs(answer.prompt_eval_count - words) > 2 || answer.eval_count !== tokens)
        throw new Error(
          `${target.model} evaluated ${answer.prompt_eval_count} and wrote ${answer.eval_count} tokens, expected ${words} and ${tokens}`,
        );
      return answer;
    };
    const prompts = FIRST_WORDS.map((word) => word + WORD.repeat(BATCH_WORDS - 1));
    const together = async (tokens: number): Promise<number> => {
      const started = performance.now();
      const { rows } = await client.query<{ eval_count: number }>(
        'select eval_count from hartonomous.generate($1::text[], $2, $3)',
        [prompts, target.model, options(tokens)],
      );
      if (rows.length !== prompts.length || rows.some((row) => row.eval_count !== tokens))
        throw new Error(
          `${target.model} wrote ${rows.map((row) => row.eval_count).join(', ')} tokens, expected ${tokens}`,
        );
      return (performance.now() - started) / 1000;
    };
    const rate = (count: number, nanoseconds: number): number => (count / nanoseconds) * 1e9;

    await complete(PREFILL, 8); // warm-up
    const result: ThreadsMeasurement = { prefill: [], decode: [], prefill_long: [], batch: [] };
    for (let i = 0; i < repeats; i++) {
      const short = await complete(PREFILL, DECODE + 1);
      result.prefill.push(rate(short.prompt_eval_count, short.prompt_eval_duration));
      result.decode.push(rate(short.eval_count - 1, short.eval_duration)); // the first token comes out of the prompt's logits
    }
    if (short) return result;
    for (let i = 0; i < repeats; i++) {
      const long = await complete(PREFILL_LONG, 1);
      result.prefill_long.push(rate(long.prompt_eval_count, long.prompt_eval_duration));
    }
    await together(1); // warm-up
    for (let i = 0; i < repeats; i++) {
      const before = await together(1);
      result.batch.push((prompts.length * DECODE) / ((await together(DECODE + 1)) - before));
    }
    return result;
  } finally {
    await client.end();
  }
}

function rowsOf(subject: Subject, threads: number, rounds: readonly [ThreadsMeasurement, ThreadsMeasurement][]): Row[] {
  const measured = (Object.keys(TITLES) as Figure[]).filter((figure) => rounds[0]![0][figure].length > 0);
  return measured.map((figure) => {
    const ours = rounds.map(([mine]) => median(mine[figure]));
    const peer = rounds.map(([, theirs]) => median(theirs[figure]));
    const what = `${subject.title}: ${TITLES[figure]}, ${threads} thread${threads === 1 ? '' : 's'}`;
    return comparison(what, 'tok/s', ours, peer, barOf(figure, threads, subject));
  });
}

/** Measure each subject with each number of threads. */
export async function compareThreads(
  subjects: readonly Subject[],
  counts: readonly number[],
  options: {
    rounds: number;
    repeats: number;
    short: boolean;
    results: string;
    ingest: (subject: Subject) => Promise<Target>;
    progress: (text: string) => void;
  },
): Promise<void> {
  const program = preparePeers(cacheFolder());
  const about = thisMachine();
  const circumstances = circumstancesOf(options.rounds);
  const file = join(options.results, 'threads.json');
  const table: Row[] = [];
  for (const subject of subjects) {
    options.progress(`${subject.title}: ingest`);
    const model = subject.file();
    const target = await options.ingest(subject);
    for (const threads of counts) {
      const rounds: [ThreadsMeasurement, ThreadsMeasurement][] = [];
      for (let i = 0; i < options.rounds; i++) {
        const ours = await measureThreads(target, threads, options);
        const peer = measureLlamaThreads(program, model, threads, options);
        rounds.push([ours, peer]);
        const [mine, theirs] = [median(ours.decode), median(peer.decode)];
        options.progress(
          `${subject.title}, ${threads} thread(s), round ${i + 1} of ${options.rounds}: decode ${mine.toFixed(1)} and ${theirs.toFixed(1)} tok/s`,
        );
      }
      table.push(...rowsOf(subject, threads, rounds).map((row) => ({ ...row, ...circumstances })));
      keepRows(file, about, table);
    }
  }
  printTable(`threads on ${about.processor ?? 'this processor'}`, table);
}
