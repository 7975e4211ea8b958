// llama.cpp's ids for texts: node llama-tokenize.mjs VOCABULARY < texts.json > ids.json
// texts: [[text, parseSpecial], ...]; answer: {"ids": [[...], ...], "texts": [decoded, ...], "ends": [end-of-generation ids]}.
import { text } from 'node:stream/consumers';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const texts = JSON.parse(await text(process.stdin));
const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  maxThreads: 1,
  logLevel: LlamaLogLevel.disabled,
});
const model = await llama.loadModel({ modelPath: process.argv[2], vocabOnly: true });
const ids = texts.map(([content, special]) => [...model.tokenize(content, special)]);
const decoded = ids.map((list, i) => model.detokenize(list, texts[i][1]));
const ends = [];
for (let id = 0; id < model.fileInfo.metadata.tokenizer.ggml.tokens.length; id++) {
  if (model.isEogToken(id)) ends.push(id);
}
process.stdout.write(JSON.stringify({ ids, texts: decoded, ends }), () => process.exit(0));
