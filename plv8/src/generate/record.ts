/** Recording of generations in hartonomous.runs and run_tokens. */
import { query } from '../db.ts';
import { parseJson, writeJson } from '../format/ordered-json.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { Utf8Stream } from '../sampling/utf8-stream.ts';
import { callerRole, mayWrite } from '../backend/caller.ts';
import type { Catalog, ModelDescription } from '../backend/catalog.ts';
import { nanoseconds } from '../backend/durations.ts';
import { mustRecord, refuseUnrecorded } from '../backend/limits.ts';
import type { UsedModel } from '../backend/registry.ts';
import type { Grammar } from '../sampling/constraint/grammar.ts';
import type { GeneratedToken } from '../sampling/continuation.ts';
import type { Generation } from './generate.ts';
import type { PromptPart } from './prompt-parts.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import { StopMatcher } from '../sampling/stop.ts';

export interface RunRecord {
  caller: string;
  kind: 'generate' | 'complete' | 'chat' | 'stream' | 'logits' | 'classify';
  model: ModelDescription;
  /** The caller's options as given. */
  options: Record<string, unknown>;
  /** What they come to. */
  settings: GenerateOptions;
  /** How the matrices are held in memory. */
  heldAs: string;
  buildId: string | null;
  /** What the answer was chosen among by classify. */
  labels?: readonly { label: string; probability: number }[];
  /** Whose words the prompt is; null where that is not known. */
  parts: readonly PromptPart[] | null;
  generation: Generation;
  /** When the call began, milliseconds since 1970. */
  startedAt: number;
  loadNs: number;
  totalNs: number;
}

/**
 * Whether this call is to be recorded: its option `record`, else the session setting hartonomous.record, else the
 * stored setting `record`, else whether it is a chat; limit `recording` decides before all of them; never where the transaction may not write.
 * Throws where it has to be and cannot.
 */
export function recordingWanted(option: boolean | null, kind: RunRecord['kind'], catalog: Catalog): boolean {
  const ofSession = (): unknown => query(`select current_setting('hartonomous.record', true) as value`)[0]?.value;
  const wanted = isRecordingWanted(option, kind, catalog, ofSession);
  refuseUnrecorded(catalog.limits);
  return wanted && mayWrite();
}

/** The same of a transaction that may write; `ofSession` gives the session's setting. */
export function isRecordingWanted(
  option: boolean | null,
  kind: RunRecord['kind'],
  { settings, limits }: Pick<Catalog, 'settings' | 'limits'>,
  ofSession: () => unknown,
): boolean {
  const limit = limits.get('recording');
  if (limit !== undefined) return limit > 0;
  if (option !== null) return option;
  const session = ofSession();
  if (typeof session === 'string' && session !== '') return ['on', 'true', '1', 'yes'].includes(session);
  const stored = settings.get('record');
  return typeof stored === 'boolean' ? stored : kind === 'chat';
}

/** Content hash of the installed functions. */
export function buildIdOf(catalog: Catalog): string | null {
  const value = catalog.settings.get('build_id');
  return typeof value === 'string' ? value : null;
}

/** What an answer had to be, and the tokens it might take: they decide together which tokens were allowed. */
export interface RecordedConstraint {
  grammar: Grammar;
  budget: number;
}

/** A constraint as jsonb can keep it: schemas as text, whose order decides as well. */
function storedConstraint(grammar: Grammar, budget: number): object {
  const hasSchemas = grammar.kind === 'json_schema' || grammar.kind === 'tool_call';
  return { grammar: hasSchemas ? { kind: grammar.kind, text: writeJson(grammar) } : grammar, budget };
}

/** What `storedConstraint` made. */
export function constraintOf(stored: unknown): RecordedConstraint | null {
  if (stored === undefined || stored === null) return null;
  const { grammar, budget } = stored as { grammar: Grammar | { kind: string; text: string }; budget: number };
  if (grammar.kind !== 'json_schema' && grammar.kind !== 'tool_call') return { grammar: grammar as Grammar, budget };
  return { grammar: parseJson((grammar as { text: string }).text) as Grammar, budget };
}

