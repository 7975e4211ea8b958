/** Many prompts in one call: from arguments to an answer a prompt. */
import { onErrorOf, placed } from '../backend/on-error.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { GenerationRequest } from './generate.ts';
import { generateAll } from './generate.ts';
import { parseOptions } from '../sampling/options.ts';
import type { Prompt } from './prompt-parts.ts';
import { turnPrompt } from './templated-prompt.ts';
import { buildIdOf, recordingWanted, recordRun } from './record.ts';
import { openRequest, promptModel } from './request.ts';

export interface BatchRow {
  ord: number;
  text: string | null;
  done_reason: string | null;
  eval_count: number | null;
}

/**
 * Answer every prompt; null for null. Options are those of a single prompt and `on_error`; every prompt gets the seed of
 * the options, or one of its own where they name none.
 */
export function answerBatch(
  prompts: readonly (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
): BatchRow[] {
  const startedAt = Date.now();
  const { on_error: wanted, ...options } = given ?? {};
  const onError = onErrorOf(wanted);
  const rows: BatchRow[] = prompts.map((_, i) => ({ ord: i + 1, text: null, done_reason: null, eval_count: null }));
  const fail = (index: number, error: unknown): void => {
    if (!(error instanceof HartonomousError)) throw error;
    if (onError === 'error') throw placed('prompt', index, error);
    rows[index]!.done_reason = 'error';
  };

  for (const prompt of prompts) {
    if (prompt === null || typeof prompt === 'string') continue;
    raise(SQLSTATE.invalidParameterValue, 'prompts must be an array of one dimension');
  }
  const { catalog, caller, used, options: parsed } = openRequest(model, options, { ablates: true });
  const { defaultOptions } = used.entry.description;
  const record = recordingWanted(parsed.record, 'generate', catalog);
  const places: number[] = []; // index among the prompts of each request
  const requests: GenerationRequest[] = [];
  const asked: Prompt[] = []; // of each request
  prompts.forEach((prompt, index) => {
    if (prompt === null) return;
    try {
      const { seed } = parseOptions(options, defaultOptions).sampler; // drawn where none is given
      const own = { ...parsed, sampler: { ...parsed.sampler, seed } };
      const made = turnPrompt(promptModel(used), prompt, own);
      requests.push({ promptIds: made.ids, options: own, hooks: { logprobs: record } });
      asked.push(made);
      places.push(index);
    } catch (error) {
      fail(index, error);
    }
  });

  const generations = generateAll(used, caller, requests, (at, error) => fail(places[at]!, error));
  generations.forEach((generation, at) => {
    if (generation === null) return;
    const row = rows[places[at]!]!;
    row.text = generation.text;
    row.done_reason = generation.doneReason;
    row.eval_count = generation.tokens.length;
    if (!record) return;
    recordRun(
      {
        caller,
        kind: 'generate',
        model: used.entry.description,
        options,
        settings: requests[at]!.options,
        heldAs: used.entry.model.precision,
        buildId: buildIdOf(catalog),
        parts: asked[at]!.parts(),
        generation,
        startedAt,
        loadNs: used.loadNs,
        totalNs: used.loadNs + generation.promptEvalNs + generation.evalNs,
      },
      used.tokenizer,
    );
  });
  return rows;
}
