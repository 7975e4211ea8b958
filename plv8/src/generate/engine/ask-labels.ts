/** How likely labels fit a text, of the engine of the database where that takes them. */
import { useModel } from '../../backend/registry.ts';
import { classifyByEncoder, hasClassifier, logScores, refuseForEmbeddings } from '../../embed/cross-encoder.ts';
import { parseEmbeddingOptions } from '../../embed/embedding-options.ts';
import type { LabelRow, Question } from '../classify.ts';
import { checkLabels, classifyHere, finishLabels, ownOptions, questionOf, rankedLabels } from '../classify.ts';
import { recordingWanted } from '../record.ts';
import { askToRead, openReading, scoresOf } from './ask-reading.ts';
import { converse } from './conversing.ts';
import { readingLength } from './messages.ts';
import type { OpenedCall } from './opening.ts';
import { openCall } from './opening.ts';
import { isTakenPlain } from './taken.ts';

type Given = Record<string, unknown>;

/** Each label with its probability, the likeliest first: by the model's classifier, or as its answer. */
export function classifyText(
  input: string,
  labels: readonly (string | null)[],
  model: string | null,
  given: Given | null,
): LabelRow[] {
  if (!hasClassifier(model, 'text')) return classifyByAnswers(input, labels, model, given ?? {});
  checkLabels(labels);
  const { instruction, rest } = ownOptions(given ?? {});
  const probabilities = classifyByRanker(input, labels, instruction, model, rest);
  return rankedLabels(labels, probabilities);
}

function classifyByRanker(
  text: string,
  labels: readonly string[],
  question: string | null,
  model: string | null,
  given: Given,
): number[] {
  const options = parseEmbeddingOptions(given);
  refuseForEmbeddings(options);
  const asking = openReading(model, given, options.precision, 'text');
  const { catalog, description } = asking;
  const started = Date.now();
  const answered = askToRead(asking, { text, labels, question });
  if (answered === null || !('scored' in answered)) {
    const more = { inParallel: true, purpose: 'text', admitted: true } as const;
    const used = useModel(catalog, description.name, options.precision, more);
    return classifyByEncoder({ used, options }, text, labels, question);
  }
  logScores(description.name, answered.scored, started);
  return scoresOf(answered.scored.scores);
}

function classifyByAnswers(
  input: string,
  labels: readonly (string | null)[],
  model: string | null,
  given: Given,
): LabelRow[] {
  checkLabels(labels);
  const own = ownOptions(given);
  const question = questionOf(input, labels, own);
  const startedAt = Date.now();
  const length = readingLength({ asked: question, wantsRun: false });
  const opened = openCall(model, own.rest, isTakenPlain(length, own.rest));
  const rows = opened === null ? null : askForLabels(opened, question, { given, startedAt });
  return rows ?? classifyHere(question, model, own, { given, startedAt, admitted: opened !== null });
}

/** Null where the labels are to be read here. */
function askForLabels(
  { host, role, catalog, caller, description, options, head }: OpenedCall,
  question: Question,
  call: { given: Given; startedAt: number },
): LabelRow[] | null {
  const wantsRun = recordingWanted(options.record, 'classify', catalog);
  const loadedAt = Date.now();
  const answered = converse(host, role, { ...head, reading: { asked: question, wantsRun } });
  if (answered === null || !('labelled' in answered)) return null;
  const { scores, run, heldAs, loadNs } = answered.labelled;
  const by = { model: description, heldAs, loadNs };
  const { labels } = question;
  return finishLabels({ ...call, catalog, caller, by, labels, options, loadedAt }, { scores: scoresOf(scores), run });
}
