/** tokenize, detokenize, token_count and logits. */
import { limitThreads, poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { ablation } from '../model/ablation.ts';
import type { KvCache } from '../model/model.ts';
import { parseOptions } from '../sampling/options.ts';
import { privateCache } from '../backend/caches.ts';
import { atMost, refuseUnrecorded } from '../backend/limits.ts';
import { currentCatalog, useModel, useTokenizer } from '../backend/registry.ts';
import { recordReading } from '../generate/record.ts';

export function tokenize(
  input: string | null,
  model: string | null,
  addSpecial: boolean,
  parseSpecial: boolean,
): number[] | null {
  if (input === null) return null;
  return useTokenizer(currentCatalog(), model).tokenizer.encode(input, {
    addSpecial: addSpecial === true,
    parseSpecial: parseSpecial === true,
    poll,
  });
}

export function detokenize(tokens: (number | null)[] | null, model: string | null, special: boolean): string | null {
  if (tokens === null) return null;
  const { tokenizer } = useTokenizer(currentCatalog(), model);
  return tokenizer
    .decode(checkedIds(tokens, tokenizer.vocabSize), { special: special === true })
    .replaceAll('\0', '\uFFFD');
}

export function tokenCount(input: string | null, model: string | null): number | null {
  return tokenize(input, model, false, false)?.length ?? null;
}

function checkedIds(tokens: (number | null)[], vocabSize: number): number[] {
  return tokens.map((id, index) => {
    if (id === null || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      raise(
        SQLSTATE.invalidParameterValue,
        `token ${index + 1} is ${id === null ? 'null' : String(id)}, the vocabulary has ids 0 to ${vocabSize - 1}`,
      );
    }
    return id;
  });
}

export function logits(
  tokens: (number | null)[] | null,
  model: string | null,
  options: Record<string, unknown> | null,
): number[] | null {
  if (tokens === null) return null;
  const parsed = parseOptions(options ?? {});
  const startedAt = Date.now();
  const catalog = currentCatalog();
  refuseUnrecorded(catalog.limits);
  limitThreads(parsed.numThread || null);
  const used = useModel(catalog, model, parsed.precision);
  const { entry } = used;
  const ids = checkedIds(tokens, entry.model.config.vocabSize);
  if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, 'logits needs at least one token');
  if (ids.length > entry.model.config.contextLength) {
    raise(
      SQLSTATE.programLimitExceeded,
      `logits got ${ids.length} tokens, the model's context is ${entry.model.config.contextLength}`,
    );
  }
  const maxContext = atMost(ids.length, catalog.limits, 'max_context');
  if (ids.length > maxContext)
    raise(SQLSTATE.configurationLimitExceeded, `logits got ${ids.length} tokens, limit max_context is ${maxContext}`);
  const newCache = (): KvCache => privateCache(entry.model);
  const { ablate } = parsed;
  const intervention = ablate === null ? undefined : ablation(entry.model, ablate, { ids, newCache, poll });
  const cache = newCache();
  try {
    const result = Array.from(entry.model.forward(ids, cache, { poll, intervention }));
    recordReading(used, catalog, {
      given: options ?? {},
      settings: parsed,
      promptIds: ids,
      evaluated: ids.length,
      startedAt,
    });
    return result;
  } finally {
    cache.free();
  }
}
