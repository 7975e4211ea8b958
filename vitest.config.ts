import { configDefaults, defineConfig } from 'vitest/config';
import { viteWasmPlugin } from './plv8/wasm-plugin.ts';
import { WORKERS } from './test/db/workers.ts';

export default defineConfig({
  plugins: [viteWasmPlugin()],
  test: {
    include: ['test/**/*.test.ts'],
    // Their packages take minutes to install: npm run test:clients.
    exclude: [...configDefaults.exclude, ...(process.env.TEST_CLIENTS === '1' ? [] : ['test/clients/**'])],
    globalSetup: ['test/db/cluster-setup.ts'],
    setupFiles: ['test/yield.ts'],
    testTimeout: 180_000,
    hookTimeout: 300_000,
    maxWorkers: WORKERS,
    minWorkers: 1,
    reporters: ['default'],
  },
});
