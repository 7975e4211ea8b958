/**
 * Tokenizers on random Unicode texts against llama.cpp in the same run, and their speed on hostile megabytes:
 *   npx tsx bench/tokenizers.ts [texts per vocabulary]        after npm run setup in bench/peer
 * Exit code 1 when any text differs. Characters newer than Unicode 15 are left out: which of them are letters depends on
 * the Unicode tables of V8 and of llama.cpp.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createTokenizer } from '../plv8/src/tokenizer/tokenizer.ts';
import { fetchVocabularies } from '../test/golden/fetch-vocabularies.mjs';
import { readGgufVocabulary } from '../test/golden/gguf-vocabulary.ts';

const NAMES = [
  'qwen2',
  'llama-bpe',
  'gpt-2',
  'llama-spm',
  'starcoder',
  'falcon',
  'refact',
  'command-r',
  'mpt',
  'bert-bge',
  'nomic-bert-moe',
  'phi-3',
];
const PIECES =
  `'s¦'LL¦ ¦  ¦\n¦\r\n¦\t¦123¦4567¦<|im_end|>¦</s>¦hello¦ the¦The¦ing¦\u2581¦é¦漢字¦🙂¦👩‍💻¦\u00a0¦\u0085¦\u3000¦\u200b¦\u0301¦½¦Ⅷ¦٣¦!?¦...¦-¦_¦$¦=¦(¦)¦~¦^¦\`¦¡¦。¦，¦İ¦ſ`.split(
    '¦',
  );
const MEGABYTE = 1 << 20;

let state = 12345;
function random(below: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

function randomText(): string {
  let text = '';
  for (let i = random(30) + 1; i > 0; i--) {
    const kind = random(6);
    if (kind < 3) text += PIECES[random(PIECES.length)]!;
    else if (kind === 3) text += String.fromCharCode(32 + random(95));
    else if (kind === 4) text += String.fromCharCode(1 + random(0x1c00)).replace(/\p{Cn}/u, '');
    else text += String.fromCodePoint([0x1f300, 0x20000, 0x4e00, 0xac00][random(4)]! + random(0x300));
  }
  return text;
}

const peer = join(import.meta.dirname, 'peer');
const count = Number(process.argv[2] ?? 5000);
const folder = fetchVocabularies();
let differences = 0;

for (const name of NAMES) {
  const file = join(folder, `ggml-vocab-${name}.gguf`);
  if (!existsSync(file)) throw new Error(`vocabulary ${file} does not exist`);
  const texts = Array.from({ length: count }, (_, i) => [randomText(), i % 2 === 1] as const);
  const answer = spawnSync('node', [join(peer, 'llama-tokenize.mjs'), file], {
    cwd: peer,
    input: JSON.stringify(texts),
    maxBuffer: 1 << 30,
    encoding: 'utf8',
  });
  if (answer.status !== 0) throw new Error(`llama.cpp failed on ${name}: ${answer.stderr.slice(-300)}`);
  const wanted = JSON.parse(answer.stdout) as { ids: number[][]; texts: string[]; ends: number[] };
  const tokenizer = createTokenizer(readGgufVocabulary(file));
  let bad = 0;
  texts.forEach(([text, parseSpecial], i) => {
    const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial });
    const same =
      ids.join() === wanted.ids[i]!.join() && tokenizer.decode(ids, { special: parseSpecial }) === wanted.texts[i];
    if (!same && bad++ < 3) console.log(`  ${name} differs on ${JSON.stringify(text)}`);
  });
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    if (tokenizer.isEndOfGeneration(id) !== wanted.ends.includes(id)) bad++;
  }
  const times = ['the quick brown fox, 1984. ', 'a', ' ', '\n', '漢'].map((unit) => {
    const text = unit.repeat(MEGABYTE / unit.length);
    const started = performance.now();
    tokenizer.encode(text, { addSpecial: false, parseSpecial: true });
    return `${JSON.stringify(unit)} ${(performance.now() - started).toFixed(0)} ms`;
  });
  differences += bad;
  console.log(`${name}: ${count} texts, ${bad} differences; a million characters of ${times.join(', ')}`);
}
process.exit(differences === 0 ? 0 : 1);
