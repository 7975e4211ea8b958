/** What the prompts of one call begin with: read once for all of them. */
import type { CacheRequest } from '../backend/caches.ts';
import { branchCache, forkCache, releaseCache, takeCache } from '../backend/caches.ts';
import type { KvCache, Model } from '../model/model.ts';
import type { Pause } from '../model/pause.ts';
import { readInPieces } from './read-in-pieces.ts';
import { sharedLength } from './score.ts';

export class SharedBeginning {
  /** `tokens` were evaluated from `since` on: on the account of the request that starts first. */
  private constructor(
    private readonly cache: KvCache | null,
    private tokens: number,
    private readonly since: number,
  ) {}

  /**
   * Evaluate what all prompts begin with, their last token excepted, whose logits each needs; nothing for a single one. `reuse`
   * takes it from the caller's caches and leaves it there. Anything else may be computed in the pauses.
   */
  static *read(
    model: Model,
    caller: string,
    prompts: readonly (readonly number[])[],
    reuse: boolean,
  ): Generator<Pause, SharedBeginning> {
    const since = Date.now();
    const length = prompts.length > 1 ? sharedLength(prompts) : 0;
    if (length === 0) return new SharedBeginning(null, 0, since);
    const ids = prompts[0]!.slice(0, length);
    const wanted = { model, caller, ids, most: length, expected: length };
    const cache = reuse ? takeCache(wanted, true) : forkCache(wanted, false);
    const left = ids.slice(cache.length);
    let isRead = false;
    try {
      yield* readInPieces(model, left, cache);
      isRead = true;
    } finally {
      if (!isRead) releaseCache(cache);
    }
    return new SharedBeginning(cache, left.length, since);
  }

  /** When the work on a request began that starts now. */
  get startedAt(): number {
    return this.tokens > 0 ? this.since : Date.now();
  }

  /** Tokens of it that a request has evaluated which starts now. */
  takeTokens(): number {
    const { tokens } = this;
    this.tokens = 0;
    return tokens;
  }

  /** A cache for one of the prompts; with `reuse` it begins with as much of it as the caller's caches hold. */
  cacheFor(wanted: CacheRequest, reuse: boolean): KvCache {
    if (reuse || this.cache === null) return forkCache(wanted, reuse);
    return branchCache(wanted.model, this.cache, this.cache.length, wanted.expected);
  }

  close(): void {
    if (this.cache !== null) releaseCache(this.cache);
  }
}
