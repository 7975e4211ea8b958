/** One generation: prompt ids in, token after token out, until a stop rule ends it. */
import { poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { KvCache } from '../model/model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateOptions } from './options.ts';
import type { LoadedModel, UsedModel } from './registry.ts';
import { Sampler } from './sampler.ts';
import { StopMatcher } from './stop.ts';
import { Utf8Stream } from './utf8-stream.ts';

const NS_PER_MS = 1_000_000;

/** Context of a call that names none: enough for a page of text, small enough to hold many. */
const DEFAULT_CONTEXT = 4096;

export type DoneReason = 'stop' | 'length';

export interface GeneratedToken {
  id: number;
  /** Natural logarithm of the probability the model gave it, before penalties and temperature; null when not wanted. */
  logprob: number | null;
  /** Logit the model gave it. */
  logit: number;
}

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

export interface GenerationHooks {
  /** Sees every token before the next one is computed. */
  onToken?(token: GeneratedToken): void;
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
  if (promptIds.length === 0) raise(SQLSTATE.invalidParameterValue, 'prompt has no tokens');
  if (promptIds.length > context) {
    raise(SQLSTATE.programLimitExceeded, `prompt has ${promptIds.length} tokens, the context holds ${context}`, {
      hint: 'shorten the prompt or raise option num_ctx',
    });
  }
  const cache = takeCache(entry, caller, context, options.cache);
  const reused = commonPrefix(promptIds, cache.ids);
  let finished = false;
  try {
    cache.truncate(reused);
    const result = run(entry, tokenizer, cache, promptIds, reused, options, hooks);
    finished = true;
    entry.usage.calls++;
    entry.usage.promptTokens += promptIds.length;
    entry.usage.reusedTokens += reused;
    entry.usage.generatedTokens += result.tokens.length;
    return result;
  } finally {
    // After a cancel the last chunk may be half written: what was complete before it is still right, but not worth
    // the proof, so the cache goes.
    if (finished && options.cache) entry.kept = { caller, cache };
    else cache.free();
  }
}

function run(
  entry: LoadedModel,
  tokenizer: Tokenizer,
  cache: KvCache,
  promptIds: number[],
  reused: number,
  options: GenerateOptions,
  hooks: GenerationHooks,
): Generation {
  const { model } = entry;
  const sampler = new Sampler(options.sampler, model.config.vocabSize);
  const stops = new StopMatcher(options.stop);
  const utf8 = new Utf8Stream();
  const history = promptIds.slice();
  const tokens: GeneratedToken[] = [];
  let text = '';
  let doneReason: DoneReason = 'length';

  const prefillStarted = Date.now();
  let logits: Float32Array | null = null;
  if (options.numPredict !== 0) logits = model.forward(promptIds.slice(reused), cache, { poll });
  const decodeStarted = Date.now();

  while (logits !== null) {
    poll();
    const token = sampler.sample(logits, history, { logprob: hooks.logprobs });
    if (tokenizer.isEndOfGeneration(token.id)) {
      doneReason = 'stop';
      break;
    }
    history.push(token.id);
    const written: GeneratedToken = { id: token.id, logprob: token.logprob, logit: logits[token.id]! };
    tokens.push(written);
    hooks.onToken?.(written);
    text += stops.push(utf8.push(tokenizer.tokenBytes(token.id)));
    if (stops.stopped) {
      doneReason = 'stop';
      break;
    }
    if (options.numPredict >= 0 && tokens.length >= options.numPredict) break;
    if (cache.length >= cache.capacity) break;
    logits = model.forward([token.id], cache, { poll });
  }
  if (!stops.stopped) text += stops.push(utf8.flush());
  if (!stops.stopped) text += stops.flush();
  return {
    // PostgreSQL's text and jsonb hold no NUL.
    text: text.replaceAll('\0', '\uFFFD'),
    doneReason,
    promptIds,
    tokens,
    promptEvalCount: promptIds.length - reused,
    promptEvalNs: (decodeStarted - prefillStarted) * NS_PER_MS,
    evalNs: (Date.now() - decodeStarted) * NS_PER_MS,
  };
}
