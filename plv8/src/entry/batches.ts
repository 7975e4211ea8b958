/** Many prompts in one call. */
import { returnNext } from '../db.ts';
import { answerBatch } from '../generate/batch.ts';

export function generateBatch(
  prompts: (string | null)[] | null,
  model: string | null,
  options: Record<string, unknown> | null,
): void {
  if (prompts === null) return;
  for (const row of answerBatch(prompts, model, options)) returnNext(row);
}
