/** One generation: prompt ids in, token after token out, until a stop rule ends it. */
import { poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { KvCache } from '../model/model.ts';
import type { DoneReason, GeneratedToken, Step } from './continuation.ts';
import { Continuation } from './continuation.ts';
import type { GenerateOptions } from './options.ts';
import type { LoadedModel, UsedModel } from './registry.ts';

const NS_PER_MS = 1_000_000;

/** Context of a call that names none: enough for a page of text, small enough to hold many. */
const DEFAULT_CONTEXT = 4096;

export interface Generation {
  text: string;
  doneReason: DoneReason;
  promptIds: number[];
  tokens: GeneratedToken[];
  /** Prompt tokens that had to be evaluated; the rest was in the cache. */
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

/** How many leading ids of `ids` the cache already holds; the last id is always evaluated again for its logits. */
function commonPrefix(ids: readonly number[], cached: ArrayLike<number>): number {
  const most = Math.min(ids.length - 1, cached.length);
  let n = 0;
  while (n < most && ids[n] === cached[n]) n++;
  return n;
}

/** Take the cache to work in: the kept one when it is this caller's and long enough, else an empty one. */
function takeCache(entry: LoadedModel, caller: string, context: number, reuse: boolean): KvCache {
  const kept = entry.kept;
  entry.kept = null;
  if (kept !== null) {
    if (reuse && kept.caller === caller && kept.cache.capacity === context && !kept.cache.isFreed) return kept.cache;
    kept.cache.free();
  }
  return entry.model.newCache(context);
}

/**
 * Run `body` with a cache of `context` tokens that begins with as much of `ids` as can be had (`reused`, less than all
 * of them), and keep it for the next call of this caller.
 */
export function withCache<T>(
  entry: LoadedModel,
  caller: string,
  ids: readonly number[],
  context: number,
  use: { reuse: boolean; keep: boolean },
  body: (cache: KvCache, reused: number) => T,
): T {
  const cache = takeCache(entry, caller, context, use.reuse);
  const reused = commonPrefix(ids, cache.ids);
  let finished = false;
  try {
    cache.truncate(reused);
    const result = body(cache, reused);
    finished = true;
    return result;
  } finally {
    // After a cancel the last chunk may be half written: what was complete before it is still right, but not worth
    // the proof, so the cache goes.
    if (finished && use.keep) entry.kept = { caller, cache };
    else cache.free();
  }
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

/** Generate after `promptIds`. Throws when the prompt is empty or longer than the context. */
export function generate(
  used: UsedModel,
  promptIds: number[],
  caller: string,
  options: GenerateOptions,
  hooks: GenerationHooks,
): Generation {
  const { entry, tokenizer } = used;
  const { model } = entry;
  const context = contextLength(options, model.config.contextLength);
  checkPrompt(promptIds, context);
  const use = { reuse: options.cache, keep: options.cache };
  return withCache(entry, caller, promptIds, context, use, (cache, reused) => {
    const continuation = new Continuation({
      tokenizer,
      options,
      vocabSize: model.config.vocabSize,
      promptIds,
      context,
      logprobs: hooks.logprobs,
    });
    const prefillStarted = Date.now();
    let logits: Float32Array | null = null;
    if (options.numPredict !== 0) logits = model.forward(promptIds.slice(reused), cache, { poll });
    const decodeStarted = Date.now();
    while (logits !== null) {
      poll();
      const step = continuation.next(logits);
      hooks.onStep?.(step);
      if (step.doneReason !== null) break;
      logits = model.forward([step.token!.id], cache, { poll });
    }
    const { tokens, text, doneReason } = continuation;
    entry.usage.calls++;
    entry.usage.promptTokens += promptIds.length;
    entry.usage.reusedTokens += reused;
    entry.usage.generatedTokens += tokens.length;
    return {
      text,
      doneReason: doneReason ?? 'length',
      promptIds,
      tokens,
      promptEvalCount: promptIds.length - reused,
      promptEvalNs: (decodeStarted - prefillStarted) * NS_PER_MS,
      evalNs: (Date.now() - decodeStarted) * NS_PER_MS,
    };
  });
}
