/**
 * A call whose backend runs no JavaScript: the engine does what the function would do there, for who called it, and says what is
 * left for that backend (host/src/front/call.cc). Its limits are looked at and its tokens counted here. Whatever is out of the
 * ordinary the backend computes with its function, which has the errors, too.
 */
import type { Catalog, ModelDescription } from '../../backend/catalog.ts';
import { charge, countCall, uncountCall } from '../../backend/hourly-counts.ts';
import type { CallerLimits } from '../../backend/limits.ts';
import { mustRecord, readLimitsOf } from '../../backend/limits.ts';
import { useDescription } from '../../backend/registry.ts';
import type { CounterStore } from '../../db.ts';
import { logLine } from '../../db.ts';
import { jsonOf, optionsOf } from '../../format/json-arguments.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../sampling/options.ts';
import { parseMessages } from '../../tokenizer/messages.ts';
import { buildIdOf, isRecordingWanted, RECORD_RUN, storedRun } from '../record.ts';
import type { Answer } from '../request.ts';
import { completion, nextMessage } from '../results.ts';
import type { Written } from '../written-answers.ts';
import { standsIn } from '../written-answers.ts';
import { requestHead, seeded } from './conversing.ts';
import { finish } from './finish.ts';
import type { AnswerRequest, EngineAnswer, SessionCall } from './messages.ts';
import { storedOf } from './messages.ts';
import type { Input } from './taken.ts';
import { isTakenInput, sentInput } from './taken.ts';

/** Between fields of a message. No text of PostgreSQL's has it. */
const NEXT = '\0';

/** Has the backend compute the call. */
const NOTHING = 'nothing';

/** Stands where the run's id will: no run has it. */
const RUN_ID = Number.MAX_SAFE_INTEGER;

const field = (text: string): string => text.replaceAll(NEXT, '\uFFFD');
const message = (...fields: string[]): string => fields.map(field).join(NEXT);

function inputOf({ call, args: [text] }: SessionCall): Input | null {
  if (text === null || text === undefined) return null;
  if (call !== 'chat') return { prompt: text };
  const given = jsonOf(text);
  return given === null ? null : { messages: parseMessages(given), json: text };
}

function resultOf(call: SessionCall['call'], answer: Answer): string {
  if (call === 'generate') return answer.generation.text;
  return call === 'complete' ? JSON.stringify(completion(answer)) : nextMessage(answer);
}

export class ServedCall {
  readonly request: AnswerRequest;
  private charged = 0;

  private constructor(
    private readonly call: SessionCall,
    private readonly limits: CallerLimits,
    private readonly model: ModelDescription,
    private readonly given: Record<string, unknown>,
    private readonly options: GenerateOptions,
    private readonly startedAt: number,
    private readonly store: CounterStore,
    catalog: Catalog,
    input: Input,
  ) {
    const record = isRecordingWanted(options.record, call.call, catalog, () => call.record) && call.writes;
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
        limits: [...limits.limits],
      }),
      grammar: null,
      input: sentInput(input, written),
      logprobs: record || options.logprobs,
      wantsSteps: false,
      wantsRun: record,
      showsLogprobs: options.logprobs && call.call !== 'generate',
    };
    countCall(limits.accounts, store);
  }

  /** Counts with `store`. Null where the backend is to compute it. Throws what is wrong with the call, which the backend finds as well. */
  static of(catalog: Catalog, call: SessionCall, startedAt: number, store: CounterStore | null): ServedCall | null {
    const input = inputOf(call);
    if (input === null || call.build !== buildIdOf(catalog) || store === null) return null;
    const limits = readLimitsOf(call.role, call.login);
    if (mustRecord(limits.limits) || !limits.accounts.some(({ oid }) => oid === call.role)) return null;
    const own = { ...catalog, ...limits };
    const [, name = null, optionsText = null] = call.args;
    const model = useDescription(own, name);
    const given = optionsOf(optionsText) ?? {};
    const options = parseOptions(given, model.defaultOptions);
    if (!isTakenInput(input, given, options, own) || ignoredOptions(given).length > 0) return null;
    return new ServedCall(call, limits, model, given, options, startedAt, store, own, input);
  }

  private get caller(): string {
    return this.limits.accounts.find(({ oid }) => oid === this.call.role)!.role;
  }

  /** So many tokens are about to be evaluated. */
  charge(tokens: number): void {
    charge(this.limits.accounts, tokens, this.store);
    this.charged += tokens;
  }

  /** What the backend hears where it is to compute the call, which counts there. */
  leave(): string[] {
    this.charge(-this.charged);
    uncountCall(this.limits.accounts, this.store);
    return [NOTHING];
  }

  /** What the backend hears of an answer. One that cannot be told, as options that nest too deep to be written, it computes itself. */
  answer(answered: EngineAnswer): string[] {
    try {
      return this.messagesOf(answered);
    } catch {
      return this.leave();
    }
  }

  private messagesOf(answered: EngineAnswer): string[] {
    const { call, model, given, options, startedAt, request } = this;
    const heard: string[] = [];
    const about = { kind: call.call, caller: this.caller, model, given, options, buildId: request.build, startedAt };
    const answer = finish(about, answered, {
      notice: (text) => heard.push(message('notice', text)),
      log: (event, facts) => heard.push(message('log', logLine(event, facts))),
      remember: (written) => heard.push(message('keep', JSON.stringify(written))),
      record: (run, texts) => {
        heard.push(message('run', RECORD_RUN, storedRun(run, texts)));
        return RUN_ID;
      },
    });
    const result = resultOf(call.call, answer);
    if (answer.runId === null || call.call === 'generate') return [...heard, message('answer', result)];
    const before = `"run_id":`;
    const at = result.lastIndexOf(before + RUN_ID) + before.length;
    return [...heard, message('answer', result.slice(0, at), result.slice(at + String(RUN_ID).length))];
  }

  static readonly nothing = [NOTHING];
}
