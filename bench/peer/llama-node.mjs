// llama.cpp through node-llama-cpp on one GGUF file: node llama-node.mjs MODEL THREADS REPEATS -> one JSON line.
// Prefill and decode time llama_decode alone (logits for the last token only); the numbers of tokens are llama-bench's kind.
// first_token_ms is the time from the start of loading to the first sampled token of a 16-token prompt.
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const [file, threads = '1', repeats = '3'] = process.argv.slice(2);
const PREFILL = 128;
const DECODE = 64;
const COLD_PROMPT = 16;
const nThreads = Number(threads);

const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  maxThreads: nThreads,
  logLevel: LlamaLogLevel.error,
});
const started = performance.now();
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({
  contextSize: 512,
  batchSize: 512,
  sequences: 1,
  threads: { ideal: nThreads, min: nThreads },
});
const inner = context._ctx;
inner.setThreads(nThreads);

const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
let state = 42;
const randomTokens = (n) =>
  Uint32Array.from({ length: n }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % (vocabulary - 1000);
  });

async function decode(position, tokens) {
  inner.initBatch(tokens.length);
  inner.addToBatch(0, position, tokens, Uint32Array.of(tokens.length - 1));
  await inner.decodeBatch();
}

inner.disposeSequence(0);
await decode(0, randomTokens(COLD_PROMPT));
const firstTokenMs = performance.now() - started;

const prefill = [];
const decoded = [];
for (let repeat = -1; repeat < Number(repeats); repeat++) {
  inner.disposeSequence(0);
  const prompt = randomTokens(PREFILL);
  const before = performance.now();
  await decode(0, prompt);
  const between = performance.now();
  for (let i = 0; i < DECODE; i++) await decode(PREFILL + i, randomTokens(1));
  const after = performance.now();
  if (repeat < 0) continue; // warm-up
  prefill.push((PREFILL / (between - before)) * 1000);
  decoded.push((DECODE / (after - between)) * 1000);
}
const rss = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
console.log(JSON.stringify({ prefill, decode: decoded, first_token_ms: firstTokenMs, memory_bytes: rss }));
await llama.dispose();
process.exit(0);
