/** embed, similarity and rerank. */
import { returnNext } from '../db.ts';
import { embedTexts } from '../embed/embedding.ts';
import { cosineSimilarity } from '../model/vector-maths.ts';

type Options = Record<string, unknown> | null;

export function embed(input: string | null, model: string | null, options: Options): number[] | null {
  return input === null ? null : embedTexts([input], model, options)[0]!;
}

export function embedBatch(inputs: (string | null)[] | null, model: string | null, options: Options): void {
  if (inputs === null) return;
  embedTexts(inputs, model, options).forEach((embedding, i) => returnNext({ ord: i + 1, embedding }));
}

export function similarity(a: string | null, b: string | null, model: string | null, options: Options): number | null {
  if (a === null || b === null) return null;
  const [one, other] = embedTexts([a, b], model, options);
  return cosineSimilarity(one!, other!);
}

export function rerank(
  query: string | null,
  docs: (string | null)[] | null,
  model: string | null,
  options: Options,
): void {
  if (query === null || docs === null) return;
  const [wanted, ...found] = embedTexts([query, ...docs], model, options);
  const rows = docs.map((doc, i) => {
    const embedding = found[i]!;
    return { ord: i + 1, doc, score: embedding === null ? null : cosineSimilarity(wanted!, embedding) };
  });
  // Best first, null last; of equal ones the earlier.
  rows.sort((one, other) => (other.score ?? -Infinity) - (one.score ?? -Infinity) || one.ord - other.ord);
  for (const row of rows) returnNext(row);
}
