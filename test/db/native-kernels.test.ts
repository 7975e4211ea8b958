/** The host's own kernels: the bits of the WebAssembly builds, whatever the shape, and what they refuse. */
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wasmPlugin } from '../../plv8/wasm-plugin.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase } from './harness.ts';

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

  beforeAll(async () => {
    db = await createDatabase();
    await db.pool.query(
      `create function kernel_test(call text) returns jsonb language plv8 security definer as $kernels$
       ${await script()}
       return kernelTests[call]();
       $kernels$`,
    );
    await db.pool.query('alter function kernel_test(text) owner to hartonomous_owner');
  });
  afterAll(() => db.drop());

  it('give the bits of the plain build in every layout and shape', async () => {
    const { rows } = await db.pool.query<{ compared: Record<string, unknown>[] }>(
      `select kernel_test('compareKernels') as compared`,
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
});
