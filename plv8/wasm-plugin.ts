/** Resolve `wasm:kernels` to the compiled kernels as base64 text, for esbuild (the bundle) and vite (the tests). */
import type { Plugin as EsbuildPlugin } from 'esbuild';
import type { Plugin as VitePlugin } from 'vite';
import { compileKernels } from './compile-kernels.ts';

const NAME = 'wasm:kernels';

let compiled: Promise<string> | null = null;

function kernelsModule(): Promise<string> {
  compiled ??= compileKernels().then(
    (bytes) => `export default ${JSON.stringify(Buffer.from(bytes).toString('base64'))};`,
  );
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
