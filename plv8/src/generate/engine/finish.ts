/** What is left to do with an answer of the engine's, on behalf of the session whose it is: it is logged, remembered and recorded. */
import type { ModelDescription } from '../../backend/catalog.ts';
import { nanoseconds } from '../../backend/durations.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import type { ToolCall } from '../../sampling/tool-calls.ts';
import type { CallSession } from '../call-session.ts';
import { THIS_SESSION } from '../call-session.ts';
import type { Generation } from '../generate.ts';
import { answerFacts, ignoredNotice } from '../generate.ts';
import type { Answer } from '../request.ts';
import type { EngineAnswer } from './messages.ts';

export interface AnsweredCall {
  kind: 'generate' | 'complete' | 'chat' | 'stream';
  caller: string;
  model: ModelDescription;
  /** The caller's options as given. */
  given: Record<string, unknown>;
  options: GenerateOptions;
  buildId: string | null;
  startedAt: number; // milliseconds since 1970
}

/** What was written for a caller; it is logged and remembered, and said what of its schema was passed over. */
export function received(
  { caller, model }: Pick<AnsweredCall, 'caller' | 'model'>,
  { generation: sent, calls, ignoredKeywords, isWhole }: EngineAnswer,
  session: CallSession,
): Generation {
  const generation = { ...sent, calls: parseJson(calls) as ToolCall[] };
  const ignored = ignoredNotice(ignoredKeywords);
  if (ignored !== null) session.notice(ignored);
  session.log('generate', answerFacts(model.name, caller, generation));
  const ids = generation.tokens.map((token) => token.id);
  if (isWhole) session.remember({ caller, digest: model.digest, text: generation.text, ids });
  return generation;
}

export function finish(call: AnsweredCall, answered: EngineAnswer, session = THIS_SESSION): Answer {
  const { kind, caller, model, given, buildId, startedAt } = call;
  const { logprobs, run, heldAs, loadNs, constraint } = answered;
  const generation = received(call, answered, session);
  const options =
    constraint === null ? call.options : { ...call.options, constraint: parseJson(constraint) as Grammar };
  const totalNs = nanoseconds(Date.now() - startedAt);
  const base = { caller, kind, model, options: given, settings: options, heldAs, buildId, generation, startedAt };
  const runId = run === null ? null : session.record({ ...base, parts: run.parts, loadNs, totalNs }, run.texts);
  return { generation, modelName: model.name, loadNs, totalNs, runId, options, logprobs: () => logprobs ?? [] };
}
