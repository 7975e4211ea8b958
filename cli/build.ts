/** Bundle the command line program into dist/cli/main.js; packages stay in node_modules. */
import { chmod } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OUT = join(ROOT, 'dist/cli/main.js');

await build({
  entryPoints: [join(ROOT, 'cli/main.ts')],
  outfile: OUT,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  loader: { '.html': 'text' },
  absWorkingDir: ROOT,
  banner: { js: '#!/usr/bin/env node' },
});
await chmod(OUT, 0o755);
console.log('dist/cli/main.js');
