/** What a caller and the engine of its database tell each other, as JSON. */
import type { SqlState } from '../../errors.ts';
import { HartonomousError, SQLSTATE } from '../../errors.ts';
import type { ModelDescription, ModelRow } from '../../backend/catalog.ts';
import type { OnError } from '../../backend/on-error.ts';
import type { EmbeddingCounts } from '../../embed/embedding.ts';
import type { Precision } from '../../model/model.ts';
import type { GeneratedToken, Step } from '../../sampling/continuation.ts';
import type { LabelScores, Question } from '../classify.ts';
import type { Generation } from '../generate.ts';
import type { PromptPart } from '../prompt-parts.ts';
import type { RunTexts } from '../record.ts';

/** What is to be answered: a text, a conversation, or the prompt of a session whose answer goes on. */
export type EngineInput =
  | { prompt: string }
  | SessionSteps
  /** As its caller wrote it, a JSON text, and the answers in it that were written for the caller, with their ids. */
  | { messages: string; written: [text: string, ids: number[]][] };

/** How far the answer of a session is, and how many steps more are wanted at most. */
export interface SessionSteps {
  promptIds: readonly number[];
  written: readonly number[];
  most: number;
  /** What its answer has to be, its tools included, a JSON text; null for any text. */
  constraint: string | null;
}

export interface RequestHead {
  /** Build of the functions that the caller sees; null where that is not known. */
  build: string | null;
  /** The model as the caller sees it. */
  model: ModelRow;
  /** What `storedOf` says of it. */
  stored: string;
  precision: Precision;
  /** The caller's options, for an answer with the seed, a JSON text. */
  options: string;
  /** Limits that hold for the caller. */
  limits: [name: string, value: number][];
}

export interface AnswerRequest extends RequestHead {
  /** What the answer has to be where a function says it, a JSON text. */
  grammar: string | null;
  input: EngineInput;
  logprobs: boolean;
  /** Whether the answer is to come with each of its steps, with what a recorded run has. */
  wantsSteps: boolean;
  wantsRun: boolean;
  /** Whether the log-probabilities are to be shown. */
  showsLogprobs: boolean;
}

/** A call of a function by a backend that runs no JavaScript (host/src/front/call.cc), and what its session decides. */
export interface SessionCall {
  call:
    | 'generate'
    | 'complete'
    | 'chat'
    | 'generateStream'
    | 'generateJson'
    | 'generateRegex'
    | 'generateGrammar'
    | 'generateChoice'
    | 'generateBatch'
    | 'embed'
    | 'embedBatch'
    | 'similarity'
    | 'rerank'
    | 'classify';
  build: string;
  /** Arguments of the function: texts, JSON as a text, arrays of texts. */
  args: (string | null | (string | null)[])[];
  /** oid of the role on whose behalf, and of the session's user. */
  role: number;
  login: number;
  /** Whether its transaction may write. */
  writes: boolean;
  /** Its setting hartonomous.record. */
  record: string | null;
  /** Answers that it was told to keep, as texts in JSON. */
  kept: string[];
}

/** What is to be read and not answered. */
export type Reading =
  /** Texts to be embedded; whether the first is a query to the others. */
  | { embed: readonly (string | null)[]; ranked: boolean }
  /** Documents that a classifier scores for a query. */
  | { query: string; documents: readonly (string | null)[] }
  /** Labels that a classifier knows, or ranks for a text as answers to `question`. */
  | { text: string; labels: readonly string[]; question: string | null }
  /** Labels that may be the model's answer. */
  | { asked: Question; wantsRun: boolean };

/** Characters as which each text counts besides its own: it takes room where it is empty or null, too. */
const TEXT_LENGTH = 16;

/** What is read, and how many characters stand beside each of it. */
function textsOf(reading: Reading): [texts: readonly (string | null)[], each: number] {
  if ('embed' in reading) return [reading.embed, 0];
  if ('documents' in reading) return [reading.documents, reading.query.length];
  if ('text' in reading) return [reading.labels, reading.text.length + (reading.question?.length ?? 0)];
  const { input, labels, instruction } = reading.asked;
  return [labels, input.length + instruction.length];
}

/** About as many characters as there are to be read; a pair has its query, too. */
export function readingLength(reading: Reading): number {
  return lengthOfTexts(...textsOf(reading));
}

export function lengthOfTexts(texts: readonly (string | null)[], each = 0): number {
  return texts.reduce((sum, text) => sum + TEXT_LENGTH + (text === null ? 0 : text.length + each), each);
}

export interface ReadingRequest extends RequestHead {
  reading: Reading;
}

