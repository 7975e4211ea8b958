/** One answer for a backend that runs no JavaScript: of generate and its like, complete, chat and generate_stream. */
import { useDescription } from '../../../backend/registry.ts';
import type { ModelDescription } from '../../../backend/catalog.ts';
import { optionsOf } from '../../../format/json-arguments.ts';
import { writeJson } from '../../../format/ordered-json.ts';
import type { Grammar } from '../../../sampling/constraint/grammar.ts';
import type { GenerateOptions } from '../../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../../sampling/options.ts';
import { isRecordingWanted } from '../../record.ts';
import type { Answer } from '../../request.ts';
import type { Written } from '../../written-answers.ts';
import { standsIn } from '../../written-answers.ts';
import { headOf, seeded } from '../conversing.ts';
import type { AnsweredCall } from '../finish.ts';
import { finish } from '../finish.ts';
import type { AnswerRequest, LastMessage, SentStep } from '../messages.ts';
import type { Input } from '../taken.ts';
import { isTakenInput, sentInput } from '../taken.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';

/** What is to be answered. */
export interface Asked {
  kind: AnsweredCall['kind'];
  input: Input;
  model: string | null;
  /** As the caller wrote them, a JSON text. */
  options: string | null;
  /** What the answer has to be where the function says it. */
  grammar?: Grammar;
  /** The result as the backend hears it. */
  resultOf(answer: Answer, steps: readonly SentStep[]): string[];
}

export class ServedAnswer extends ServedCall {
  readonly request: AnswerRequest;

  private constructor(
    made: CallMade,
    private readonly asked: Asked,
    private readonly model: ModelDescription,
    private readonly given: Record<string, unknown>,
    private readonly options: GenerateOptions,
  ) {
    super(made);
    const { call, catalog } = made;
    const { kind, input, grammar } = asked;
    const record = isRecordingWanted(options.record, kind, catalog, () => call.record) && call.writes;
    const written = (texts: readonly string[]): [text: string, ids: number[]][] =>
      call.kept
        .map((text) => JSON.parse(text) as Written)
        .filter(
          ({ caller, digest, text }) => caller === this.caller && digest === model.digest && standsIn(text, texts),
        )
        .map(({ text, ids }) => [text, [...ids]]);
    this.request = {
      ...headOf(catalog, model, options.precision, seeded(given, options)),
      grammar: grammar === undefined ? null : writeJson(grammar),
      input: sentInput(input, written),
      logprobs: record || options.logprobs || kind === 'stream',
      wantsSteps: kind === 'stream',
      wantsRun: record,
      showsLogprobs: options.logprobs && (kind === 'complete' || kind === 'chat'),
    };
  }

  /** Null where the backend is to compute it. Throws what is wrong with the call, which the backend finds as well. */
  static of(made: CallMade, asked: Asked): ServedCall | null {
    const { catalog } = made;
    const { input, grammar } = asked;
    const model = useDescription(catalog, asked.model);
    const given = optionsOf(asked.options) ?? {};
    const options = parseOptions(given, model.defaultOptions, grammar);
    if (!isTakenInput(input, given, options, catalog, grammar) || ignoredOptions(given).length > 0) return null;
    return new ServedAnswer(made, asked, model, given, options);
  }

  protected resultOf(last: LastMessage): string[] | null {
    if (!('answer' in last)) return null;
    const { asked, model, given, options, request } = this;
    const { startedAt } = this.made;
    const about = { kind: asked.kind, caller: this.caller, model, given, options, buildId: request.build, startedAt };
    return asked.resultOf(finish(about, last.answer, this.session), last.answer.steps);
  }
}
