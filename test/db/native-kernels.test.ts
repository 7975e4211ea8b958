/** The host's own kernels: the bits of the WebAssembly builds, whatever the shape, and what they refuse. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wasmPlugin } from '../../plv8/wasm-plugin.ts';
import { modelPath, ZOO_DECODERS } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, ingestFile, lacksOwn } from './harness.ts';

const QUANTS = ['q2_k', 'q3_k', 'q4_0', 'q4_1', 'q4_k', 'q4_k_m-mix', 'q5_0', 'q5_1', 'q5_k', 'q6_k', 'q8_0'];
const FLOATS = [...ZOO_DECODERS, 'zoo/bert-tiny-f32', 'quants/qwen2-tiny-f16', 'quants/qwen2-tiny-bf16'];
const OTHERS = ['llama-260k/llama-260k-q4_0', 'llama-260k/llama-260k-q8_0'];
const MODELS = [
  ...[...QUANTS.map((type) => `quants/qwen2-256-${type}`), ...OTHERS].map((file) => [file, 'auto']),
  ...FLOATS.flatMap((file) => [
    [file, 'f32'],
    [file, 'q8'],
  ]),
] as [file: string, precision: string][];

/** The functions of native-kernels-script.ts as one expression. */
async function script(): Promise<string> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('native-kernels-script.ts', import.meta.url))],
    bundle: true,
    format: 'iife',
    globalName: 'kernelTests',
    platform: 'neutral',
    target: 'node18',
    write: false,
    plugins: [wasmPlugin()],
  });
  return result.outputFiles[0]!.text;
}

