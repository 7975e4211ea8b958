/** Measurements of Hartonomous through an ordinary connection. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { median } from './statistics.ts';

export interface Measurement {
  /** Tokens per second of 128 prompt tokens. */
  prefill: number[];
  /** Tokens per second of the 64 tokens after them. */
  decode: number[];
  /** Milliseconds from opening the connection (llama.cpp: from the start of loading) to the first token of a 16-token prompt. */
  first_token_ms: number;
  /** Resident bytes; of a backend without the shared buffers it has touched. */
  memory_bytes: number;
}

/** What a backend holds of its model, bytes. */
export interface HeldBytes {
  weights: number;
  /** Of the tensors as they are stored. */
  tensors: number;
  /** Memory of the backend's own (no file's and not PostgreSQL's shared memory) but for key/value caches. */
  besides: number;
}

/** Tokens per second with some number of threads, see threads.ts. */
export interface ThreadsMeasurement {
  prefill: number[];
  decode: number[];
  /** Of 1,024 tokens; none where only the short figures were asked for, as `batch`. */
  prefill_long: number[];
  /** Of eight prompts' answers together. */
  batch: number[];
}

/** Figures that have no counterpart. */
export interface OwnMeasurement {
  /** Tokens per second of 8 prompts together / of one alone. */
  batch: number;
  /** Milliseconds of a call that writes no token. */
  zeroTokensMs: number;
}

interface Completion {
  prompt_eval_count: number;
  prompt_eval_duration: number; // ns
  eval_count: number;
  eval_duration: number; // ns
  text: string;
}

/** What to measure, and where. */
export interface Target {
  url: string;
  model: string;
  /** Ids that end a generation and are kept from being drawn. */
  ends: number[];
  /** Settings of the connection, as UPSTREAM_ONLY. */
  options?: string;
}

/** Our host with what PL/V8 offers, too, and WebAssembly's trap handler, which that lacks. */
export const UPSTREAM_ONLY = '-c hartonomous_v8.extras=off -c hartonomous_v8.interrupts=off';
/** Without that as well. */
export const PORTABLE = '-c hartonomous_v8.portable=on';

const PREFILL = 128;
const DECODE = 64;
const COLD_PROMPT = 16;
const CONTEXT = 2048;
const BATCH = 8;
const CALLS = 21;
const WORD = ' a'; // one token in every byte-level vocabulary measured here, and in sentencepiece's

/** Bytes of a field of /proc/PID/status. Linux only. */
function statusBytes(pid: number, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) * 1024;
}

/** Resident memory of a process that is not PostgreSQL's shared memory, in bytes. */
export function privateBytes(pid: number): number {
  return statusBytes(pid, 'RssAnon') + statusBytes(pid, 'RssFile');
}

/** Options of a run of exactly `tokens` tokens, and `more`: `ends`, which would end it, are out of reach. */
export function exactRun(tokens: number, context: number, ends: number[], more: object = {}): string {
  return JSON.stringify({
    raw: true,
    cache: false,
    record: false,
    temperature: 0,
    repeat_penalty: 1,
    num_predict: tokens,
    num_ctx: context,
    logit_bias: Object.fromEntries(ends.map((id) => [id, -1000])),
    ...more,
  });
}

/** A fresh backend on processor 0. */
class Backend {
  private constructor(
    readonly client: pg.Client,
    readonly pid: number,
    private readonly target: Target,
  ) {}

  static async open(target: Target): Promise<Backend> {
    const client = new pg.Client({ connectionString: target.url, options: target.options });
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const { pid } = rows[0]!;
    execFileSync('taskset', ['-a', '-p', '-c', '0', String(pid)], { stdio: 'ignore' });
    return new Backend(client, pid, target);
  }

  /** Options of a run of exactly `tokens` tokens. */
  options(tokens: number, more: object = {}): string {
    return exactRun(tokens, CONTEXT, this.target.ends, more);
  }

  /** A prompt of about `words` tokens (a vocabulary may put one before them) and exactly `tokens` tokens after it. */
  async complete(words: number, tokens: number, cache = false): Promise<Completion> {
    const { model } = this.target;
    const { rows } = await this.client.query<{ answer: Completion }>(
      'select hartonomous.complete($1, $2, $3) as answer',
      [WORD.repeat(words), model, this.options(tokens, { cache })],
    );
    const { answer } = rows[0]!;
    if ((!cache && Math.abs(answer.prompt_eval_count - words) > 2) || answer.eval_count !== tokens) {
      throw new Error(
        `${model} evaluated ${answer.prompt_eval_count} and wrote ${answer.eval_count} tokens, expected ${words} and ${tokens}`,
      );
    }
    return answer;
  }

  /** Seconds and texts of a call. */
  async timed(sql: string, args: unknown[]): Promise<{ seconds: number; texts: string[] }> {
    const started = performance.now();
    const { rows } = await this.client.query<{ text: string }>(sql, args);
    return { seconds: (performance.now() - started) / 1000, texts: rows.map((row) => row.text) };
  }
}

const decodeRate = (completion: Completion): number =>
  // The first token comes out of the prompt's logits.
  ((completion.eval_count - 1) / completion.eval_duration) * 1e9;

