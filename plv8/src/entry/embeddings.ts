/** embed, similarity, explain_similarity, rerank and explain_rerank. */
import { returnNext } from '../db.ts';
import { findRanker, scoreDocuments } from '../embed/cross-encoder.ts';
import type { TextEmbedding } from '../embed/embedded-rows.ts';
import { explainSimilarity as explainCosine } from '../embed/explain-similarity.ts';
import { cosine, cosinesOfFirst, rankedRows } from '../embed/ranking.ts';
import { embedTexts, rankDocuments } from '../generate/engine/ask-reading.ts';

type Options = Record<string, unknown> | null;

export function embed(input: string | null, model: string | null, options: Options): number[] | null {
  return input === null ? null : embedTexts([input], model, options)[0]!.embedding;
}

export function embedBatch(inputs: (string | null)[] | null, model: string | null, options: Options): void {
  if (inputs !== null) showEmbedded(embedTexts(inputs, model, options));
}

/** As embedBatch, for a queue: nobody waits for it. */
export function embedQueued(inputs: (string | null)[] | null, model: string | null, options: Options): void {
  if (inputs !== null) showEmbedded(embedTexts(inputs, model, options, { queued: true }));
}

function showEmbedded(embedded: readonly TextEmbedding[]): void {
  embedded.forEach(({ embedding, tokens, error }, i) =>
    returnNext({ ord: i + 1, embedding, prompt_eval_count: tokens, error }),
  );
}

export function similarity(a: string | null, b: string | null, model: string | null, options: Options): number | null {
  if (a === null || b === null) return null;
  const [one, other] = embedTexts([a, b], model, options);
  return cosine(one!.embedding, other!.embedding);
}

export function explainSimilarity(a: string | null, b: string | null, model: string | null, options: Options): void {
  if (a === null || b === null) return;
  for (const row of explainCosine([a, b], model, options)) returnNext(row);
}

/** Cosine of each document's embedding with the query's, null for null. */
function cosines(
  query: string,
  docs: readonly (string | null)[],
  model: string | null,
  options: Options,
): (number | null)[] {
  return cosinesOfFirst(embedTexts([query, ...docs], model, options, { ranked: true }));
}

export function rerank(
  query: string | null,
  docs: (string | null)[] | null,
  model: string | null,
  options: Options,
): void {
  if (query === null || docs === null) return;
  const scores = rankDocuments(query, docs, model, options) ?? cosines(query, docs, model, options);
  for (const row of rankedRows(docs, scores)) returnNext(row);
}

/** What each word of a query and of a document adds to the document's score: the score less that without the word. */
export function explainRerank(
  query: string | null,
  document: string | null,
  model: string | null,
  options: Options,
): void {
  if (query === null || document === null) return;
  const ranker = findRanker(model, options, 'embedding');
  const score = (asked: string, docs: string[]): (number | null)[] =>
    ranker === null ? cosines(asked, docs, model, options) : scoreDocuments(ranker, asked, docs);
  const words = (text: string): RegExpMatchArray[] => [...text.matchAll(/\S+/g)];
  const without = (text: string, word: RegExpMatchArray): string =>
    text.slice(0, word.index) + text.slice(word.index! + word[0].length);
  const row = (part: string, word: RegExpMatchArray, number: number, rest: number | null): void => {
    const contribution = whole === null || rest === null ? null : whole - rest;
    returnNext({ part, number: number + 1, word: word[0], contribution });
  };
  const ofDocument = words(document).filter((word) => without(document, word).trim() !== '');
  const [whole = null, ...left] = score(query, [document, ...ofDocument.map((word) => without(document, word))]);
  const ofQuery = words(query).filter((word) => without(query, word).trim() !== '');
  ofQuery.forEach((word, i) => row('query', word, i, score(without(query, word), [document])[0] ?? null));
  ofDocument.forEach((word, i) => row('document', word, i, left[i] ?? null));
}
