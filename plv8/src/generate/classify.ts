/** Which of several labels fits a text: the likelihood of each as the model's answer. */
import { raise, SQLSTATE } from '../errors.ts';
import { checkPrompt, contextLength } from './generate.ts';
import { isTurn, promptIds } from './prompt.ts';
import { openRequest, promptModel } from './request.ts';
import { scoreSequences } from './score.ts';

/** Labels of one call. */
const MAX_LABELS = 1000;

export interface LabelRow {
  label: string;
  probability: number;
}

function checkLabels(labels: readonly unknown[]): asserts labels is readonly string[] {
  if (labels.length < 2 || labels.length > MAX_LABELS) {
    raise(SQLSTATE.invalidParameterValue, `classify takes 2 to ${MAX_LABELS} labels, ${labels.length} were given`);
  }
  labels.forEach((label, i) => {
    if (typeof label !== 'string' || label === '') {
      raise(
        SQLSTATE.invalidParameterValue,
        `label ${i + 1} is ${label === null ? 'null' : 'not a text with characters'}`,
      );
    }
    const same = labels.indexOf(label);
    if (same < i) raise(SQLSTATE.invalidParameterValue, `label ${i + 1} is the same as label ${same + 1}`);
  });
}

/**
 * Each label with its probability, the likeliest first: that of the label's tokens after the prompt, as shares of the sum
 * over all labels. Option `instruction` says what is asked; without it the labels are named.
 */
export function classifyText(
  input: string,
  labels: readonly (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
): LabelRow[] {
  checkLabels(labels);
  const { instruction: wanted = null, ...rest } = given ?? {};
  if (wanted !== null && typeof wanted !== 'string') {
    raise(SQLSTATE.invalidParameterValue, `option instruction must be a text, got ${JSON.stringify(wanted)}`);
  }
  const { caller, used, options } = openRequest(model, rest);
  const instruction = wanted ?? `Say which of these fits the text best: ${labels.join(', ')}.`;
  const prepared = promptModel(used);
  const prompt = `${instruction}\n\nText: ${input}\n\nAnswer:`;
  const space = isTurn(prepared, options) ? '' : ' ';
  const sequences = labels.map((label) => promptIds(prepared, prompt, options, space + label));
  const context = contextLength(options, used.entry.model.config.contextLength);
  for (const ids of sequences) checkPrompt(ids, context);
  const scores = scoreSequences(used, caller, sequences, options.cache);
  const best = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return labels
    .map((label, i) => ({ label, probability: weights[i]! / total }))
    .sort((a, b) => b.probability - a.probability);
}
