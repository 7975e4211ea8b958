/**
 * Fetch the full vocabularies that the tokenizer goldens were made with: llama.cpp's own test vocabularies, which the
 * npm package node-llama-cpp carries as a git bundle (35 MB).
 *   node test/golden/fetch-vocabularies.mjs        prints the folder with ggml-vocab-*.gguf
 * They are kept in $HARTONOMOUS_CACHE, or ~/.cache/hartonomous, outside the working tree.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, keep } from '../../python-package.mjs';

const PACKAGE = 'node-llama-cpp@3.22.1';

/** The folder of the vocabularies, fetching them when they are not there. Throws when they cannot be fetched. */
export function fetchVocabularies() {
  const folder = join(cacheFolder(), `vocabularies-${PACKAGE.split('@')[1]}`);
  if (existsSync(join(folder, 'ggml-vocab-qwen2.gguf'))) return folder;
  const work = join(cacheFolder(), `fetching-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const run = (command, args) =>
      execFileSync(command, args, { cwd: work, stdio: ['ignore', 'ignore', 'pipe'], timeout: 120_000 });
    writeFileSync(join(work, 'package.json'), '{"private": true}');
    run('npm', ['install', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund', PACKAGE]);
    run('git', ['clone', '-q', '--no-checkout', 'node_modules/node-llama-cpp/llama/gitRelease.bundle', 'source']);
    run('git', ['-C', 'source', 'checkout', '-q', 'HEAD', '--', 'models']);
    keep(join(work, 'source', 'models'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(fetchVocabularies());
