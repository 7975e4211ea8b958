/**
 * A process that has generated 10,000 tokens, with prefixes reused and models loaded and freed, is no larger than before: a
 * backend, or an engine where sessions have one.
 * ROUNDS=160 generates as many times 250 tokens.
 */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, ingestFile } from './harness.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 40);
const TOKENS_PER_ROUND = 250;
/** Rounds after which V8's heap and the allocator have what they keep. */
const WARM_UP = 10;
/** Models not given back would take 7 MB from then on, caches more. */
const GROWTH_BYTES = 4e6;

interface Completion {
  text: string;
  eval_count: number;
  prompt_tokens: number;
  prompt_eval_count: number;
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), 'stories');
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-f32.gguf'), 'floats');
}, 120_000);

afterAll(async () => {
  await database?.drop();
});

/** Resident memory of a process that belongs to no file. Linux only. */
function ownBytes(pid: number): number {
  return Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

test.skipIf(process.platform !== 'linux')(
  `${ROUNDS * TOKENS_PER_ROUND} tokens leave the memory of who computed them as it was`,
  async () => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      const sizes: number[] = [];
      let tokens = 0;
      let reused = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const model = round % 2 === 0 ? 'stories' : 'floats';
        let prompt = `Once upon a time there were ${round} dogs`;
        for (const count of [TOKENS_PER_ROUND / 2, TOKENS_PER_ROUND / 2]) {
          const { rows } = await client.query<{ answer: Completion }>(
            'select hartonomous.complete($1, $2, $3) as answer',
            [
              prompt,
              model,
              { raw: true, num_predict: count, num_ctx: 512, seed: round, logit_bias: { 1: -1000, 2: -1000 } },
            ],
          );
          const { answer } = rows[0]!;
          tokens += answer.eval_count;
          reused += answer.prompt_tokens - answer.prompt_eval_count;
          // The next prompt begins as this one did.
          prompt += answer.text;
        }
        const { rows } = await client.query<{ pid: number }>(
          'select pid from hartonomous.loaded_everywhere where model = $1',
          [model],
        );
        expect(rows, 'one process holds the model').toHaveLength(1);
        if (round % 3 === 2) await client.query('select hartonomous.stop_model(name) from hartonomous.model_list');
        sizes.push(ownBytes(rows[0]!.pid));
      }
      expect(tokens).toBe(ROUNDS * TOKENS_PER_ROUND);
      expect(reused).toBeGreaterThan(0);
      const before = Math.max(...sizes.slice(0, WARM_UP));
      const after = Math.min(...sizes.slice(-3));
      const course = sizes.filter((_, round) => round % 10 === 9).map((bytes) => (bytes / 1e6).toFixed(1));
      console.log(
        `memory of who computes: at most ${before / 1e6} MB to warm up; MB after every 2,500 tokens: ${course.join(', ')}`,
      );
      expect(after - before).toBeLessThan(GROWTH_BYTES);
    } finally {
      await client.end();
    }
  },
  ROUNDS * 10_000,
);