/** Many prompts of one call. */
export interface ManyRequest extends RequestHead {
  prompts: readonly (string | null)[];
  /** Of each prompt. */
  seeds: readonly number[];
  onError: OnError;
  wantsRun: boolean;
}

/** Of who needs a model no more, or all for null. */
export interface UnloadRequest {
  unload: string | null;
  /** Whether caches of other roles may go with it. */
  forAll: boolean;
}

export type EngineRequest = AnswerRequest | ReadingRequest | ManyRequest;

/** What became certain with a step. */
export interface SentStep {
  id: number | null;
  logprob: number | null;
  text: string;
  thinking: string;
}

export function sentStep({ token, text, thinking }: Step): SentStep {
  return { id: token?.id ?? null, logprob: token?.logprob ?? null, text, thinking };
}

export interface EngineAnswer {
  /** Without the calls of tools. */
  generation: Generation;
  /** The calls of tools, a JSON text: their arguments keep order and digits. */
  calls: string;
  /** What the answer had to be because of its tools, a JSON text; null where the options say it. */
  constraint: string | null;
  /** Keywords of the schema that nobody defines. */
  ignoredKeywords: readonly string[];
  steps: SentStep[];
  /** Nanoseconds for which the model was loaded. */
  loadNs: number;
  heldAs: string;
  /** Whether the text is that of the tokens. */
  isWhole: boolean;
  /** Null where they are not shown. */
  logprobs: Record<string, unknown>[] | null;
  run: { parts: readonly PromptPart[] | null; texts: RunTexts } | null;
}

/** Steps of a session. */
export interface EngineSteps {
  tokens: GeneratedToken[];
  /** The token by which the model ended the answer, which is none of it. */
  ended: GeneratedToken | null;
  /** Tokens of the prompt that a cache had. */
  reused: number;
  promptNs: number;
  evalNs: number;
}

export interface SentError {
  state: SqlState;
  message: string;
  detail: string | null;
  hint: string | null;
}

/** What became of the texts at these places. */
export type EmbeddedPart =
  /** `vector` is base64 of floats (dim). */
  | { places: readonly number[]; vector: string; tokens: number; length: number }
  | { places: readonly number[]; failed: string };

/** What became of the prompt at this place; null for an error. */
export interface AnsweredPart {
  place: number;
  answer: EngineAnswer | null;
}

/** Scores of documents: base64 of doubles (documents), which mean nothing at the places `failed`. */
export interface SentScores {
  scores: string;
  failed: number[];
  texts: number;
  tokens: number;
}

/** How likely each label is: base64 of doubles (labels). */
export interface SentLabels extends Omit<LabelScores, 'scores'> {
  scores: string;
  heldAs: string;
  /** Nanoseconds for which the model was loaded. */
  loadNs: number;
}

/** The last that a caller hears. */
export type LastMessage =
  /** The engine does not see what the caller sees, has no room or time for the call now, or failed by no fault of it. */
  | { unseen: true }
  | { error: SentError }
  | { steps: EngineSteps }
  | { answer: EngineAnswer }
  /** All prompts were. */
  | { answered: true }
  | { embedded: EmbeddingCounts }
  | { scored: SentScores }
  | { labelled: SentLabels }
  /** So many models were freed. */
  | { unloaded: number };

/** Of what many texts of a call come to. */
export type Part = EmbeddedPart | AnsweredPart;

export type EngineMessage =
  /** So many tokens are about to be evaluated. */
  { rows: number } | Part | LastMessage;

/**
 * What a caller hears of an error: one that is none of ours concerns the engine, as a lock it would wait for, and not the call;
 * nor does the call answer for the memory that the engine has beside everything else it holds, or for how much of its stack is in use.
 */
export function failure(error: unknown): LastMessage {
  if (!(error instanceof HartonomousError) || error.sqlerrcode === SQLSTATE.outOfMemory) return { unseen: true };
  if (error.cause instanceof RangeError) return { unseen: true };
  const { sqlerrcode: state, message, detail = null, hint = null } = error;
  return { error: { state, message, detail, hint } };
}

/** What the tables say of a model beside its row in the catalog, for the caller and the engine to compare. */
export function storedOf(description: ModelDescription): string {
  const { architecture, hyperparameters, chatTemplate, defaultOptions, systemPrompt } = description;
  return JSON.stringify([architecture, hyperparameters, chatTemplate, defaultOptions, systemPrompt]);
}

/** The error that `failure` sent. */
export function receivedError({ state, message, detail, hint }: SentError): HartonomousError {
  return new HartonomousError(state, message, {
    ...(detail === null ? {} : { detail }),
    ...(hint === null ? {} : { hint }),
  });
}
