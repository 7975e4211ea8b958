// Embeddings with llama.cpp through node-llama-cpp: node llama-embed.mjs MODEL THREADS < TEXTS.json -> one JSON line.
// A text is a call of llama_decode, whose 128 tokens give all threads enough to do.
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const [file, threads = '1'] = process.argv.slice(2);
const nThreads = Number(threads);
const texts = JSON.parse(readFileSync(0, 'utf8'));

const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  maxThreads: nThreads,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: file });
const context = await model.createEmbeddingContext({
  contextSize: 512,
  batchSize: 512,
  threads: nThreads,
});
context._llamaContext._ctx.setThreads(nThreads);
for (const text of texts.slice(0, 8)) await context.getEmbeddingFor(text); // warm-up
const started = performance.now();
const vectors = [];
for (const text of texts) vectors.push((await context.getEmbeddingFor(text)).vector);
const seconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ seconds, vector: [...vectors[0]] }));
await llama.dispose();
process.exit(0);
