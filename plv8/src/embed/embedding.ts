/** Texts to embeddings: tokens, hidden states, and one vector of them by the model's pooling. */
import { logEvent, noticeOnce, poll } from '../db.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { ModelConfig, Pooling } from '../model/config.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { EmbeddingOptions } from './embedding-options.ts';
import { parseEmbeddingOptions } from './embedding-options.ts';
import { callerRole } from '../backend/caller.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import { nanoseconds } from '../backend/durations.ts';
import { normalized } from './normalized.ts';
import type { Embedded } from './recent.ts';
import type { TextKind } from './prefixes.ts';
import { defaultPrefix, knownPrefixes, prefixOf } from './prefixes.ts';
import { recentOf } from './recent.ts';

export function poolingOf(config: ModelConfig, options: EmbeddingOptions, name: string): Pooling {
  const pooling = options.pooling ?? config.pooling;
  if (pooling === 'rank') {
    raise(SQLSTATE.featureNotSupported, `model ${name} ranks documents for a query and makes no embeddings`, {
      hint: 'use it with hartonomous.rerank',
    });
  }
  if (pooling !== null) return pooling;
  return raise(SQLSTATE.objectNotInPrerequisiteState, `model ${name} does not say how it makes embeddings`, {
    hint: `give option pooling: mean or last; a model made for embeddings serves better`,
  });
}

interface TextIds {
  ids: number[];
  /** tokens of the whole text */
  length: number;
}

/** Ids of one text as the model wants them, cut before the tokens that end it where it is too long. */
export function embeddingIds(
  tokenizer: Tokenizer,
  text: string,
  limit: number,
  place: number,
  truncate: boolean,
): TextIds {
  const ids = tokenizer.encode(text, { addSpecial: true, parseSpecial: false, poll });
  const { length } = ids;
  if (length === 0) raise(SQLSTATE.invalidParameterValue, `text ${place} has no tokens`);
  if (length <= limit) return { ids, length };
  if (!truncate) {
    raise(SQLSTATE.programLimitExceeded, `text ${place} has ${length} tokens, the model reads ${limit}`, {
      hint: 'shorten it, or leave option truncate at true',
    });
  }
  const ending = (tokenizer.separatorId === null ? 0 : 1) + (tokenizer.addEos ? 1 : 0);
  return { ids: [...ids.slice(0, limit - ending), ...ids.slice(length - ending)], length };
}

export interface TextEmbedding {
  /** (dim, or the dimensions asked for) */
  embedding: number[] | null;
  /** tokens that the model read */
  tokens: number | null;
  /** why there is no embedding of a text that is there */
  error: string | null;
}

/**
 * Embeddings of texts, null for null. Throws naming the text by its place from 1, unless option on_error says null. Says by
 * a notice where texts were cut, once a statement. `kinds` says what each text is where option `kind` does not; it counts
 * for models that are known to tell kinds apart.
 */
export function embedTexts(
  texts: readonly (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
  kinds?: (place: number) => TextKind,
): TextEmbedding[] {
  const options = parseEmbeddingOptions(given ?? {});
  for (const text of texts) {
    if (text === null || typeof text === 'string') continue;
    raise(SQLSTATE.invalidParameterValue, 'texts must be an array of one dimension');
  }
  const { entry, tokenizer } = useModel(currentCatalog(), model, options.precision, {
    inParallel: true,
    purpose: 'embedding',
  });
  const { config } = entry.model;
  const { dim } = config;
  const pooling = poolingOf(config, options, entry.description.name);
  if (options.dimensions !== null && options.dimensions > dim) {
    raise(
      SQLSTATE.invalidParameterValue,
      `option dimensions is ${options.dimensions}, the model's embeddings have ${dim}`,
    );
  }
  const normalize = options.normalize ?? config.normalizedEmbeddings;
  const { description } = entry;
  const common = options.kind === null ? null : prefixOf(description, config, options.kind);
  const known = kinds === undefined ? null : knownPrefixes(description, config);
  const otherwise = defaultPrefix(description);
  const prefixed = texts.map((text, i) => (text === null ? null : (common ?? known?.[kinds!(i)] ?? otherwise) + text));
  const recent = recentOf(entry.model);
  const kind = JSON.stringify([callerRole(), pooling, normalize, options.truncate, options.dimensions]);
  const out: TextEmbedding[] = texts.map(() => ({ embedding: null, tokens: null, error: null }));
  const found = new Map<string, Embedded>();
  const wanted = new Map<string, TextIds>();
  prefixed.forEach((text, i) => {
    if (text === null || found.has(text) || wanted.has(text)) return;
    const kept = recent.find(kind + text);
    if (kept !== undefined) {
      found.set(text, kept);
      return;
    }
    try {
      wanted.set(text, embeddingIds(tokenizer, text, config.embeddingTokens, i + 1, options.truncate));
    } catch (error) {
      if (!(error instanceof HartonomousError) || options.onError === 'error') throw error;
      out[i]!.error = error.message;
    }
  });
  const { usage } = entry;
  const reused = [...found.values()].reduce((sum, { tokens }) => sum + tokens, 0);
  const started = Date.now();
  const sequences = [...wanted.values()].map(({ ids }) => ids);
  const vectors = sequences.map(() => new Float64Array(dim));
  entry.model.hiddenStates(sequences, { poll }, (which, first, states) => {
    pool(vectors[which]!, pooling, first, states, sequences[which]!.length);
  });
  [...wanted].forEach(([text, { ids, length }], which) => {
    const embedded = {
      embedding: normalized(entry.model.throughDenseHeads(vectors[which]!), options, normalize),
      tokens: ids.length,
      length,
    };
    found.set(text, embedded);
    recent.keep(kind + text, embedded);
  });
  const computed = sequences.reduce((sum, ids) => sum + ids.length, 0);
  usage.calls++;
  usage.promptTokens += reused + computed;
  usage.reusedTokens += reused;
  if (reused > 0) usage.cacheHits++;
  logEvent('embed', {
    model: entry.description.name,
    texts: texts.length,
    prompt_tokens: reused + computed,
    prompt_eval_count: computed,
    prompt_eval_duration: nanoseconds(Date.now() - started),
  });
  prefixed.forEach((text, i) => {
    const embedded = text === null ? undefined : found.get(text);
    if (embedded === undefined) return;
    out[i] = { embedding: embedded.embedding, tokens: embedded.tokens, error: null };
    if (embedded.length > embedded.tokens) {
      noticeOnce(
        `text ${i + 1} has ${embedded.length} tokens, the model reads ${embedded.tokens}: it was cut, and so may others of this statement be`,
      );
    }
  });
  return out;
}

/** Add what the hidden states (tokens, dim) of the tokens from `first` on give to a text's vector (dim). */
function pool(vector: Float64Array, pooling: Pooling, first: number, states: Float32Array, length: number): void {
  const dim = vector.length;
  const tokens = states.length / dim;
  if (pooling === 'mean') {
    for (let i = 0; i < states.length; i++) vector[i % dim]! += states[i]! / length;
    return;
  }
  const row = pooling === 'cls' ? 0 : length - 1;
  if (row >= first && row < first + tokens) vector.set(states.subarray((row - first) * dim, (row - first + 1) * dim));
}
