/** Which of several labels fits a text: the likelihood of each as the model's answer. */
import type { Catalog } from '../backend/catalog.ts';
import { nanoseconds } from '../backend/durations.ts';
import type { UsedModel } from '../backend/registry.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { quoted } from '../format/visible-text.ts';
import type { Model } from '../model/model.ts';
import type { Pause } from '../model/pause.ts';
import { whole } from '../model/pause.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import { THIS_SESSION } from './call-session.ts';
import { checkPrompt, contextLength } from './generate.ts';
import type { Prompt } from './prompt-parts.ts';
import type { LabelReading, ReadWith, RunTexts } from './record.ts';
import { labelRun, readWith, recordingWanted, runTexts } from './record.ts';
import { openRequest, promptModel } from './request.ts';
import { scoreInPieces, sharedLength } from './score.ts';
import { isTurn, turnPrompt } from './templated-prompt.ts';

/** Labels of one call. */
const MAX_LABELS = 1000;
/** A text that speaks for no label; what a model answers to it is its bias. */
const NEUTRAL_TEXT = 'N/A';

export interface LabelRow {
  label: string;
  probability: number;
}

/** The likeliest first. */
export function rankedLabels(labels: readonly string[], probabilities: readonly number[]): LabelRow[] {
  return labels
    .map((label, i): LabelRow => ({ label, probability: probabilities[i]! }))
    .sort((a, b) => b.probability - a.probability);
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

/** Questions of which the labels' scores for NEUTRAL_TEXT are remembered: rows of a table ask the same one again and again. */
const MAX_BIASES = 16;

/** Characters of what is asked, beyond which it is not remembered. */
const MAX_ASKED = 1_000_000;

/** By what is asked for whom; the latest last. */
const biases = new WeakMap<Model, Map<string, number[]>>();

function* biasOf(
  used: UsedModel,
  caller: string,
  sequences: number[][],
  how: { reuse: boolean; turn: number },
): Generator<Pause, number[]> {
  const { model } = used.entry;
  const kept = biases.get(model) ?? new Map<string, number[]>();
  biases.set(model, kept);
  const shared = sharedLength(sequences);
  const endings = sequences.map((ids) => ids.slice(shared));
  const key = JSON.stringify([caller, sequences[0]!.slice(0, shared), endings]);
  const bias = kept.get(key) ?? (yield* scoreInPieces(used, caller, sequences, how)).map(({ logprob }) => logprob);
  if (key.length > MAX_ASKED) return bias;
  kept.delete(key);
  for (const oldest of kept.keys()) {
    if (kept.size < MAX_BIASES) break;
    kept.delete(oldest);
  }
  kept.set(key, bias);
  return bias;
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

/** What is asked of a model: which of the labels fits the text. */
export interface Question {
  input: string;
  labels: readonly string[];
  instruction: string;
  /** Whether the labels' likelihoods are divided by those that they have for NEUTRAL_TEXT. */
  calibrate: boolean;
}

export function questionOf(input: string, labels: readonly string[], own: OwnOptions): Question {
  const instruction = own.instruction ?? `Say which of these fits the text best: ${labels.join(', ')}.`;
  return { input, labels, instruction, calibrate: own.calibrate };
}

/** What the run is recorded with. */
interface LabelRun extends Pick<LabelReading, 'promptIds' | 'parts' | 'isWhole' | 'tokens' | 'evaluated'> {
  texts: RunTexts;
}

export interface LabelScores {
  /** Of each label the logarithm of its likelihood, but for what all have in common. */
  scores: number[];
  /** Null where none is recorded. */
  run: LabelRun | null;
}

interface InPieces {
  /** Whether the run is to be recorded. */
  wantsRun: boolean;
  /** Tokens after which it is somebody else's turn. */
  turn?: number;
  /** Has a prompt cut into tokens; may throw where that takes too long. */
  cut?: (work: () => Prompt) => Prompt;
}

/** Prompts that are cut into tokens one after the other before it is somebody else's turn. */
const CUT_TOGETHER = 16;

/**
 * How likely the model answers a question with each label: the likelihood of the label's tokens after the prompt. With
 * `calibrate` it is divided by the one the label has for a text that says nothing (Zhao et al., "Calibrate Before Use", 2021),
 * as small models have favourites. Anything else may be computed in the pauses.
 */
export function* scoreLabels(
  used: UsedModel,
  caller: string,
  { input, labels, instruction, calibrate }: Question,
  options: GenerateOptions,
  { wantsRun, turn = Infinity, cut = (work) => work() }: InPieces,
): Generator<Pause, LabelScores> {
  const prepared = promptModel(used);
  const context = contextLength(options, used.entry.model.config.contextLength);
  const space = isTurn(prepared, options) ? '' : ' ';
  const promptFor = (text: string, begun: string): Prompt => {
    const prompt = cut(() => turnPrompt(prepared, `${instruction}\n\nText: ${text}\n\nAnswer:`, options, begun));
    checkPrompt(prompt.ids, context);
    return prompt;
  };
  const sequencesFor = function* (text: string): Generator<Pause, number[][]> {
    const all: number[][] = [];
    for (const label of labels) {
      all.push(promptFor(text, space + label).ids);
      yield all.length % CUT_TOGETHER === 0 ? 'between' : 'within';
    }
    return all;
  };
  const how = { reuse: options.cache, turn };
  const sequences = yield* sequencesFor(input);
  const scored = yield* scoreInPieces(used, caller, sequences, how);
  const scores = scored.map(({ logprob }) => logprob);
  if (calibrate) {
    const bias = yield* biasOf(used, caller, yield* sequencesFor(NEUTRAL_TEXT), how);
    bias.forEach((score, i) => (scores[i]! -= score));
  }
  if (!wantsRun) return { scores, run: null };
  const shared = sharedLength(sequences);
  const winner = scores.indexOf(Math.max(...scores));
  const promptIds = sequences[winner]!.slice(0, shared);
  const { tokens } = scored[winner]!;
  const asked = promptFor(input, '');
  const run = {
    promptIds,
    parts: asked.parts(),
    isWhole: asked.ids.length === shared,
    tokens,
    evaluated: sequences.reduce((sum, ids) => sum + ids.length - shared, shared),
    texts: runTexts({ promptIds, tokens, doneReason: 'stop', ended: null }, options.stop, used.tokenizer),
  };
  return { scores, run };
}

/** A call, for what it came to. */
export interface LabelCall {
  catalog: Catalog;
  caller: string;
  by: ReadWith;
  labels: readonly string[];
  given: Record<string, unknown>;
  options: GenerateOptions;
  /** When it began, and when its model was there; milliseconds since 1970. */
  startedAt: number;
  loadedAt: number;
}

/** Each label with its share of the likelihood of all, the likeliest first; logged, and recorded where there is a run. */
export function finishLabels(call: LabelCall, { scores, run }: LabelScores, session = THIS_SESSION): LabelRow[] {
  const { catalog, caller, by, labels, given, options, startedAt, loadedAt } = call;
  session.log('classify', {
    model: by.model.name,
    caller,
    labels: labels.length,
    duration: nanoseconds(Date.now() - loadedAt),
  });
  const best = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - best));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const rows = labels.map((label, i) => ({ label, probability: weights[i]! / total }));
  if (run !== null) {
    const { texts, ...read } = run;
    const reading = { ...read, given, settings: options, labels: rows, startedAt };
    session.record(labelRun(by, catalog, caller, reading), texts);
  }
  return rows.sort((a, b) => b.probability - a.probability);
}

/**
 * Each label with its probability, the likeliest first: see scoreLabels. Option `instruction` says what is asked; without it
 * the labels are named. Where it was `admitted` before it is not counted again.
 */
export function classifyHere(
  question: Question,
  model: string | null,
  own: OwnOptions,
  { given, startedAt, admitted }: { given: Record<string, unknown>; startedAt: number; admitted: boolean },
): LabelRow[] {
  const { catalog, caller, used, options } = openRequest(model, own.rest, { admitted });
  const loadedAt = Date.now();
  const wantsRun = recordingWanted(options.record, 'classify', catalog);
  const scored = whole(scoreLabels(used, caller, question, options, { wantsRun }));
  const { labels } = question;
  return finishLabels({ catalog, caller, by: readWith(used), labels, given, options, startedAt, loadedAt }, scored);
}
