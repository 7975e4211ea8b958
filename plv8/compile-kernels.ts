/** Compile plv8/src/kernels/assembly with AssemblyScript. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const HERE = dirname(fileURLToPath(import.meta.url));

/** `relaxed` has products of bytes (assembly/matmul-q4-relaxed.ts), which not every engine knows; its results are the same. */
export type KernelBuild = 'plain' | 'relaxed';

/** The bytes of a build's WebAssembly module; throws with the compiler's messages. */
export async function compileKernels(build: KernelBuild): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'hartonomous-kernels-'));
  try {
    const out = join(folder, 'kernels.wasm');
    const { error, stderr } = await asc.main([
      join(HERE, 'src/kernels/assembly/index.ts'),
      '--outFile',
      out,
      '-O3',
      '--runtime',
      'stub',
      '--enable',
      'simd',
      ...(build === 'relaxed' ? ['--enable', 'relaxed-simd'] : []),
      '--importMemory',
      '--initialMemory',
      '1',
      '--noAssert',
      '--memoryBase',
      '1024',
    ]);
    if (error !== null) throw new Error(`kernels do not compile: ${stderr.toString()}`, { cause: error });
    return await readFile(out);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
