/** Which of several labels fits a text: the likelihood of each as the model's answer. */
import { logEvent } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { Model } from '../model/model.ts';
import { checkPrompt, contextLength } from './generate.ts';
import type { Prompt } from './prompt-parts.ts';
import { isTurn, turnPrompt } from './templated-prompt.ts';
import type { UsedModel } from '../backend/registry.ts';
import { openRequest, promptModel } from './request.ts';
import { recordingWanted, recordLabel } from './record.ts';
import { scoreSequences, sharedLength } from './score.ts';
import { nanoseconds } from '../backend/durations.ts';
import { quoted } from '../format/visible-text.ts';

/** Labels of one call. */
const MAX_LABELS = 1000;
/** A text that speaks for no label; what a model answers to it is its bias. */
const NEUTRAL_TEXT = 'N/A';

export interface LabelRow {
  label: string;
  probability: number;
}

export function checkLabels(labels: readonly unknown[]): asserts labels is readonly string[] {
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

/** The last labels' scores for NEUTRAL_TEXT: rows of a table ask the same question again and again. */
let lastBias: { model: Model; sequences: string; scores: number[] } | null = null;

function biasOf(used: UsedModel, caller: string, sequences: number[][], reuse: boolean): number[] {
  const { model } = used.entry;
  const key = JSON.stringify(sequences);
  if (lastBias?.model !== model || lastBias.sequences !== key) {
    const scores = scoreSequences(used, caller, sequences, reuse).map(({ logprob }) => logprob);
    lastBias = { model, sequences: key, scores };
  }
  return lastBias.scores;
}

export interface OwnOptions {
  instruction: string | null;
  calibrate: boolean;
  /** The options that generate knows, too. */
  rest: Record<string, unknown>;
}

export function ownOptions(given: Record<string, unknown>): OwnOptions {
  const { instruction, calibrate, ...rest } = given;
  if (typeof (instruction ?? '') !== 'string') {
    raise(SQLSTATE.invalidParameterValue, `option instruction must be a text, got ${quoted(instruction)}`);
  }
  if (typeof (calibrate ?? true) !== 'boolean') {
    raise(SQLSTATE.invalidParameterValue, `option calibrate must be true or false, got ${quoted(calibrate)}`);
  }
  return { instruction: (instruction ?? null) as string | null, calibrate: (calibrate ?? true) as boolean, rest };
}

/**
 * Each label with its probability, the likeliest first: that of the label's tokens after the prompt, as shares of the sum
 * over all labels. Option `instruction` says what is asked; without it the labels are named. With `calibrate` the label's
 * likelihood is divided by the one it has for a text that says nothing (Zhao et al., "Calibrate Before Use", 2021), as
 * small models have favourites.
 */
export function classifyText(
  input: string,
  labels: readonly (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
): LabelRow[] {
  checkLabels(labels);
  const own = ownOptions(given ?? {});
  const startedAt = Date.now();
  const { catalog, caller, used, options } = openRequest(model, own.rest);
  const instruction = own.instruction ?? `Say which of these fits the text best: ${labels.join(', ')}.`;
  const prepared = promptModel(used);
  const context = contextLength(options, used.entry.model.config.contextLength);
  const space = isTurn(prepared, options) ? '' : ' ';
  const promptFor = (text: string, begun: string): Prompt => {
    const prompt = turnPrompt(prepared, `${instruction}\n\nText: ${text}\n\nAnswer:`, options, begun);
    checkPrompt(prompt.ids, context);
    return prompt;
  };
  const sequencesFor = (text: string): number[][] => labels.map((label) => promptFor(text, space + label).ids);
  const started = Date.now();
  const sequences = sequencesFor(input);
  const scored = scoreSequences(used, caller, sequences, options.cache);
  const scores = scored.map(({ logprob }) => logprob);
  if (own.calibrate) {
    const bias = biasOf(used, caller, sequencesFor(NEUTRAL_TEXT), options.cache);
    bias.forEach((score, i) => (scores[i]! -= score));
  }
  logEvent('classify', {
    model: used.entry.description.name,
    caller,
    labels: labels.length,
    duration: nanoseconds(Date.now() - started),
  });
  const best = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const rows = labels.map((label, i) => ({ label, probability: weights[i]! / total }));
  if (recordingWanted(options.record, 'classify', catalog)) {
    const shared = sharedLength(sequences);
    const winner = scores.indexOf(best);
    const evaluated = sequences.reduce((sum, ids) => sum + ids.length - shared, shared);
    const asked = promptFor(input, '');
    recordLabel(used, catalog, {
      given: given ?? {},
      settings: options,
      promptIds: sequences[winner]!.slice(0, shared),
      parts: asked.parts(),
      isWhole: asked.ids.length === shared,
      labels: rows,
      tokens: scored[winner]!.tokens,
      evaluated,
      startedAt,
    });
  }
  return rows.sort((a, b) => b.probability - a.probability);
}
