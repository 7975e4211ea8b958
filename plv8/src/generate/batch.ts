/** Many prompts in one call: from arguments to an answer a prompt. */
import type { Catalog, ModelDescription } from '../backend/catalog.ts';
import type { OnError } from '../backend/on-error.ts';
import { onErrorOf, placed } from '../backend/on-error.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import { parseOptions } from '../sampling/options.ts';
import { THIS_SESSION } from './call-session.ts';
import type { Generation, GenerationRequest } from './generate.ts';
import { generateAll } from './generate.ts';
import type { Prompt, PromptPart } from './prompt-parts.ts';
import type { RunTexts } from './record.ts';
import { buildIdOf, recordingWanted, runTexts } from './record.ts';
import { openRequest, promptModel } from './request.ts';
import { turnPrompt } from './templated-prompt.ts';

export interface BatchRow {
  ord: number;
  text: string | null;
  done_reason: string | null;
  eval_count: number | null;
}

/** Options of `generate` and `on_error`. */
export interface BatchOptions {
  onError: OnError;
  /** Those of a single prompt. */
  options: Record<string, unknown>;
}

export function batchOptions(given: Record<string, unknown> | null): BatchOptions {
  const { on_error: wanted, ...options } = given ?? {};
  return { onError: onErrorOf(wanted), options };
}

export function checkPrompts(prompts: readonly (string | null)[]): void {
  for (const prompt of prompts) {
    if (prompt === null || typeof prompt === 'string') continue;
    raise(SQLSTATE.invalidParameterValue, 'prompts must be an array of one dimension');
  }
}

/** Options with the seed that one prompt gets: that of the options, or one of its own where they name none. */
export function withSeed(
  parsed: GenerateOptions,
  options: Record<string, unknown>,
  { defaultOptions }: ModelDescription,
): GenerateOptions {
  const { seed } = parseOptions(options, defaultOptions).sampler; // drawn where none is given
  return { ...parsed, sampler: { ...parsed.sampler, seed } };
}

/** A call whose prompts are answered. */
export interface BatchCall {
  catalog: Catalog;
  caller: string;
  model: ModelDescription;
  /** The caller's options as given. */
  options: Record<string, unknown>;
  startedAt: number; // milliseconds since 1970
}

/** The answer to one of its prompts. */
export interface BatchAnswer {
  generation: Generation;
  settings: GenerateOptions;
  heldAs: string;
  loadNs: number;
  /** Null where it is not recorded. */
  run: { parts: readonly PromptPart[] | null; texts: RunTexts } | null;
}

/** The rows of a call, in which no prompt is answered yet. */
export class BatchRows {
  readonly rows: BatchRow[];

  constructor(
    count: number,
    private readonly session = THIS_SESSION,
  ) {
    this.rows = Array.from({ length: count }, (_, i) => ({
      ord: i + 1,
      text: null,
      done_reason: null,
      eval_count: null,
    }));
  }

  fail(place: number): void {
    this.rows[place]!.done_reason = 'error';
  }

  /** The prompt at this place was answered; it is recorded where that is wanted. */
  answer(place: number, call: BatchCall, { generation, settings, heldAs, loadNs, run }: BatchAnswer): void {
    const row = this.rows[place]!;
    row.text = generation.text;
    row.done_reason = generation.doneReason;
    row.eval_count = generation.tokens.length;
    if (run === null) return;
    const { catalog, caller, model, options, startedAt } = call;
    this.session.record(
      {
        caller,
        kind: 'generate',
        model,
        options,
        settings,
        heldAs,
        buildId: buildIdOf(catalog),
        parts: run.parts,
        generation,
        startedAt,
        loadNs,
        totalNs: loadNs + generation.promptEvalNs + generation.evalNs,
      },
      run.texts,
    );
  }
}

/** Answer every prompt; null for null. Where the call was `admitted` before it is not counted again. */
export function answerBatchHere(
  prompts: readonly (string | null)[],
  model: string | null,
  { onError, options }: BatchOptions,
  { startedAt, admitted }: { startedAt: number; admitted: boolean },
): BatchRow[] {
  const rows = new BatchRows(prompts.length);
  const fail = (place: number, error: unknown): void => {
    if (!(error instanceof HartonomousError)) throw error;
    if (onError === 'error') throw placed('prompt', place, error);
    rows.fail(place);
  };
  const { catalog, caller, used, options: parsed } = openRequest(model, options, { ablates: true, admitted });
  const { entry, tokenizer, loadNs } = used;
  const record = recordingWanted(parsed.record, 'generate', catalog);
  const places: number[] = []; // index among the prompts of each request
  const requests: GenerationRequest[] = [];
  const asked: Prompt[] = []; // of each request
  prompts.forEach((prompt, index) => {
    if (prompt === null) return;
    try {
      const own = withSeed(parsed, options, entry.description);
      const made = turnPrompt(promptModel(used), prompt, own);
      requests.push({ promptIds: made.ids, options: own, hooks: { logprobs: record } });
      asked.push(made);
      places.push(index);
    } catch (error) {
      fail(index, error);
    }
  });

  const generations = generateAll(used, caller, requests, (at, error) => fail(places[at]!, error));
  const call = { catalog, caller, model: entry.description, options, startedAt };
  generations.forEach((generation, at) => {
    if (generation === null) return;
    const settings = requests[at]!.options;
    const run = record ? { parts: asked[at]!.parts(), texts: runTexts(generation, settings.stop, tokenizer) } : null;
    rows.answer(places[at]!, call, { generation, settings, heldAs: entry.model.precision, loadNs, run });
  });
  return rows.rows;
}
