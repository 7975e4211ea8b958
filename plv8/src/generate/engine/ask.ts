/**
 * A call that is computed by the engine of its database. Who calls, limits, recording and the transaction are this backend's,
 * which loads no model for it. What the engine does not take, or cannot see, is computed here as ever: same bits, same errors.
 */
import { callerRole } from '../../backend/caller.ts';
import type { Catalog } from '../../backend/catalog.ts';
import { nanoseconds } from '../../backend/durations.ts';
import { chargeTokens } from '../../backend/hourly-counts.ts';
import { noteTokens } from '../../backend/call-note.ts';
import { refuseUnrecorded } from '../../backend/limits.ts';
import { admit, currentCatalog, note, useDescription } from '../../backend/registry.ts';
import { engineHost, noticeOnce } from '../../db.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../sampling/options.ts';
import { logAnswer } from '../generate.ts';
import type { RunRecord } from '../record.ts';
import { buildIdOf, recordingWanted, recordWithTexts } from '../record.ts';
import { rememberWhole } from '../written-answers.ts';
import type { EngineAnswer, EngineMessage, EngineRequest, SentError } from './messages.ts';
import { receivedError, storedOf } from './messages.ts';

export interface Asked {
  /** Null where the call is to be computed here. */
  answer: EngineAnswer | null;
  /** Whether it was admitted, and so counted, already. */
  admitted: boolean;
}

const NOT_ASKED: Asked = { answer: null, admitted: false };

/** Limits on what a backend holds: an engine has none of a role's. */
const OF_BACKENDS = ['max_model_bytes', 'max_loaded_models'];

/** Characters of a prompt that the engine takes; a longer one would hold up others before its first pass. */
const MAX_PROMPT = 1_000_000;

/** Whether the engine computes such a call: what may take long before its first pass, or names cores, is the backend's. */
function isTaken(prompt: string, options: GenerateOptions, { limits }: Catalog): boolean {
  const { constraint, ablate, template, toolChoice, numThread } = options;
  const isPlain = constraint === null && ablate === null && template === null && toolChoice === 'auto' && !numThread;
  return isPlain && prompt.length <= MAX_PROMPT && OF_BACKENDS.every((name) => !limits.has(name));
}

/** Ask the engine to write what follows a prompt. */
export function askEngine(
  kind: 'generate' | 'stream',
  prompt: string,
  model: string | null,
  given: Record<string, unknown> | null,
): Asked {
  const host = engineHost();
  if (host === null) return NOT_ASKED;
  const startedAt = Date.now();
  const catalog = currentCatalog();
  refuseUnrecorded(catalog.limits);
  const description = useDescription(catalog, model);
  const options = parseOptions(given ?? {}, description.defaultOptions);
  const caller = callerRole();
  const account = catalog.accounts.find(({ role }) => role === caller);
  if (!isTaken(prompt, options, catalog) || account === undefined) return NOT_ASKED;
  const ignored = ignoredOptions(given ?? {});
  if (ignored.length > 0) noticeOnce(`options about hardware change nothing here: ${ignored.join(', ')}`);
  admit(catalog);
  note(catalog, description);
  const record = recordingWanted(options.record, kind, catalog);
  const { id, name, digest, unloadGeneration } = description;
  const request: EngineRequest = {
    build: buildIdOf(catalog),
    model: { id, name, digest, unloadGeneration },
    stored: storedOf(description),
    precision: options.precision,
    options: writeJson({ ...given, seed: options.sampler.seed }),
    prompt,
    limits: [...catalog.limits],
    logprobs: record || options.logprobs || kind === 'stream',
    wantsSteps: kind === 'stream',
    wantsRun: record,
  };
  const heard: { answer: EngineAnswer | null; failure: SentError | null } = { answer: null, failure: null };
  const hear = (text: string): boolean => {
    const message = JSON.parse(text) as EngineMessage;
    if ('rows' in message) {
      chargeTokens(message.rows);
      noteTokens(message.rows);
      return false;
    }
    if ('error' in message) heard.failure = message.error;
    else if ('answer' in message) heard.answer = message.answer;
    return true;
  };
  const end = host.ask(account.oid, JSON.stringify(request), hear, id);
  if (end !== 'done') return { answer: null, admitted: true };
  const { answer, failure } = heard;
  if (failure !== null) throw receivedError(failure);
  if (answer !== null) finish({ kind, caller, description, given: given ?? {}, options, catalog, startedAt }, answer);
  return { answer, admitted: true };
}

interface Call {
  kind: RunRecord['kind'];
  caller: string;
  description: RunRecord['model'];
  given: Record<string, unknown>;
  options: GenerateOptions;
  catalog: Catalog;
  startedAt: number; // milliseconds since 1970
}

/** Log and remember an answer, and record it where that is wanted. */
function finish(call: Call, { generation, isWhole, run, heldAs, loadNs }: EngineAnswer): void {
  const { kind, caller, description, given, options, catalog, startedAt } = call;
  logAnswer(description.name, caller, generation);
  const ids = generation.tokens.map((token) => token.id);
  if (isWhole) rememberWhole({ caller, digest: description.digest, text: generation.text, ids });
  if (run === null) return;
  recordWithTexts(
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
      totalNs: nanoseconds(Date.now() - startedAt),
    },
    run.texts,
  );
}
