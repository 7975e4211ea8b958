/**
 * llama.cpp as our results are compared with it (node-llama-cpp, on the CPU): flash attention off, keys and values in F32
 * where nothing else is asked for.
 */
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

export const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  logLevel: LlamaLogLevel.error,
});

/** A model and a context of `contextSize` tokens, which one batch may fill; keys and values are held as `cacheType`. */
export async function openModel(file, contextSize, threads = 1, cacheType = 'F32') {
  const model = await llama.loadModel({ modelPath: file, useMmap: false, defaultContextFlashAttention: false });
  const context = await model.createContext({
    contextSize,
    batchSize: contextSize,
    sequences: 1,
    flashAttention: false,
    threads: { ideal: threads, min: threads },
    experimentalKvCacheKeyType: cacheType,
    experimentalKvCacheValueType: cacheType,
  });
  return { model, context };
}
