/** One measurement of Hartonomous through an ordinary connection. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import pg from 'pg';

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

interface Completion {
  prompt_eval_count: number;
  prompt_eval_duration: number; // ns
  eval_count: number;
  eval_duration: number; // ns
}

const PREFILL = 128;
const DECODE = 64;
const COLD_PROMPT = 16;
const WORD = ' a'; // one token in every byte-level vocabulary measured here

/** Resident memory of a process that is not PostgreSQL's shared memory, in bytes. Linux only. */
function privateBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return (kib('RssAnon') + kib('RssFile')) * 1024;
}

/** Measure one fresh backend, kept on processor 0. */
export async function measureHartonomous(
  url: string,
  model: string,
  ends: number[],
  repeats: number,
): Promise<Measurement> {
  const started = performance.now();
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const { pid } = rows[0];
    execFileSync('taskset', ['-a', '-p', '-c', '0', String(pid)], { stdio: 'ignore' });
    const complete = async (words: number, tokens: number): Promise<Completion> => {
      const options = {
        raw: true,
        cache: false,
        record: false,
        temperature: 0,
        repeat_penalty: 1,
        num_predict: tokens,
        num_ctx: 2048,
        logit_bias: Object.fromEntries(ends.map((id) => [id, -1000])),
      };
      const answer = await client.query<{ answer: Completion }>('select hartonomous.complete($1, $2, $3) as answer', [
        WORD.repeat(words),
        model,
        JSON.stringify(options),
      ]);
      const completion = answer.rows[0].answer;
      if (completion.prompt_eval_count !== words || completion.eval_count !== tokens) {
        throw new Error(
          `${model} evaluated ${completion.prompt_eval_count} and wrote ${completion.eval_count} tokens, expected ${words} and ${tokens}`,
        );
      }
      return completion;
    };
    await complete(COLD_PROMPT, 1);
    const firstToken = performance.now() - started;
    await complete(PREFILL, 8); // warm-up
    const prefill: number[] = [];
    const decode: number[] = [];
    for (let i = 0; i < repeats; i++) {
      // The first token comes out of the prompt's logits: DECODE + 1 tokens are DECODE passes.
      const completion = await complete(PREFILL, DECODE + 1);
      prefill.push((PREFILL / completion.prompt_eval_duration) * 1e9);
      decode.push((DECODE / completion.eval_duration) * 1e9);
    }
    return { prefill, decode, first_token_ms: firstToken, memory_bytes: privateBytes(pid) };
  } finally {
    await client.end();
  }
}
