/** Generations: prompt ids in, token after token out, several prompts at a time. */
import type { SqlValue } from '../db.ts';
import { logEvent, notice, poll } from '../db.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import { ablation } from '../model/ablation.ts';
import type { KvCache, Model } from '../model/model.ts';
import { MAX_SEQUENCES } from '../model/model.ts';
import { whole } from '../model/pause.ts';
import type { CacheRequest } from '../backend/caches.ts';
import { privateCache, releaseCache, takeCache } from '../backend/caches.ts';
import type { DoneReason, GeneratedToken, Step } from '../sampling/continuation.ts';
import { Continuation } from '../sampling/continuation.ts';
import type { Keeping } from '../sampling/constraint/constraint.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import type { ToolCall } from '../sampling/tool-calls.ts';
import type { UsedModel } from '../backend/registry.ts';
import { nanoseconds } from '../backend/durations.ts';
import type { Job, Task } from './scheduler.ts';
import { Scheduler } from './scheduler.ts';
import { SharedBeginning } from './shared-beginning.ts';
import { thinkingOf } from './templated-prompt.ts';
import { rememberAnswer } from './written-answers.ts';

/** Context of a call that names none: enough for a page of text, small enough to hold many. */
const DEFAULT_CONTEXT = 4096;
/** Tokens of an answer for which a cache has room from the start. */
const EXPECTED_ANSWER = 256;

export interface Generation {
  text: string;
  /** What the model thought before; empty where it did not. */
  thinking: string;
  /** The calls of tools that the answer makes; what stands around them is `text`. */
  calls: ToolCall[];
  doneReason: DoneReason;
  promptIds: number[];
  tokens: GeneratedToken[];
  /** The token by which the model ended its answer, which is none of it; null where something else did. */
  ended: GeneratedToken | null;
  /** Tokens that might have been written. */
  budget: number;
  /** Prompt tokens that had to be evaluated; the rest was in a cache. */
  promptEvalCount: number;
  promptEvalNs: number;
  evalNs: number;
}

/** Context length of a call: num_ctx bounded by what the model was trained for. */
export function contextLength(options: GenerateOptions, trained: number): number {
  const wanted = options.numCtx ?? Math.min(DEFAULT_CONTEXT, trained);
  if (wanted > trained) {
    raise(SQLSTATE.invalidParameterValue, `option num_ctx is ${wanted}, the model's context is ${trained}`);
  }
  return wanted;
}

/** Throws when the prompt is empty or longer than the context. */
export function checkPrompt(promptIds: readonly number[], context: number): void {
  if (promptIds.length === 0) raise(SQLSTATE.invalidParameterValue, 'prompt has no tokens');
  if (promptIds.length > context) {
    raise(SQLSTATE.programLimitExceeded, `prompt has ${promptIds.length} tokens, the context holds ${context}`, {
      hint: 'shorten the prompt or raise option num_ctx',
    });
  }
}

export interface GenerationHooks {
  /** Sees every step before the next one is computed. */
  onStep?(step: Step): void;
  /** Compute every token's log-probability. */
  logprobs: boolean;
}

export interface GenerationRequest {
  promptIds: number[];
  options: GenerateOptions;
  hooks: GenerationHooks;
}

/** Generate after `promptIds`. Throws when the prompt is empty or longer than the context. */
export function generate(
  used: UsedModel,
  promptIds: number[],
  caller: string,
  options: GenerateOptions,
  hooks: GenerationHooks,
): Generation {
  return generateAll(used, caller, [{ promptIds, options, hooks }], (_index, error) => {
    throw error;
  })[0]!;
}

/** Tell the server log of an answer: its counts and durations, nothing of its text. */
export function logAnswer(model: string, caller: string, generation: Generation): void {
  logEvent('generate', answerFacts(model, caller, generation));
}