/** What a fresh backend holds after a prompt and an answer; null where weights are not shared: then they cannot be told from the rest. */
export async function measureHeld(target: Target): Promise<HeldBytes | null> {
  const backend = await Backend.open(target);
  try {
    await backend.complete(PREFILL, DECODE);
    const own = statusBytes(backend.pid, 'RssAnon'); // before the view, which takes memory itself
    const { rows } = await backend.client.query<{ weights: number; caches: number; tensors: number }>(
      `select l.shared_bytes::float as weights, l.cache_bytes::float as caches, s.size_bytes::float as tensors
       from hartonomous.loaded_models l join hartonomous.status s on s.model = l.model where l.model = $1`,
      [target.model],
    );
    const { weights, caches, tensors } = rows[0]!;
    return weights === 0 ? null : { weights, tensors, besides: own - caches };
  } finally {
    await backend.client.end();
  }
}

export async function measureHartonomous(target: Target, repeats: number): Promise<Measurement> {
  const started = performance.now();
  const backend = await Backend.open(target);
  try {
    await backend.complete(COLD_PROMPT, 1);
    const firstToken = performance.now() - started;
    await backend.complete(PREFILL, 8); // warm-up
    const prefill: number[] = [];
    const decode: number[] = [];
    for (let i = 0; i < repeats; i++) {
      const completion = await backend.complete(PREFILL, DECODE + 1);
      prefill.push((completion.prompt_eval_count / completion.prompt_eval_duration) * 1e9);
      decode.push(decodeRate(completion));
    }
    return { prefill, decode, first_token_ms: firstToken, memory_bytes: privateBytes(backend.pid) };
  } finally {
    await backend.client.end();
  }
}

const batchPrompts = Array.from({ length: BATCH }, (_, i) => `The number ${i + 100} is the one that I like`);

/** Throws when a prompt's answer among others is not the one it gets alone. */
export async function measureOwn(target: Target): Promise<OwnMeasurement> {
  const backend = await Backend.open(target);
  const { model } = target;
  try {
    await backend.complete(PREFILL, 8); // warm-up
    const zero: number[] = [];
    const none = [WORD, model, backend.options(0)];
    for (let i = 0; i < CALLS; i++)
      zero.push((await backend.timed('select hartonomous.generate($1, $2, $3) as text', none)).seconds * 1000);

    const options = backend.options(DECODE);
    const one: number[] = [];
    const alone: string[] = [];
    for (const prompt of batchPrompts) {
      const { seconds, texts } = await backend.timed('select hartonomous.generate($1::text, $2, $3) as text', [
        prompt,
        model,
        options,
      ]);
      one.push(DECODE / seconds);
      alone.push(texts[0]!);
    }
    const together = await backend.timed('select text from hartonomous.generate($1::text[], $2, $3) order by ord', [
      batchPrompts,
      model,
      options,
    ]);
    batchPrompts.forEach((prompt, i) => {
      if (together.texts[i] !== alone[i])
        throw new Error(`"${prompt}" is answered otherwise among others: ${together.texts[i]} and ${alone[i]}`);
    });
    return {
      batch: (BATCH * DECODE) / together.seconds / median(one),
      zeroTokensMs: median(zero),
    };
  } finally {
    await backend.client.end();
  }
}

/**
 * Decode after as many tokens as a context of 2,048 leaves room for / after 64, of `pairs` alternating runs. Each length has a
 * backend of its own, whose cache holds the prompt from the first run on.
 */
export async function measureLongContext(target: Target, pairs = 5): Promise<number[]> {
  const [near, far] = [await Backend.open(target), await Backend.open(target)];
  try {
    const rate = async (backend: Backend, words: number): Promise<number> =>
      decodeRate(await backend.complete(words, DECODE + 1, true));
    const long = CONTEXT - DECODE - 8;
    await rate(near, 64);
    await rate(far, long);
    const ratios: number[] = [];
    for (let i = 0; i < pairs; i++) ratios.push((await rate(far, long)) / (await rate(near, 64)));
    return ratios;
  } finally {
    await near.client.end();
    await far.client.end();
  }
}

/** Milliseconds spent in each kernel during one run of 128 and 64 tokens; `rest` is everything else. */
export async function profileHartonomous(target: Target): Promise<Record<'prefill' | 'decode', Map<string, number>>> {
  const backend = await Backend.open(target);
  const run = async (sql: string): Promise<void> => {
    // The bundle runs in the isolate of its owner.
    await backend.client.query('begin');
    await backend.client.query('set local role hartonomous_owner');
    await backend.client.query(sql);
    await backend.client.query('commit');
  };
  let notice = '';
  backend.client.on('notice', ({ message }) => (notice = message ?? ''));
  const read = async (): Promise<Map<string, number>> => {
    await run(
      'do $$ plv8.elog(NOTICE, JSON.stringify(globalThis.hartonomousKernelTimes)); globalThis.hartonomousKernelTimes = {} $$ language plv8',
    );
    return new Map(Object.entries(JSON.parse(notice) as Record<string, number>));
  };
  const add = (times: Map<string, number>, name: string, ms: number): void =>
    void times.set(name, (times.get(name) ?? 0) + ms);
  try {
    await run('do $$ globalThis.hartonomousKernelTimes = {} $$ language plv8');
    await backend.complete(PREFILL, 8); // warm-up
    await read();
    const prompt = await backend.complete(PREFILL, 1);
    const prefill = await read();
    const whole = await backend.complete(PREFILL, DECODE + 1);
    const decode = await read();
    // What the prompt takes in both.
    for (const [name, ms] of prefill) add(decode, name, -ms);
    const kernels = (times: Map<string, number>): number => [...times.values()].reduce((sum, ms) => sum + ms, 0);
    prefill.set('rest', prompt.prompt_eval_duration / 1e6 - kernels(prefill));
    decode.set('rest', whole.eval_duration / 1e6 - kernels(decode));
    return { prefill, decode };
  } finally {
    await backend.client.end();
  }
}
