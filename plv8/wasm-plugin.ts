/** Resolve `wasm:kernels` to both builds of the kernels as base64 text, for esbuild (the bundle) and vite (the tests). */
import type { Plugin as EsbuildPlugin } from 'esbuild';
import type { Plugin as VitePlugin } from 'vite';
import { compileKernels } from './compile-kernels.ts';

const NAME = 'wasm:kernels';

let compiled: Promise<string> | null = null;

function kernelsModule(): Promise<string> {
  compiled ??= (async () => {
    const builds = ['plain', 'relaxed'] as const;
    const texts = await Promise.all(
      builds.map(async (build) => Buffer.from(await compileKernels(build)).toString('base64')),
    );
    return builds.map((build, i) => `export const ${build} = ${JSON.stringify(texts[i])};`).join('\n');
  })();
  return compiled;
}

export function wasmPlugin(): EsbuildPlugin {
  return {
    name: 'wasm-kernels',
    setup(build) {
      build.onResolve({ filter: /^wasm:kernels$/ }, () => ({ path: NAME, namespace: 'wasm' }));
      build.onLoad({ filter: /.*/, namespace: 'wasm' }, async () => ({
        contents: await kernelsModule(),
        loader: 'js',
      }));
    },
  };
}

export function viteWasmPlugin(): VitePlugin {
  return {
    name: 'wasm-kernels',
    resolveId: (id) => (id === NAME ? `\0${NAME}` : undefined),
    load: (id) => (id === `\0${NAME}` ? kernelsModule() : undefined),
  };
}
