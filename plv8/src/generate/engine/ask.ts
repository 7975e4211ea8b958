/**
 * A call that is computed by the engine of its database. Who calls, limits, recording and the transaction are this backend's,
 * which loads no model for it. What the engine does not take, or cannot see, is computed here as ever: same bits, same errors.
 */
import { callerRole } from '../../backend/caller.ts';
import type { Catalog, ModelDescription } from '../../backend/catalog.ts';
import { nanoseconds } from '../../backend/durations.ts';
import { refuseUnrecorded } from '../../backend/limits.ts';
import { admit, currentCatalog, note, useDescription } from '../../backend/registry.ts';
import { engineHost, noticeOnce } from '../../db.ts';
import { parseJson, writeJson } from '../../format/ordered-json.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { Step } from '../../sampling/continuation.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../sampling/options.ts';
import type { ToolCall } from '../../sampling/tool-calls.ts';
import type { ChatMessage } from '../../tokenizer/chat-template.ts';
import { logAnswer, tellIgnored } from '../generate.ts';
import type { RunRecord } from '../record.ts';
import { buildIdOf, recordingWanted, recordWithTexts } from '../record.ts';
import type { Answer } from '../request.ts';
import { answer as answerHere } from '../request.ts';
import { chatPrompt, turnPrompt } from '../templated-prompt.ts';
import { answersIn, rememberWhole } from '../written-answers.ts';
import { converse, MAX_INPUT, mayAsk, requestHead } from './conversing.ts';
import type { AnswerRequest, EngineAnswer, EngineInput, RequestHead } from './messages.ts';
import type { EngineSteps, SentStep, SessionSteps } from './messages.ts';
import { sentStep, storedOf } from './messages.ts';

/** What is to be answered: a text, or a conversation and the JSON text that its caller wrote. */
export type Input = { prompt: string } | { messages: ChatMessage[]; json: string };

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

/** Characters of a value's JSON text; Infinity where it nests too deep to be written, which is for the session to say. */
function lengthOf(value: unknown): number {
  try {
    return writeJson(value).length;
  } catch (error) {
    if (error instanceof RangeError) return Infinity;
    throw error;
  }
}

/** Whether the engine computes such a call: what may take long before its first pass, or names cores, is the backend's. */
function isTaken(
  length: number,
  given: Record<string, unknown>,
  { ablate, template, numThread }: GenerateOptions,
  { limits }: Catalog,
): boolean {
  const isPlain = ablate === null && template === null && !numThread;
  return isPlain && length + lengthOf(given) <= MAX_INPUT && mayAsk(limits);
}

/** As isTaken; a tool to be called is refused where there is no conversation. */
function isTakenInput(
  input: Input,
  given: Record<string, unknown>,
  options: GenerateOptions,
  catalog: Catalog,
  grammar: Grammar | undefined,
): boolean {
  const besides = grammar === undefined ? 0 : lengthOf(grammar);
  if ('messages' in input) return isTaken(input.json.length + besides, given, options, catalog);
  return options.toolChoice === 'auto' && isTaken(input.prompt.length + besides, given, options, catalog);
}

function askEngine(
  kind: Kind,
  input: Input,
  model: string | null,
  given: Record<string, unknown> | null,
  { onStep, grammar }: More,
): Asked {
  const host = engineHost();
  if (host === null) return NOT_ASKED;
  const startedAt = Date.now();
  const catalog = currentCatalog();
  refuseUnrecorded(catalog.limits);
  const description = useDescription(catalog, model);
  const options = parseOptions(given ?? {}, description.defaultOptions, grammar);
  const caller = callerRole();
  const account = catalog.accounts.find(({ role }) => role === caller);
  if (!isTakenInput(input, given ?? {}, options, catalog, grammar) || account === undefined) return NOT_ASKED;
  const ignored = ignoredOptions(given ?? {});
  if (ignored.length > 0) noticeOnce(`options about hardware change nothing here: ${ignored.join(', ')}`);
  admit(catalog);
  note(catalog, description);
  const record = recordingWanted(options.record, kind, catalog);
  const stored = storedOf(description);
  const limits = [...catalog.limits];
  const request: AnswerRequest = {
    ...requestOf({ caller, model: description, given: given ?? {}, options, stored, limits }, catalog),
    grammar: grammar === undefined ? null : writeJson(grammar),
    input: sentInput(input, caller, description.digest),
    logprobs: record || options.logprobs || kind === 'stream',
    wantsSteps: onStep !== undefined,
    wantsRun: record,
    showsLogprobs: options.logprobs && (kind === 'complete' || kind === 'chat'),
  };
  const heard = converse(host, account.oid, request);
  if (heard === null || !('answer' in heard)) return { answer: null, admitted: true };
  for (const step of heard.answer.steps) onStep?.(step);
  const call = { kind, caller, description, given: given ?? {}, options, catalog, startedAt };
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
    options: writeJson({ ...given, seed: options.sampler.seed }),
    limits,
  });
}

function sentInput(input: Input, caller: string, digest: string): EngineInput {
  if ('prompt' in input) return input;
  // A template shows of an answer what its message has, or a part of it.
  const answers = input.messages.filter(({ role }) => role === 'assistant').map(({ content }) => content);
  return { messages: input.json, written: answersIn(answers, caller, digest) };
}

interface Call {
  kind: Kind;
  caller: string;
  description: RunRecord['model'];
  given: Record<string, unknown>;
  options: GenerateOptions;
  catalog: Catalog;
  startedAt: number; // milliseconds since 1970
}

/** Log and remember an answer, and record it where that is wanted. */
function finish(call: Call, answered: EngineAnswer): Answer {
  const { kind, caller, description, given, catalog, startedAt } = call;
  const { isWhole, logprobs, run, heldAs, loadNs, constraint } = answered;
  const generation = { ...answered.generation, calls: parseJson(answered.calls) as ToolCall[] };
  const options =
    constraint === null ? call.options : { ...call.options, constraint: parseJson(constraint) as Grammar };
  tellIgnored(answered);
  logAnswer(description.name, caller, generation);
  const ids = generation.tokens.map((token) => token.id);
  if (isWhole) rememberWhole({ caller, digest: description.digest, text: generation.text, ids });
  const totalNs = nanoseconds(Date.now() - startedAt);
  const runId =
    run === null
      ? null
      : recordWithTexts(
          {
            caller,
            kind,
            model: description,
            options: given,
            settings: options,
            heldAs,
            buildId: buildIdOf(catalog),
            parts: run.parts,
            generation,
            startedAt,
            loadNs,
            totalNs,
          },
          run.texts,
        );
  return { generation, modelName: description.name, loadNs, totalNs, runId, options, logprobs: () => logprobs ?? [] };
}
