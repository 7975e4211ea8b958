/** Labels for texts. */
import { returnNext } from '../db.ts';
import { classifyText } from '../generate/engine/ask-labels.ts';

export function classify(
  input: string | null,
  labels: (string | null)[] | null,
  model: string | null,
  options: Record<string, unknown> | null,
): void {
  if (input === null || labels === null) return;
  for (const row of classifyText(input, labels, model, options)) returnNext(row);
}
