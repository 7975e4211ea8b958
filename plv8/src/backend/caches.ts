/**
 * The key/value caches that this backend keeps between calls, over all its models: whose tokens begin as a prompt does
 * serve that prompt. A cache belongs to the role for which it was filled and serves nobody else. They are bounded in bytes
 * and number; the least recently used goes first.
 *
 * Nothing here relies on `finally`: a call that is cut off leaves its caches marked as busy, or known to the model only,
 * and the next call begins with `beginCall`.
 */
import { poll } from '../db.ts';
import { bytesOfCaches } from '../model/kv-cache.ts';
import type { KvCache, Model } from '../model/model.ts';

/** Bytes of caches a backend keeps between calls when the setting max_cache_bytes does not say otherwise. */
export const DEFAULT_MAX_CACHE_BYTES = 512 * 1024 * 1024;
/** Caches a backend keeps between calls when it is no engine. */
const MAX_CACHES = 16;

interface Kept {
  readonly caller: string;
  readonly model: Model;
  readonly cache: KvCache;
  /** Whether the running call works in it. */
  busy: boolean;
}

/** The least recently used first. */
let pool: Kept[] = [];
let maxBytes = DEFAULT_MAX_CACHE_BYTES;
let maxCaches = MAX_CACHES;

function bytesKept(): number {
  return bytesOfCaches(pool.map((kept) => kept.cache));
}

/** Free the least recently used idle cache (of one model, or of any); false when there is none. */
function evictOne(model: Model | null): boolean {
  const oldest = pool.find((kept) => !kept.busy && (model === null || kept.model === model));
  if (oldest === undefined) return false;
  pool = pool.filter((kept) => kept !== oldest);
  oldest.cache.free();
  return true;
}

function trim(moreBytes: number): void {
  while (bytesKept() + moreBytes > maxBytes || pool.filter((kept) => !kept.busy).length > maxCaches) {
    if (!evictOne(null)) return;
  }
}

/**
 * Start of a call: nothing is busy, and what nobody keeps is freed, whatever became of the call before. From now on caches of so
 * many bytes, and so many of them, are kept.
 */
export function beginCall(models: Iterable<Model>, bytes: number, most = MAX_CACHES): void {
  [maxBytes, maxCaches] = [bytes, most];
  for (const kept of pool) kept.busy = false;
  const caches = new Set(pool.map((kept) => kept.cache));
  for (const model of models) model.sweep(caches);
  trim(0);
}

/** Forget the caches of a model that is about to be freed. */
export function forgetCaches(model: Model): void {
  pool = pool.filter((kept) => kept.model !== model);
}

/** Free the caches of a caller for a model that are not in use. */
export function freeCachesOf(caller: string, model: Model): void {
  for (const kept of pool) if (kept.caller === caller && kept.model === model && !kept.busy) kept.cache.free();
  pool = pool.filter((kept) => kept.caller !== caller || kept.model !== model || kept.busy);
}

/** Caches kept for a model and the tokens in them. */
export function cacheFacts(model: Model): { caches: number; tokens: number } {
  const own = pool.filter((kept) => kept.model === model);
  return { caches: own.length, tokens: own.reduce((sum, kept) => sum + kept.cache.length, 0) };
}

/** Leading ids that both have, up to `most`. */
export function commonPrefix(ids: readonly number[], cached: readonly number[], most: number): number {
  const end = Math.min(most, cached.length);
  let n = 0;
  while (n < end && ids[n] === cached[n]) n++;
  return n;
}

interface Match {
  kept: Kept;
  length: number;
}

/** The caller's cache that shares the most leading ids, up to `most`; of equal ones the last used. */
function bestMatch(model: Model, caller: string, ids: readonly number[], most: number): Match | null {
  let best: Match | null = null;
  for (const kept of pool) {
    if (kept.caller !== caller || kept.model !== model) continue;
    const length = commonPrefix(ids, kept.cache.ids, most);
    if (length > 0 && length >= (best?.length ?? 0)) best = { kept, length };
  }
  return best;
}

/** An empty cache that the pool does not know: to be freed by who made it, else by the next call. */
export function privateCache(model: Model): KvCache {
  return model.newCache(model.config.contextLength, { makeRoom: trim, evictOne: () => evictOne(model) });
}

export interface CacheRequest {
  model: Model;
  caller: string;
  ids: readonly number[];
  /** Leading ids that may come out of a cache; one less than all where the last one's logits are wanted. */
  most: number;
  /** Tokens it will hold in all, as far as is known. */
  expected: number;
}

/** Move to the end of the queue for eviction. */
function touch(kept: Kept): void {
  pool = [...pool.filter((other) => other !== kept), kept];
}

/**
 * A private cache; with `reuse` it begins with as much of the ids as the caller's caches hold, else it is empty. Takes
 * nothing where it throws because there is no memory.
 */
export function forkCache(request: CacheRequest, reuse: boolean): KvCache {
  const { model, caller, ids, most, expected } = request;
  const match = reuse ? bestMatch(model, caller, ids, most) : null;
  if (match === null) return branchCache(model, null, 0, expected);
  const { kept } = match;
  const { busy } = kept;
  touch(kept);
  kept.busy = true; // not to be evicted to make room for the other
  try {
    return branchCache(model, kept.cache, match.length, expected);
  } finally {
    kept.busy = busy;
  }
}

/**
 * A private cache that begins with the first `length` tokens of another one, which both have in common from now on, with room for
 * `expected` in all. Takes nothing where it throws because there is no memory.
 */
export function branchCache(model: Model, from: KvCache | null, length: number, expected: number): KvCache {
  const cache = privateCache(model);
  try {
    const room = Math.min(expected, cache.limit);
    if (from === null) cache.reserve(room, poll);
    else cache.beginAs(from, length, room, poll);
    return cache;
  } catch (error) {
    cache.free();
    throw error;
  }
}

/**
 * A cache of the pool that begins with as much of the ids as the caller's caches hold, and holds nothing else: the best one
 * itself where at least half of its tokens stay, so that a conversation goes on in its cache, else one that begins as that does, so that it can
 * still go on. Without `reuse` an empty one. Busy until `releaseCache`.
 */
export function takeCache(request: CacheRequest, reuse: boolean): KvCache {
  const { model, caller, ids, most, expected } = request;
  const match = reuse ? bestMatch(model, caller, ids, most) : null;
  if (match === null || match.kept.busy || 2 * match.length < match.kept.cache.length) {
    const kept = { caller, model, cache: forkCache(request, reuse), busy: true };
    pool.push(kept);
    return kept.cache;
  }
  const { kept } = match;
  kept.busy = true;
  touch(kept);
  kept.cache.truncate(match.length);
  try {
    kept.cache.reserve(Math.min(expected, kept.cache.limit), poll);
  } catch (error) {
    kept.busy = false;
    throw error;
  }
  return kept.cache;
}

/** The call is done with a cache: one of the pool is kept for the next call, as far as its bounds allow, others are freed. */
export function releaseCache(cache: KvCache): void {
  const kept = pool.find((each) => each.cache === cache);
  if (kept === undefined) {
    cache.free();
    return;
  }
  kept.busy = false;
  trim(0);
}
