/** generate, complete and chat for a backend that runs no JavaScript. */
import { useDescription } from '../../../backend/registry.ts';
import type { ModelDescription } from '../../../backend/catalog.ts';
import { jsonOf, optionsOf } from '../../../format/json-arguments.ts';
import type { GenerateOptions } from '../../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../../sampling/options.ts';
import { parseMessages } from '../../../tokenizer/messages.ts';
import { isRecordingWanted } from '../../record.ts';
import type { Answer } from '../../request.ts';
import { completion, nextMessage } from '../../results.ts';
import type { Written } from '../../written-answers.ts';
import { standsIn } from '../../written-answers.ts';
import { requestHead, seeded } from '../conversing.ts';
import { finish } from '../finish.ts';
import type { AnswerRequest, LastMessage } from '../messages.ts';
import { storedOf } from '../messages.ts';
import type { Input } from '../taken.ts';
import { isTakenInput, sentInput } from '../taken.ts';
import type { CallMade } from './served-call.ts';
import { recordedResult, ServedCall, valueResult } from './served-call.ts';

type Kind = 'generate' | 'complete' | 'chat';

function inputOf(kind: Kind, text: string | null): Input | null {
  if (text === null) return null;
  if (kind !== 'chat') return { prompt: text };
  const given = jsonOf(text);
  return given === null ? null : { messages: parseMessages(given), json: text };
}

function resultOf(kind: Kind, answer: Answer): string {
  if (kind === 'generate') return answer.generation.text;
  return kind === 'complete' ? JSON.stringify(completion(answer)) : nextMessage(answer);
}

export class ServedAnswer extends ServedCall {
  readonly request: AnswerRequest;

  private constructor(
    made: CallMade,
    private readonly kind: Kind,
    private readonly model: ModelDescription,
    private readonly given: Record<string, unknown>,
    private readonly options: GenerateOptions,
    input: Input,
  ) {
    super(made);
    const { call, catalog } = made;
    const record = isRecordingWanted(options.record, kind, catalog, () => call.record) && call.writes;
    const written = (texts: readonly string[]): [text: string, ids: number[]][] =>
      call.kept
        .map((text) => JSON.parse(text) as Written)
        .filter(
          ({ caller, digest, text }) => caller === this.caller && digest === model.digest && standsIn(text, texts),
        )
        .map(({ text, ids }) => [text, [...ids]]);
    this.request = {
      ...requestHead(catalog, model, {
        stored: storedOf(model),
        precision: options.precision,
        options: seeded(given, options),
        limits: [...catalog.limits],
      }),
      grammar: null,
      input: sentInput(input, written),
      logprobs: record || options.logprobs,
      wantsSteps: false,
      wantsRun: record,
      showsLogprobs: options.logprobs && kind !== 'generate',
    };
  }

  /** Null where the backend is to compute it. Throws what is wrong with the call, which the backend finds as well. */
  static of(
    made: CallMade,
    kind: Kind,
    text: string | null,
    model: string | null,
    json: string | null,
  ): ServedCall | null {
    const input = inputOf(kind, text);
    if (input === null) return null;
    const { catalog } = made;
    const description = useDescription(catalog, model);
    const given = optionsOf(json) ?? {};
    const options = parseOptions(given, description.defaultOptions);
    if (!isTakenInput(input, given, options, catalog) || ignoredOptions(given).length > 0) return null;
    return new ServedAnswer(made, kind, description, given, options, input);
  }

  protected resultOf(last: LastMessage): string[] | null {
    if (!('answer' in last)) return null;
    const { kind, model, given, options, request } = this;
    const { startedAt } = this.made;
    const about = { kind, caller: this.caller, model, given, options, buildId: request.build, startedAt };
    const answer = finish(about, last.answer, this.session);
    const result = resultOf(kind, answer);
    return answer.runId === null || kind === 'generate' ? valueResult(result) : recordedResult(result, '"run_id":');
  }
}
