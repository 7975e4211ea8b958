/** classify by what a model would answer for a backend that runs no JavaScript. */
import type { ModelDescription } from '../../../backend/catalog.ts';
import type { GenerateOptions } from '../../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../../sampling/options.ts';
import type { LabelRow, OwnOptions, Question } from '../../classify.ts';
import { finishLabels, questionOf } from '../../classify.ts';
import { isRecordingWanted } from '../../record.ts';
import { scoresOf } from '../ask-reading.ts';
import type { LastMessage, ReadingRequest } from '../messages.ts';
import { readingLength } from '../messages.ts';
import { isTakenPlain } from '../taken.ts';
import { readingRequest } from '../reading-request.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';
import { rowsResult } from './values.ts';

export function labelRows(rows: readonly LabelRow[]): string[] {
  return rowsResult(rows.map(({ label, probability }) => [label, probability]));
}

/** What is asked. */
interface Labelling {
  input: string;
  labels: readonly string[];
  model: ModelDescription;
  own: OwnOptions;
  /** The caller's options as given. */
  given: Record<string, unknown>;
}

export class ServedLabels extends ServedCall {
  private constructor(
    made: CallMade,
    readonly request: ReadingRequest,
    private readonly model: ModelDescription,
    private readonly question: Question,
    private readonly given: Record<string, unknown>,
    private readonly options: GenerateOptions,
  ) {
    super(made);
  }

  static of(made: CallMade, asked: Labelling): ServedCall | null {
    const { input, labels, model, own, given } = asked;
    const { call, catalog } = made;
    const { rest } = own;
    const question = questionOf(input, labels, own);
    const options = parseOptions(rest, model.defaultOptions);
    const length = readingLength({ asked: question, wantsRun: false });
    if (!isTakenPlain(length, rest)(options, catalog) || ignoredOptions(rest).length > 0) return null;
    const wantsRun = isRecordingWanted(options.record, 'classify', catalog, () => call.record) && call.writes;
    const request = readingRequest(catalog, model, rest, options.precision, { asked: question, wantsRun });
    return request === null ? null : new ServedLabels(made, request, model, question, given, options);
  }

  protected resultOf(last: LastMessage): string[] | null {
    if (!('labelled' in last)) return null;
    const { scores, run, heldAs, loadNs } = last.labelled;
    const { catalog, startedAt } = this.made;
    const { caller, model, given, options, session } = this;
    const { labels } = this.question;
    const by = { model, heldAs, loadNs };
    const call = { catalog, caller, by, labels, given, options, startedAt, loadedAt: startedAt };
    return labelRows(finishLabels(call, { scores: scoresOf(scores), run }, session));
  }
}
