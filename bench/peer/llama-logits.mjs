// Logits of llama.cpp through node-llama-cpp: node llama-logits.mjs MODEL ID ... -> one line, the logits after the last id as
// base64 of little-endian float32. Whole prompt in one batch, two threads.
import { llama, openModel } from './exact-llama.mjs';

const [file, ...ids] = process.argv.slice(2);
const { model, context } = await openModel(file, 512, 2);
const tokens = ids.map(Number);
const evaluated = await context
  .getSequence()
  .controlledEvaluate([...tokens.slice(0, -1), [tokens.at(-1), { generateNext: { logits: true } }]]);
const logits = new Float32Array(model.fileInfo.metadata.tokenizer.ggml.tokens.length);
for (const [token, logit] of evaluated.at(-1).next.logits) logits[token] = logit;
process.stdout.write(`${Buffer.from(logits.buffer).toString('base64')}\n`);
await llama.dispose();
process.exit(0);
