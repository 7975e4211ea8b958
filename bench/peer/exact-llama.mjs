/**
 * llama.cpp as the goldens of whole models are made with it (node-llama-cpp out of bench/peer, on the CPU): 1 thread, flash
 * attention off, keys and values in F32.
 */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const peer = createRequire(new URL('../../bench/peer/package.json', import.meta.url));
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(peer.resolve('node-llama-cpp')).href);

export const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  maxThreads: 1,
  logLevel: LlamaLogLevel.error,
});

/** A model and a context of `contextSize` tokens, which one batch may fill. */
export async function openModel(file, contextSize) {
  const model = await llama.loadModel({ modelPath: file, useMmap: false, defaultContextFlashAttention: false });
  const context = await model.createContext({
    contextSize,
    batchSize: contextSize,
    sequences: 1,
    flashAttention: false,
    threads: { ideal: 1, min: 1 },
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  });
  return { model, context };
}
