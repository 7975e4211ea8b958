/** Labels for texts. */
import { returnNext } from '../db.ts';
import { classifyByEncoder, findRanker, hasClassifier } from '../embed/cross-encoder.ts';
import type { LabelRow } from '../generate/classify.ts';
import { checkLabels, classifyText, ownOptions } from '../generate/classify.ts';

export function classify(
  input: string | null,
  labels: (string | null)[] | null,
  model: string | null,
  options: Record<string, unknown> | null,
): void {
  if (input === null || labels === null) return;
  const rows = classifyByRanker(input, labels, model, options) ?? classifyText(input, labels, model, options);
  for (const row of rows) returnNext(row);
}

/** By a model that has a classifier; null where it has none, and is asked in words. */
function classifyByRanker(
  input: string,
  labels: (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
): LabelRow[] | null {
  if (!hasClassifier(model, 'text')) return null;
  checkLabels(labels);
  const { instruction, rest } = ownOptions(given ?? {});
  const ranker = findRanker(model, rest, 'text')!;
  const probabilities = classifyByEncoder(ranker, input, labels, instruction);
  return labels
    .map((label, i): LabelRow => ({ label: label!, probability: probabilities[i]! }))
    .sort((a, b) => b.probability - a.probability);
}