/** Everything that decides which token is drawn from given logits, under the names of options; `constraint` where there is one. */
function samplingOf(
  { sampler, precision, constraint, ablate, stop }: GenerateOptions,
  budget: number,
): Record<string, unknown> {
  return {
    ...(constraint === null ? {} : { constraint: storedConstraint(constraint, budget) }),
    ...(ablate === null ? {} : { ablate }),
    ...(stop.length === 0 ? {} : { stop }),
    temperature: sampler.temperature,
    top_k: sampler.topK,
    top_p: sampler.topP,
    min_p: sampler.minP,
    typical_p: sampler.typicalP,
    repeat_penalty: sampler.repeatPenalty,
    repeat_last_n: sampler.repeatLastN,
    presence_penalty: sampler.presencePenalty,
    frequency_penalty: sampler.frequencyPenalty,
    logit_bias: Object.fromEntries(sampler.logitBias),
    seed: sampler.seed,
    precision,
  };
}

/** The text that becomes certain with each token, whole characters only; control tokens by name where they are `shown`. */
function textsOf(ids: readonly number[], tokenizer: Tokenizer, shown: boolean): string[] {
  const stream = new Utf8Stream();
  const texts = ids.map((id) =>
    shown && tokenizer.isControl(id) ? stream.flush() + tokenizer.tokenText(id) : stream.push(tokenizer.tokenBytes(id)),
  );
  if (texts.length > 0) texts[texts.length - 1]! += stream.flush();
  return texts.map((text) => text.replaceAll('\0', '\uFFFD'));
}

/** Texts of written tokens as the caller got them: none of a stop string that ended the answer, nor of what follows it. */
function shownTexts(
  texts: readonly string[],
  { doneReason, ended }: Pick<Generation, 'doneReason' | 'ended'>,
  stops: readonly string[],
): string[] {
  if (stops.length === 0 || doneReason !== 'stop' || ended !== null) return [...texts];
  let left = new StopMatcher(stops).push(texts.join('')).length;
  return texts.map((text) => {
    const shown = text.slice(0, left);
    left -= shown.length;
    return shown;
  });
}

/** Texts of a run's tokens, prompt and answer: each by itself, and what it made certain. */
export interface RunTexts {
  tokens: string[];
  texts: string[];
}

/** What the texts of a run are made of. */
type Written = Pick<Generation, 'promptIds' | 'doneReason' | 'ended'> & { tokens: readonly { id: number }[] };

export function runTexts(generation: Written, stops: readonly string[], tokenizer: Tokenizer): RunTexts {
  const { promptIds } = generation;
  const outputIds = generation.tokens.map((token) => token.id);
  return {
    // Text cannot hold NUL; a person reads U+2400 for it.
    tokens: [...promptIds, ...outputIds].map((id) => tokenizer.tokenText(id).replaceAll('\0', '\u2400')),
    texts: [
      ...textsOf(promptIds, tokenizer, true),
      ...shownTexts(textsOf(outputIds, tokenizer, false), generation, stops),
    ],
  };
}

/** Insert the run and its tokens; the run's id. Its model is named, not referred to: that would lock the row of the model. */
export function recordRun(run: RunRecord, tokenizer: Tokenizer): number {
  return recordWithTexts(run, runTexts(run.generation, run.settings.stop, tokenizer));
}

/** As recordRun, where the texts of the tokens are known. */
export function recordWithTexts(run: RunRecord, texts: RunTexts): number {
  return Number(query(`${RECORD_RUN}::float8 as id`, [storedRun(run, texts)])[0]?.id);
}

/** Records what `storedRun` made, in the transaction of the call; the run's id. */
export const RECORD_RUN = 'select hartonomous._record_run($1::text)';

/** An array of PostgreSQL's, as a text. */
const arrayText = (numbers: readonly (number | null)[]): string => `{${numbers.map((each) => each ?? 'null').join()}}`;

