/**
 * A call that is computed by the engine of its database. Who calls, limits, recording and the transaction are this backend's,
 * which loads no model for it. What the engine does not take, or cannot see, is computed here as ever: same bits, same errors.
 */
import type { Catalog, ModelDescription } from '../../backend/catalog.ts';
import { engineHost } from '../../db.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { Step } from '../../sampling/continuation.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { buildIdOf, recordingWanted } from '../record.ts';
import type { Answer } from '../request.ts';
import { answer as answerHere } from '../request.ts';
import { chatPrompt, turnPrompt } from '../templated-prompt.ts';
import { answersIn } from '../written-answers.ts';
import { converse, requestHead, seeded } from './conversing.ts';
import { finish } from './finish.ts';
import type { AnswerRequest, EngineSteps, RequestHead, SentStep, SessionSteps } from './messages.ts';
import { sentStep } from './messages.ts';
import { openCall } from './opening.ts';
import type { Input } from './taken.ts';
import { isTaken, isTakenInput, sentInput } from './taken.ts';

/** A session as it was opened, whose answer goes on. */
export interface OpenedSession {
  readonly caller: string;
  readonly model: ModelDescription;
  /** The caller's options as given. */
  readonly given: Record<string, unknown>;
  readonly options: GenerateOptions;
  /** What `storedOf` said of its model, and limits of its caller, when it was opened. */
  readonly stored: string;
  readonly limits: AnswerRequest['limits'];
}

type Kind = 'generate' | 'complete' | 'chat' | 'stream';

interface More {
  /** Sees the steps of the answer, which may all come at the end. */
  onStep?: (step: SentStep) => void;
  /** What the answer has to be. */
  grammar?: Grammar;
}

/** The answer to a call, of the engine where that takes it. */
export function answer(
  kind: Kind,
  input: Input,
  model: string | null,
  given: Record<string, unknown> | null,
  more: More = {},
): Answer {
  const { answer: known, admitted } = askEngine(kind, input, model, given, more);
  if (known !== null) return known;
  const { onStep, grammar } = more;
  return answerHere(
    kind,
    model,
    given,
    (prepared, options) =>
      'prompt' in input ? turnPrompt(prepared, input.prompt, options) : chatPrompt(prepared, input.messages, options),
    {
      admitted,
      ...(grammar === undefined ? {} : { grammar }),
      ...(onStep === undefined ? {} : { onStep: (step: Step) => onStep(sentStep(step)) }),
    },
  );
}

interface Asked {
  /** Null where the call is to be computed here. */
  answer: Answer | null;
  /** Whether it was admitted, and so counted, already. */
  admitted: boolean;
}

const NOT_ASKED: Asked = { answer: null, admitted: false };

function askEngine(
  kind: Kind,
  input: Input,
  model: string | null,
  given: Record<string, unknown> | null,
  { onStep, grammar }: More,
): Asked {
  const startedAt = Date.now();
  const own = given ?? {};
  const isTaken = (options: GenerateOptions, catalog: Catalog): boolean =>
    isTakenInput(input, own, options, catalog, grammar);
  const opened = openCall(model, own, isTaken, grammar);
  if (opened === null) return NOT_ASKED;
  const { host, role, catalog, caller, description, options, head } = opened;
  const record = recordingWanted(options.record, kind, catalog);
  const request: AnswerRequest = {
    ...head,
    options: seeded(own, options),
    grammar: grammar === undefined ? null : writeJson(grammar),
    input: sentInput(input, (texts) => answersIn(texts, caller, description.digest)),
    logprobs: record || options.logprobs || kind === 'stream',
    wantsSteps: onStep !== undefined,
    wantsRun: record,
    showsLogprobs: options.logprobs && (kind === 'complete' || kind === 'chat'),
  };
  const heard = converse(host, role, request);
  if (heard === null || !('answer' in heard)) return { answer: null, admitted: true };
  for (const step of heard.answer.steps) onStep?.(step);
  const buildId = buildIdOf(catalog);
  const call = { kind, caller, model: description, given: own, options, buildId, startedAt };
  return { answer: finish(call, heard.answer), admitted: true };
}

/** The next steps of a session; null where they are to be computed here. Admitted was the call before. */
export function askForSteps(session: OpenedSession, steps: SessionSteps, catalog: Catalog): EngineSteps | null {
  const host = engineHost();
  const account = catalog.accounts.find(({ role }) => role === session.caller);
  const length = steps.promptIds.length + steps.written.length + (steps.constraint?.length ?? 0);
  const { given, options } = session;
  if (host === null || account === undefined || !isTaken(length, given, options, catalog)) return null;
  const request: AnswerRequest = {
    ...requestOf(session, catalog),
    grammar: null,
    input: steps,
    logprobs: true,
    wantsSteps: false,
    wantsRun: false,
    showsLogprobs: false,
  };
  const heard = converse(host, account.oid, request);
  return heard !== null && 'steps' in heard ? heard.steps : null;
}

/** What every request says. */
function requestOf({ model, given, options, stored, limits }: OpenedSession, catalog: Catalog): RequestHead {
  return requestHead(catalog, model, {
    stored,
    precision: options.precision,
    options: seeded(given, options),
    limits,
  });
}
