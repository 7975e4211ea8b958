/** Many prompts in one call. */
import { returnNext } from '../db.ts';
import { answerBatch } from '../generate/engine/ask-many.ts';
import { optionsOf } from '../format/json-arguments.ts';

export function generateBatch(prompts: (string | null)[] | null, model: string | null, options: string | null): void {
  if (prompts === null) return;
  for (const row of answerBatch(prompts, model, optionsOf(options))) returnNext(row);
}