/** A run and its tokens, as `_record_run` takes them: a JSON text. */
export function storedRun(run: RunRecord, { tokens, texts }: RunTexts): string {
  const { generation } = run;
  const { promptIds, ended } = generation;
  const outputIds = generation.tokens.map((token) => token.id);
  const ofPrompt = promptIds.map(() => null);
  return JSON.stringify({
    caller: run.caller,
    kind: run.kind,
    model_name: run.model.name,
    model_digest: run.model.digest,
    options: writeJson(run.options),
    seed: run.settings.sampler.seed,
    prompt_ids: arrayText(promptIds),
    output_ids: arrayText(outputIds),
    done_reason: generation.doneReason,
    prompt_eval_count: generation.promptEvalCount,
    eval_count: outputIds.length,
    load_ns: run.loadNs,
    prompt_eval_ns: generation.promptEvalNs,
    eval_ns: generation.evalNs,
    total_ns: run.totalNs,
    sampling: JSON.stringify({
      ...samplingOf(run.settings, generation.budget),
      ...(run.labels === undefined ? {} : { labels: run.labels }),
    }),
    held_as: run.heldAs,
    build_id: run.buildId,
    started_ms: run.startedAt,
    prompt_parts: run.parts === null ? null : JSON.stringify(run.parts),
    end_id: ended?.id ?? null,
    end_logit: ended === null ? null : String(ended.logit),
    tokens,
    texts,
    logprobs: arrayText([...ofPrompt, ...generation.tokens.map((token) => token.logprob)]),
    logits: arrayText([...ofPrompt, ...generation.tokens.map((token) => token.logit)]),
  });
}

/** What a call that writes no text is recorded with. */
export interface Reading {
  /** The caller's options as given. */
  given: Record<string, unknown>;
  settings: GenerateOptions;
  promptIds: number[];
  evaluated: number;
  startedAt: number; // milliseconds since 1970
}

/**
 * Where every call has to be recorded, so is one that only reads: whoever has the logits writes a text of their own. Calls
 * that are STABLE (embeddings and the like) cannot leave a row.
 */
export function recordReading(used: UsedModel, catalog: Catalog, reading: Reading): void {
  if (!mustRecord(catalog.limits)) return;
  refuseUnrecorded(catalog.limits);
  recordRun(readingRun(readWith(used), catalog, { caller: callerRole(), kind: 'logits' }, reading), used.tokenizer);
}

/** A label as the answer of a run, as if nothing but labels could have been drawn. */
export interface LabelReading extends Reading {
  parts: readonly PromptPart[] | null;
  /** Whether the prompt ends where the labels begin; else it holds what all of them begin with. */
  isWhole: boolean;
  labels: readonly { label: string; probability: number }[];
  /** The likeliest label's. */
  tokens: Pick<GeneratedToken, 'id' | 'logit' | 'logprob'>[];
}

/** Draws from the model's own probabilities. */
const PLAIN_DRAW = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repeatPenalty: 1,
  repeatLastN: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map<number, number>(),
} as const;

/** More than any label has tokens. */
const LABEL_BUDGET = 1_000_000;

/** The model that a call reads with. */
export type ReadWith = Pick<RunRecord, 'model' | 'heldAs' | 'loadNs'>;

export function readWith({ entry, loadNs }: UsedModel): ReadWith {
  return { model: entry.description, heldAs: entry.model.precision, loadNs };
}

/** What is recorded of a call whose answer is a label. */
export function labelRun(by: ReadWith, catalog: Catalog, caller: string, reading: LabelReading): RunRecord {
  const { settings, labels, isWhole } = reading;
  const constraint = isWhole ? ({ kind: 'choice', choices: labels.map(({ label }) => label) } as const) : null;
  const sampler = { ...settings.sampler, ...PLAIN_DRAW };
  const read = { ...reading, settings: { ...settings, constraint, sampler } };
  return readingRun(by, catalog, { caller, kind: 'classify' }, read, reading);
}

function readingRun(
  by: ReadWith,
  catalog: Catalog,
  call: Pick<RunRecord, 'caller' | 'kind'>,
  { given, settings, promptIds, evaluated, startedAt }: Reading,
  label?: LabelReading,
): RunRecord {
  const totalNs = nanoseconds(Date.now() - startedAt);
  return {
    ...by,
    ...call,
    ...(label === undefined ? {} : { labels: label.labels }),
    options: given,
    settings,
    buildId: buildIdOf(catalog),
    parts: label?.parts ?? null,
    generation: {
      text: '',
      thinking: '',
      calls: [],
      doneReason: 'stop',
      promptIds,
      tokens: (label?.tokens ?? []).map((token) => ({ ...token, topLogprobs: [] })),
      ended: null,
      budget: LABEL_BUDGET,
      promptEvalCount: evaluated,
      promptEvalNs: totalNs - by.loadNs,
      evalNs: 0,
    },
    startedAt,
    totalNs,
  };
}
