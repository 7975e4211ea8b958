/** The host's own kernels: the bits of the WebAssembly builds, whatever the shape, and what they refuse. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wasmPlugin } from '../../plv8/wasm-plugin.ts';
import { modelPath, ZOO_DECODERS } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase } from './harness.ts';

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

const portable = process.env.TEST_PORTABLE === '1';

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

describe.skipIf(portable)('native kernels', () => {
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
    // What loading calls stays WebAssembly's.
    expect(compared.filter((one) => one.native !== true).map((one) => one.kernel)).toEqual([
      'repackQ8_0', 'repackQ4_0', 'repackQ4_1', 'repackQ5_0', 'repackQ5_1', 'repackIQ4_NL', 'repackIQ4_XS', 'repackQ4_K',
      'repackQ5_K', 'repackQ6_K', 'repackQ3_K', 'widenF16', 'widenBF16', 'allFinite', 'roundQ8', 'interleaveQ8',
      'interleaveQ4', 'expandQ8', 'expandQ4', 'copyFloats',
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
});