export function answerFacts(model: string, caller: string, generation: Generation): Record<string, SqlValue> {
  return {
    model,
    caller,
    done_reason: generation.doneReason,
    prompt_tokens: generation.promptIds.length,
    prompt_eval_count: generation.promptEvalCount,
    prompt_eval_duration: generation.promptEvalNs,
    eval_count: generation.tokens.length,
    eval_duration: generation.evalNs,
  };
}

/** Tell the client which keywords of a schema were passed over. */
export function tellIgnored({ ignoredKeywords }: Pick<Continuation, 'ignoredKeywords'>): void {
  const message = ignoredNotice(ignoredKeywords);
  if (message !== null) notice(message);
}

/** Null where there are none. */
export function ignoredNotice(keywords: readonly string[]): string | null {
  if (keywords.length === 0) return null;
  const [first, more] = [keywords.slice(0, 10), keywords.length - 10];
  return `schema keywords that nobody defines are ignored: ${first.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** What is to follow a prompt. Throws where its answer is constrained and cannot be as short as it has to be. */
export function continuationOf(
  used: UsedModel,
  request: GenerationRequest,
  context: number,
  keeping?: Keeping,
): Continuation {
  const { entry, tokenizer } = used;
  const { promptIds, options, hooks } = request;
  return new Continuation({
    tokenizer,
    options,
    vocabSize: entry.model.config.vocabSize,
    promptIds,
    context,
    logprobs: hooks.logprobs,
    thinking: thinkingOf({ description: entry.description, tokenizer }, options),
    poll,
    keeping,
  });
}

/** What cache is wanted for a sequence that goes on after these ids. */
export function cacheRequest(
  model: Model,
  caller: string,
  ids: readonly number[],
  { numPredict }: GenerateOptions,
  context: number,
): CacheRequest {
  const answer = numPredict < 0 ? EXPECTED_ANSWER : Math.min(numPredict, EXPECTED_ANSWER);
  return { model, caller, ids, most: ids.length - 1, expected: Math.min(context, ids.length + answer) };
}

/** How far the answer to a request came. */
interface Progress {
  continuation: Continuation;
  /** Prompt tokens that were there already; null before it has a cache. */
  reused: number | null;
  startedAt: number; // ms
  answeringSince: number; // ms
}

/** An answer that has come to its end; it is counted in the usage of its model. */
export function finishedGeneration(
  { entry: { usage } }: UsedModel,
  promptIds: number[],
  { continuation, reused, startedAt, answeringSince }: Progress,
): Generation {
  const { tokens, text, thinking, calls, doneReason, ended, budget } = continuation;
  usage.calls++;
  usage.promptTokens += promptIds.length;
  usage.reusedTokens += reused ?? 0;
  usage.generatedTokens += tokens.length;
  if (reused !== null && reused > 0) usage.cacheHits++;
  return {
    text,
    thinking,
    calls,
    doneReason: doneReason ?? 'length',
    promptIds,
    tokens,
    ended,
    budget,
    promptEvalCount: reused === null ? 0 : promptIds.length - reused,
    promptEvalNs: nanoseconds(answeringSince - startedAt),
    evalNs: nanoseconds(Date.now() - answeringSince),
  };
}

/**
 * Answer all requests, up to MAX_SEQUENCES at a time; as one ends the next begins. What the prompts have in common at
 * their beginning is evaluated once. Each answer is what the request alone would get. An error that concerns one request
 * goes to `onError`; where that does not throw, the answer is null.
 */
export function generateAll(
  used: UsedModel,
  caller: string,
  requests: readonly GenerationRequest[],
  onError: (index: number, error: HartonomousError) => void,
): (Generation | null)[] {
  return new Batch(used, caller, requests, onError).run();
}

class Batch {
  private readonly results: (Generation | null)[];
  private readonly scheduler: Scheduler;
  /** Null before it was read. */
  private beginning: SharedBeginning | null = null;

  constructor(
    private readonly used: UsedModel,
    private readonly caller: string,
    private readonly requests: readonly GenerationRequest[],
    private readonly onError: (index: number, error: HartonomousError) => void,
  ) {
    this.results = requests.map(() => null);
    this.scheduler = new Scheduler(used.entry.model, MAX_SEQUENCES, Infinity, poll);
  }

  run(): (Generation | null)[] {
    const { requests, scheduler } = this;
    try {
      const contexts = requests.map((request, index) => this.contextOf(request, index));
      const answerable = [...requests.keys()].filter((index) => contexts[index] !== null);
      if (answerable.some((index) => requests[index]!.options.numPredict !== 0)) this.used.entry.model.checkWrites();
      // What is computed with parts left out is no beginning of anything else.
      const isWhole = requests.every(({ options }) => options.ablate === null);
      this.readBeginning(isWhole ? answerable.map((index) => requests[index]!) : []);
      for (const index of answerable) scheduler.add(this.jobOf(index, contexts[index]!));
      while (scheduler.pass());
      return this.results;
    } finally {
      scheduler.close();
      this.beginning?.close();
    }
  }

  private fail(index: number, error: unknown): void {
    if (!(error instanceof HartonomousError)) throw error;
    this.onError(index, error);
  }

  /** Context of a request; null where its prompt does not fit. */
  private contextOf({ promptIds, options }: GenerationRequest, index: number): number | null {
    try {
      const context = contextLength(options, this.used.entry.model.config.contextLength);
      checkPrompt(promptIds, context);
      return context;
    } catch (error) {
      this.fail(index, error);
      return null;
    }
  }

  private readBeginning(requests: readonly GenerationRequest[]): void {
    const prompts = requests.map(({ promptIds }) => promptIds);
    const reuse = requests[0]?.options.cache ?? false;
    this.beginning = whole(SharedBeginning.read(this.used.entry.model, this.caller, prompts, reuse));
  }

  private jobOf(index: number, context: number): Job {
    const request = this.requests[index]!;
    const { options, hooks } = request;
    let progress: Progress | null = null;
    return {
      begin: () => {
        const begun = this.begin(request, context);
        const since = this.beginning!.startedAt;
        progress = { continuation: begun.continuation, reused: null, startedAt: since, answeringSince: since };
        if (options.numPredict !== 0) return begun;
        this.finish(index, progress);
        return null;
      },
      openCache: (ids) => {
        const cache = this.cacheFor(request, context, ids);
        progress!.reused ??= cache.length - this.beginning!.takeTokens();
        return cache;
      },
      closeCache: releaseCache,
      onRead: () => {
        progress!.answeringSince = Date.now();
      },
      onStep: (step) => hooks.onStep?.(step),
      end: () => this.finish(index, progress!),
      fail: (error) => this.fail(index, error),
    };
  }

  private begin(request: GenerationRequest, context: number): Task {
    const continuation = continuationOf(this.used, request, context);
    const { model } = this.used.entry;
    const { promptIds, options } = request;
    const over = { ids: promptIds, newCache: () => privateCache(model), poll };
    const intervention = options.ablate === null ? undefined : ablation(model, options.ablate, over);
    tellIgnored(continuation);
    return { continuation, intervention };
  }

  private cacheFor({ options }: GenerationRequest, context: number, ids: readonly number[]): KvCache {
    const wanted = cacheRequest(this.used.entry.model, this.caller, ids, options, context);
    // One request goes on in the cache of the one before and leaves its own; the rows of a batch leave what they share.
    if (options.cache && this.requests.length === 1) return takeCache(wanted, true);
    return this.beginning!.cacheFor(wanted, options.cache);
  }

  private finish(index: number, progress: Progress): void {
    const { promptIds, options } = this.requests[index]!;
    const generation = finishedGeneration(this.used, promptIds, progress);
    this.results[index] = generation;
    const { name, digest } = this.used.entry.description;
    logAnswer(name, this.caller, generation);
    if (options.ablate !== null) return; // no turn that the model would write
    const ids = generation.tokens.map((token) => token.id);
    rememberAnswer({ caller: this.caller, digest, text: generation.text, ids }, this.used.tokenizer);
  }
}
