/**
 * A real Gemma 3, 270M in Q4_K_M, through SQL and the command line, against llama.cpp on the same file: in `npm test` one
 * short continuation, in `npm run test:long` all of them and a text beyond its window.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GEMMA3, joinedMembers } from '../../python-package.mjs';
import { hartonomous } from '../cli/program.ts';
import { createDatabase } from '../db/harness.ts';
import { LONG } from '../long.ts';
import { firstDifference } from './agreement.ts';

interface Golden {
  sha256: string;
  parse_special: boolean;
  tokenize: { text: string; ids: number[] }[];
  /** A text longer than the window of 512. */
  ids: number[];
  /** First of its tokens after which the next one's loss is known. */
  from: number;
  losses: number[];
  written: { prompt: string; ids: number[]; greedy: number[]; margins: number[] }[];
}

const golden = JSON.parse(readFileSync(new URL('gemma3-270m.json', import.meta.url), 'utf8')) as Golden;

/** llama.cpp rounds activations to 8 bits. */
const LOSS_TOLERANCE = 0.01;
const CLOSE_CALL = 0.5;
const NO_TEMPLATE = 'has no chat template: it continues a text and does not answer';

let database: Awaited<ReturnType<typeof createDatabase>>;
let ingested: Awaited<ReturnType<typeof hartonomous>>;

beforeAll(async () => {
  const file = joinedMembers(GEMMA3);
  expect(createHash('sha256').update(readFileSync(file)).digest('hex')).toBe(golden.sha256);
  database = await createDatabase();
  ingested = await hartonomous(['ingest', file, '--name', 'gemma'], { url: database.url, timeoutMs: 600_000 });
}, 700_000);

afterAll(async () => {
  await database?.drop();
});

/** -log of the probability of `id` (natural logarithm). */
function surprise(logits: readonly number[], id: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
  return Math.log(total) + most - logits[id]!;
}

async function value<T>(sql: string, parameters: unknown[]): Promise<T> {
  const { rows } = await database.pool.query<{ value: T }>(`select ${sql} as value`, parameters);
  return rows[0].value;
}

describe('Gemma 3 270M', () => {
  it('is told to continue texts, by ingest and run; show has the type of its file', async () => {
    expect(ingested.code).toBe(0);
    expect(ingested.stdout).toContain(NO_TEMPLATE.replace('has', 'it has'));
    const ran = await hartonomous(['run', 'gemma', 'Paris is', '--num-predict', '1'], { url: database.url });
    expect(ran).toMatchObject({ code: 0, stderr: `gemma ${NO_TEMPLATE}\n` });
    const raw = await hartonomous(['run', 'gemma', 'Paris is', '--num-predict', '1', '--raw'], { url: database.url });
    expect(raw).toMatchObject({ code: 0, stderr: '' });
    const shown = await hartonomous(['show', 'gemma'], { url: database.url });
    expect(shown.stdout).toMatch(/quantization +Q4_K_M/);
  });

  it("gives llama.cpp's token ids", async () => {
    for (const { text, ids } of golden.tokenize)
      expect(
        await value('hartonomous.tokenize($1, $2, false, $3)', [text, 'gemma', golden.parse_special]),
        text,
      ).toEqual(ids);
  });

  it.runIf(LONG)(
    'predicts a text beyond its window as well as llama.cpp does (npm run test:long)',
    async () => {
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let i = 0; i < golden.losses.length; i += 9) {
        const end = golden.from + i + 1;
        const logits = await value<number[]>('hartonomous.logits($1, $2)', [golden.ids.slice(0, end), 'gemma']);
        ours.push(surprise(logits, golden.ids[end]!));
        theirs.push(golden.losses[i]!);
      }
      const mean = (losses: number[]): number => losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
      console.log(`loss ${mean(ours).toFixed(4)}, llama.cpp ${mean(theirs).toFixed(4)}`);
      expect(Math.abs(mean(ours) / mean(theirs) - 1)).toBeLessThan(LOSS_TOLERANCE);
      expect(ours.length).toBe(11);
    },
    600_000,
  );

  it('continues greedily as llama.cpp does, up to a close call', async () => {
    for (const { prompt, greedy, margins } of LONG ? golden.written : golden.written.slice(0, 1)) {
      const steps = LONG ? greedy.length : 10;
      const options = { raw: true, temperature: 0, repeat_penalty: 1, num_predict: steps, logprobs: true };
      const { logprobs } = await value<{ logprobs: { token_id: number }[] }>('hartonomous.complete($1, $2, $3)', [
        prompt,
        'gemma',
        JSON.stringify({ ...options, record: false }),
      ]);
      const found = logprobs.map(({ token_id: id }) => id);
      const { step, margin } = firstDifference(found, greedy.slice(0, found.length), margins);
      expect(margin, `margin at step ${step} of ${JSON.stringify(prompt)}`).toBeLessThan(CLOSE_CALL);
      expect(found.length).toBeGreaterThan(4);
    }
  }, 600_000);
});
