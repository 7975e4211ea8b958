/** Embeddings of all-MiniLM-L6-v2 with all cores, beside other engines. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import type { EmbeddingPeer } from './embedding-peers.ts';
import { embeddingPeers } from './embedding-peers.ts';
import { random } from './random.ts';
import type { Row } from './report.ts';
import { comparison } from './report.ts';

/** Of a text, with the two that stand around it. */
const TOKENS = 128;
const TEXTS = 128;
/** The last one is exact: its vectors are compared with the peers'. */
const PRECISIONS = ['q8', 'f32'] as const;

/** Texts of words that are one token each. */
function textsOf(vocabulary: readonly string[], seed: number): string[] {
  const next = random(seed);
  const word = (): string => vocabulary[Math.floor(next() * vocabulary.length)]!;
  return Array.from({ length: TEXTS }, () => Array.from({ length: TOKENS - 2 }, word).join(' '));
}

function wholeWords(folder: string): string[] {
  const { model } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number> };
  };
  return Object.keys(model.vocab).filter((word) => /^[a-z]{2,}$/.test(word));
}

/** Texts a second, and the first text's embedding. */
async function embedOurs(
  client: pg.Client,
  model: string,
  precision: string,
  texts: readonly string[],
): Promise<{ rate: number; vector: number[] }> {
  const started = performance.now();
  const { rows } = await client.query<{ tokens: number; vector: number[] | null }>(
    `select prompt_eval_count as tokens, case ord when 1 then embedding end as vector
     from hartonomous.embed($1::text[], $2, $3) order by ord`,
    [texts, model, JSON.stringify({ precision, normalize: true })],
  );
  const seconds = (performance.now() - started) / 1000;
  const other = rows.find(({ tokens }) => tokens !== TOKENS);
  if (other !== undefined) throw new Error(`a text has ${other.tokens} tokens, expected ${TOKENS}`);
  return { rate: texts.length / seconds, vector: rows[0]!.vector! };
}

/** Throws where a peer embeds something else. */
function requireSame(name: string, ours: readonly number[], theirs: readonly number[]): void {
  const cosine = ours.reduce((sum, x, i) => sum + x * theirs[i]!, 0) / (Math.hypot(...ours) * Math.hypot(...theirs));
  if (!(cosine > 0.999)) throw new Error(`${name} embeds a text with cosine ${cosine} to ours, expected over 0.999`);
}

/** `folder` is that of the model which the database has as `model`. */
export async function measureEmbeddings(
  client: pg.Client,
  options: { model: string; folder: string; rounds: number; progress: (text: string) => void },
): Promise<Row[]> {
  const { model, folder, rounds, progress } = options;
  const peers = await embeddingPeers(folder);
  const vocabulary = wholeWords(folder);
  const rates: Record<string, number[]> = {};
  // The first round warms up; texts are others each time, since a backend keeps recent embeddings.
  for (let round = 0; round <= rounds; round++) {
    const texts = textsOf(vocabulary, round);
    const measured: Record<string, number> = {};
    let vector: number[] = [];
    for (const precision of PRECISIONS) {
      const ours = await embedOurs(client, model, precision, texts);
      measured[precision] = ours.rate;
      vector = ours.vector;
    }
    if (round === 0) continue;
    for (const peer of peers) {
      const theirs = peer.embed(texts);
      requireSame(peer.name, vector, theirs.vector);
      measured[peer.name] = texts.length / theirs.seconds;
    }
    for (const [name, rate] of Object.entries(measured)) (rates[name] ??= []).push(rate);
    const shown = Object.entries(measured).map(([name, rate]) => `${name} ${rate.toFixed(1)}`);
    progress(`embeddings, round ${round} of ${rounds}: ${shown.join(', ')} texts/s`);
  }
  const fastest = (kind: EmbeddingPeer['kind']): number[] => {
    const lists = peers.filter((peer) => peer.kind === kind).map(({ name }) => rates[name]!);
    return lists[0]!.map((_, i) => Math.max(...lists.map((list) => list[i]!)));
  };
  const what = (precision: string, peer: string): string =>
    `all-MiniLM-L6-v2, ${TOKENS} tokens, ours in ${precision}, ${peer}`;
  return [
    ...PRECISIONS.flatMap((precision, i) => [
      comparison(
        what(precision, 'faster of torch and ONNX in f32'),
        'texts/s',
        rates[precision]!,
        fastest('f32'),
        i === 0 ? 1.2 : null,
      ),
      comparison(
        what(precision, 'faster of llama.cpp in F16 and Q8_0'),
        'texts/s',
        rates[precision]!,
        fastest('llama'),
        i === 0 ? 1.1 : null,
      ),
    ]),
    ...peers.map(({ name }) => comparison(what('q8', name), 'texts/s', rates.q8!, rates[name]!, null)),
  ];
}
