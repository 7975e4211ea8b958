/** Many prompts in one call, answered by the engine of the database where that takes them. */
import { logAnswer, tellIgnored } from '../generate.ts';
import type { BatchCall, BatchOptions, BatchRow } from '../batch.ts';
import { answerBatchHere, batchOptions, BatchRows, checkPrompts, withSeed } from '../batch.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import type { ToolCall } from '../../sampling/tool-calls.ts';
import { recordingWanted } from '../record.ts';
import { rememberWhole } from '../written-answers.ts';
import { converse } from './conversing.ts';
import type { EngineAnswer } from './messages.ts';
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
  const rows = new BatchRows(prompts.length);
  const answers = new Map<number, EngineAnswer>();
  const heard = converse(host, role, { ...head, prompts, seeds, onError, wantsRun }, (part) => {
    if (!('place' in part)) return;
    if (part.answer === null) rows.fail(part.place);
    else answers.set(part.place, part.answer);
  });
  if (heard === null || !('answered' in heard)) return null;
  const call = { catalog, caller, model: description, options: given, startedAt };
  for (const place of prompts.keys()) {
    const answer = answers.get(place);
    if (answer !== undefined) finish(rows, call, place, settings[place]!, answer);
  }
  return rows.rows;
}

/** Log and remember an answer, and record it where that is wanted. */
function finish(
  rows: BatchRows,
  call: BatchCall,
  place: number,
  settings: GenerateOptions,
  { generation: sent, calls, ignoredKeywords, isWhole, heldAs, loadNs, run }: EngineAnswer,
): void {
  const { caller, model } = call;
  const generation = { ...sent, calls: parseJson(calls) as ToolCall[] };
  tellIgnored({ ignoredKeywords });
  logAnswer(model.name, caller, generation);
  const ids = generation.tokens.map((token) => token.id);
  if (isWhole) rememberWhole({ caller, digest: model.digest, text: generation.text, ids });
  rows.answer(place, call, { generation, settings, heldAs, loadNs, run });
}
