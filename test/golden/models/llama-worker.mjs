// llama.cpp for the scripts here: JSON jobs on stdin, a line each, answered by a JSON line each. Run a copy of it, or a
// link, beside a node_modules with node-llama-cpp 3.22.1.
//   {file, mode: 'tokenize', text, bare}  -> {ids, special}   with what the vocabulary puts before and after, unless bare
//   {file, mode: 'embed', ids}            -> {values}         by the file's own pooling
//   {file, mode: 'logits', ids}           -> {values}         after the last id
import { createInterface } from 'node:readline';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const CONTEXT = 2304;
const EXACT = { flashAttention: false, experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32' };
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.disabled });

function tokenized(model, text, bare) {
  const { bos, eos, sep, shouldPrependBosToken, shouldAppendEosToken } = model.tokens;
  const special = { bos, eos, sep };
  const ids = [...model.tokenize(text, bare === true)];
  const wordPiece = model.vocabularyType === 'wpm';
  if (bare !== true && (wordPiece || shouldPrependBosToken)) ids.unshift(bos);
  if (bare !== true && wordPiece) ids.push(sep);
  else if (bare !== true && shouldAppendEosToken) ids.push(eos);
  return { ids, special };
}

async function answer(model, { mode, text, bare, ids, context = CONTEXT }) {
  if (mode === 'tokenize') return tokenized(model, text, bare);
  const size = { contextSize: context, batchSize: context };
  if (mode === 'embed') {
    const made = await model.createEmbeddingContext({ ...size, threads: 1 });
    const { vector } = await made.getEmbeddingFor(ids);
    await made.dispose();
    return { values: [...vector] };
  }
  const made = await model.createContext({ ...size, ...EXACT, sequences: 1, threads: { ideal: 1, min: 1 } });
  const last = [ids.at(-1), { generateNext: { logits: true } }];
  const evaluated = await made.getSequence().controlledEvaluate([...ids.slice(0, -1), last]);
  const logits = evaluated.at(-1).next.logits;
  const values = new Array(logits.size);
  for (const [id, value] of logits) values[id] = value;
  await made.dispose();
  return { values };
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  let out;
  try {
    const model = await llama.loadModel({ modelPath: job.file, useMmap: false, defaultContextFlashAttention: false });
    out = await answer(model, job);
    await model.dispose();
  } catch (error) {
    out = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(out)}\n`);
}
await llama.dispose();
process.exit(0);
