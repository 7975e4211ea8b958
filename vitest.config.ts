import { defineConfig } from 'vitest/config';
import { viteWasmPlugin } from './plv8/wasm-plugin.ts';

export default defineConfig({
  plugins: [viteWasmPlugin()],
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/db/cluster-setup.ts'],
    testTimeout: 180_000,
    hookTimeout: 300_000,
    fileParallelism: false,
    reporters: ['default'],
  },
});
