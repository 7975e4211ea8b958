/** Random Unicode texts, and what llama.cpp makes of them: both sides computed in the same run. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTokenizer } from '../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from './gguf-vocabulary.ts';

const PIECES =
  `'s¦'LL¦ ¦  ¦\n¦\r\n¦\t¦123¦4567¦<|im_end|>¦</s>¦[SEP]¦hello¦ the¦The¦ing¦\u2581¦é¦漢字¦🙂¦👩‍💻¦\u00a0¦\u0085¦\u3000¦\u200b¦\u0301¦½¦Ⅷ¦٣¦!?¦...¦-¦_¦$¦=¦(¦)¦~¦^¦\`¦¡¦。¦，¦İ¦ſ`.split(
    '¦',
  );
const PEER = fileURLToPath(new URL('../../bench/peer/', import.meta.url));

/** Characters up to U+1C00 newer than Unicode 15: what they are depends on the tables of V8 and of llama.cpp. */
const TOO_NEW: readonly (readonly [first: number, last: number])[] = [
  [0x088f, 0x088f],
  [0x0897, 0x0897],
  [0x0c5c, 0x0c5c],
  [0x0cdc, 0x0cdc],
  [0x1acf, 0x1aff],
  [0x1b4e, 0x1b4f],
  [0x1b7f, 0x1b7f],
];

function known(code: number): string {
  if (TOO_NEW.some(([first, last]) => code >= first && code <= last)) return '';
  return String.fromCharCode(code).replace(/\p{Cn}/u, '');
}

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
    else if (kind === 4) text += known(1 + random(0x1c00));
    else text += String.fromCodePoint([0x1f300, 0x20000, 0x4e00, 0xac00][random(4)]! + random(0x300));
  }
  return text;
}

/**
 * Texts (and ends of generation) on which the vocabulary of a GGUF file and llama.cpp differ, of `count` random ones;
 * every other text has its special tokens parsed. Needs the peers of bench/peer. Throws when llama.cpp fails.
 */
export function tokenizerDifferences(file: string, count: number): string[] {
  const texts = Array.from({ length: count }, (_, i) => [randomText(), i % 2 === 1] as const);
  const answer = spawnSync('node', [join(PEER, 'llama-tokenize.mjs'), file], {
    cwd: PEER,
    input: JSON.stringify(texts),
    maxBuffer: 1 << 30,
    encoding: 'utf8',
  });
  if (answer.status !== 0) throw new Error(`llama.cpp failed on ${file}: ${answer.stderr.slice(-300)}`);
  const wanted = JSON.parse(answer.stdout) as { ids: number[][]; texts: string[]; ends: number[] };
  const tokenizer = createTokenizer(readGgufVocabulary(file));
  const differences: string[] = [];
  texts.forEach(([text, parseSpecial], i) => {
    const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial });
    const decoded = tokenizer.decode(ids, { special: parseSpecial });
    if (ids.join() !== wanted.ids[i]!.join() || decoded !== wanted.texts[i]) differences.push(JSON.stringify(text));
  });
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    if (tokenizer.isEndOfGeneration(id) !== wanted.ends.includes(id)) differences.push(`end of generation ${id}`);
  }
  return differences;
}
