// Log-probability of a model's greedy token with each token of the prompt left out, in llama.cpp (node-llama-cpp, CPU),
// into leave-one-out.json beside this file. A beginning-of-sequence token always stays, as in explanations.
//   (cd bench/peer && npm run setup)
//   node test/golden/make-leave-one-out-golden.mjs
// Fixed: 1 thread, flash attention off, KV cache F32, each shortened prompt computed afresh.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openModel } from '../../bench/peer/exact-llama.mjs';

const MODELS = [
  'stories260k/stories260k-f32',
  'tinystories-656k/tinystories-656k-f32',
  'zoo/llama-untied-gqa-f32',
  'zoo/llama32-ropefreqs-f32',
  'zoo/qwen2-tiny-f32',
  'zoo/qwen3-tiny-f32',
  'zoo/phi3-tiny-f32',
  'zoo/gemma2-tiny-f32',
  'zoo/gemma3-tiny-f32',
  'zoo/gpt2-tiny-f32',
];
// Longer than the windows of Gemma's test models (16), so that a deletion moves what stands in them.
const PROMPT = 'Lily and Tom went to the park with a red ball and';

/** Log of the probability of `id`, by the logits of the whole vocabulary. */
function logprob(logits, id) {
  let largest = -Infinity;
  for (const value of logits.values()) if (value > largest) largest = value;
  let sum = 0;
  for (const value of logits.values()) sum += Math.exp(value - largest);
  return logits.get(id) - largest - Math.log(sum);
}

const models = [];
for (const name of MODELS) {
  const folders = ['models', '../../../shared/models'].map(
    (folder) => new URL(`${folder}/${name}.gguf`, import.meta.url),
  );
  const file = fileURLToPath(folders.find((url) => existsSync(url)) ?? folders[0]);
  const { model, context } = await openModel(file, 256);
  const sequence = context.getSequence();
  const logitsAfter = async (ids) => {
    await sequence.clearHistory();
    const last = ids.length - 1;
    const out = await sequence.controlledEvaluate(
      ids.map((id, i) => (i === last ? [id, { generateNext: { logits: true } }] : id)),
    );
    return out[last].next.logits;
  };
  const first = model.tokens.shouldPrependBosToken ? 1 : 0;
  const ids = [...(first ? [model.tokens.bos] : []), ...model.tokenize(PROMPT)];
  const whole = await logitsAfter(ids);
  const chosen = [...whole].reduce((best, each) => (each[1] > best[1] ? each : best))[0];
  const without = [];
  for (let position = first; position < ids.length; position++)
    without.push(logprob(await logitsAfter(ids.filter((_, i) => i !== position)), chosen));
  const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
  models.push({ name, sha256, ids, first, chosen, logprob: logprob(whole, chosen), without });
  await model.dispose();
}
const golden = { made_by: 'test/golden/make-leave-one-out-golden.mjs, node-llama-cpp 3.22.1', models };
writeFileSync(new URL('leave-one-out.json', import.meta.url), `${JSON.stringify(golden)}\n`);
process.exit(0);