describe.skipIf(lacksOwn('kernels'))('native kernels', () => {
  let db: TestDatabase;
  let client: pg.Client;

  beforeAll(async () => {
    db = await createDatabase();
    await db.pool.query(
      `create function kernel_test(call text, file bytea, threads integer, held_as text = null) returns jsonb
       language plv8 security definer as $kernels$
       ${await script()}
       return kernelTests[call](file, threads, held_as);
       $kernels$`,
    );
    await db.pool.query('alter function kernel_test(text, bytea, integer, text) owner to hartonomous_owner');
  });
  beforeAll(async () => {
    client = new pg.Client({ connectionString: db.url });
    await client.connect();
    await client.query('set hartonomous_v8.threads = 3');
  });
  afterAll(async () => {
    await client.end();
    await db.drop();
  });

  it.each([1, 2, 3])('give the bits of the plain build in every layout and shape with %i threads', async (threads) => {
    const { rows } = await client.query<{ compared: Record<string, unknown>[] }>(
      `select kernel_test('compareKernels', null, $1) as compared`,
      [threads],
    );
    const { compared } = rows[0]!;
    expect(compared.filter((one) => one.same !== true).map((one) => one.kernel)).toEqual([]);
    expect(compared.filter((one) => one.worked !== true).map((one) => one.kernel)).toEqual(['allFinite']);
    // What loading and explanations call stays WebAssembly's.
    expect(compared.filter((one) => one.native !== true).map((one) => one.kernel)).toEqual([
      'repackQ8_0', 'repackQ4_0', 'repackQ4_1', 'repackQ5_0', 'repackQ5_1', 'repackIQ4_NL', 'repackIQ4_XS', 'repackQ4_K',
      'repackQ5_K', 'repackQ6_K', 'repackQ3_K', 'lowerBytes', 'widenF16', 'widenBF16', 'allFinite', 'roundQ8', 'interleave',
      'expand', 'copyFloats', 'attentionWeights', 'meanOfHeads', 'addGrams', 'gramNorms',
    ]); // prettier-ignore
  });

  it.each(MODELS)('give the logits of the plain build with 1, 2 and 3 threads: %s, %s', async (file, precision) => {
    const { rows } = await client.query<{ compared: { same: number[]; numbers: number } }>(
      `select kernel_test('compareModel', $1, 3, $2) as compared`,
      [readFileSync(modelPath(`${file}.gguf`)), precision],
    );
    expect(rows[0]!.compared.same).toEqual([1, 2, 3]);
    expect(rows[0]!.compared.numbers).toBeGreaterThan(100);
  });

  it.each([1, 3])('refuse wrong calls as JavaScript errors, with %i threads', async (threads) => {
    const { rows } = await client.query<{ result: { calls: number; taken: string[]; missing: string[] } }>(
      `select kernel_test('callWrongly', null, $1) as result`,
      [threads],
    );
    expect(rows[0]!.result.taken).toEqual([]);
    expect(rows[0]!.result.missing).toEqual([]);
    expect(rows[0]!.result.calls).toBeGreaterThan(2000);
  });

  it.each([1, 3])(
    'take of random calls those that are right, with %i threads, and refuse all others',
    async (threads) => {
      const { rows } = await client.query<{ result: { wrong: number; right: number; findings: string[] } }>(
        `select kernel_test('callRandomly', null, $1) as result`,
        [threads],
      );
      const { wrong, right, findings } = rows[0]!.result;
      console.log(`${wrong} wrong and ${right} right calls with ${threads} threads`);
      expect(findings).toEqual([]);
      expect(wrong).toBeGreaterThan(2000);
      expect(right).toBeGreaterThan(500);
    },
  );

  it('read a mapped segment and refuse to write there', async () => {
    const { rows } = await client.query(`select kernel_test('writeToSegment', null, 1) as result`);
    expect(rows[0].result).toEqual({
      error: 'kernel cannot write 400 bytes from byte 69536, where a segment is mapped',
      read: 4,
    });
  });

  it('follow a memory that grows', async () => {
    const { rows } = await client.query(`select kernel_test('growMemory', null, 1) as result`);
    expect(rows[0].result).toEqual({ first: 6, last: 3 });
  });

  it('are for functions of the role in hartonomous_v8.segment_role only', async () => {
    const own =
      'create or replace function pg_temp.own() returns boolean language plv8 as $$ return plv8.kernels.usable() $$';
    await client.query(own);
    expect((await client.query('select pg_temp.own() as usable')).rows).toEqual([{ usable: false }]);
    const over = 'do $$ plv8.kernels.over(new WebAssembly.Memory({ initial: 1, maximum: 1 })) $$ language plv8';
    await expect(client.query(over)).rejects.toThrow('permission denied for kernels');
  });

  it('leave a session usable and the answer as it was after cancels with threads busy', async () => {
    await ingestFile(db.url, modelPath('quants/qwen2-256-q4_0.gguf'), 'q4');
    const ask = `select hartonomous.generate('a b c', 'q4', '{"raw": true, "temperature": 0, "num_predict": 60, "num_thread": 3}') as text`;
    const before = (await client.query(ask)).rows;
    let canceled = 0;
    for (let i = 0; i < 20; i++) {
      await client.query(`set statement_timeout = ${1 + 3 * i}`);
      await client.query(ask).catch((error: { code: string }) => {
        expect(error.code).toBe('57014');
        canceled++;
      });
      await client.query('set statement_timeout = 0');
    }
    expect(canceled).toBeGreaterThan(0);
    expect((await client.query(ask)).rows).toEqual(before);
    const loaded = await client.query('select kernels, threads from hartonomous.loaded_models');
    expect(loaded.rows).toEqual([{ kernels: expect.stringMatching(/^native \(\w+\)$/) as string, threads: 3 }]);
  });

  it('take a thread at least, and no more than the setting and the call allow', async () => {
    const threads = async (setting: number): Promise<number> => {
      await client.query(`set hartonomous_v8.threads = ${setting}`);
      return Number((await client.query('select threads from hartonomous.loaded_models')).rows[0].threads);
    };
    const all = await threads(-1);
    expect(await threads(0)).toBe(Math.max(1, Math.floor(all / 2)));
    expect(await threads(1)).toBe(1);
    expect(await threads(7)).toBe(7);
    const refused = `select hartonomous.generate('a', 'q4', '{"num_thread": -1}')`;
    await expect(client.query(refused)).rejects.toThrow('num_thread');
  });
});
