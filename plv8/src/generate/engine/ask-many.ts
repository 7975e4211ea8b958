/** Many prompts in one call, answered by the engine of the database where that takes them. */
import type { BatchOptions, BatchRow } from '../batch.ts';
import { answerBatchHere, batchOptions, checkPrompts, withSeed } from '../batch.ts';
import { THIS_SESSION } from '../call-session.ts';
import { recordingWanted } from '../record.ts';
import { AnsweredPrompts } from './answered-prompts.ts';
import { converse } from './conversing.ts';
import { lengthOfTexts } from './messages.ts';
import type { OpenedCall } from './opening.ts';
import { openCall } from './opening.ts';
import { isTakenPlain } from './taken.ts';

type Prompts = readonly (string | null)[];

/**
 * Answer every prompt; null for null. Options are those of a single prompt and `on_error`; every prompt gets the seed of
 * the options, or one of its own where they name none.
 */
export function answerBatch(prompts: Prompts, model: string | null, given: Record<string, unknown> | null): BatchRow[] {
  const startedAt = Date.now();
  const wanted = batchOptions(given);
  checkPrompts(prompts);
  const opened = openCall(model, wanted.options, isTakenPlain(lengthOfTexts(prompts), wanted.options));
  const rows = opened === null ? null : askEngine(opened, prompts, wanted, startedAt);
  return rows ?? answerBatchHere(prompts, model, wanted, { startedAt, admitted: opened !== null });
}

/** Null where they are to be answered here. */
function askEngine(
  { host, role, catalog, caller, description, options, head }: OpenedCall,
  prompts: Prompts,
  { onError, options: given }: BatchOptions,
  startedAt: number,
): BatchRow[] | null {
  const wantsRun = recordingWanted(options.record, 'generate', catalog);
  const settings = prompts.map((prompt) => (prompt === null ? options : withSeed(options, given, description)));
  const seeds = settings.map(({ sampler }) => sampler.seed);
  const answered = new AnsweredPrompts();
  const request = { ...head, prompts, seeds, onError, wantsRun };
  const heard = converse(host, role, request, (part) => answered.see(part));
  if (heard === null || !('answered' in heard)) return null;
  const call = { catalog, caller, model: description, options: given, startedAt };
  return answered.finish(call, settings, THIS_SESSION);
}
