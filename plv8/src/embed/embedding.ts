/** Texts to embeddings: tokens, hidden states, and one vector of them by the model's pooling. */
import { logEvent, poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { ModelConfig, Pooling } from '../model/config.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { EmbeddingOptions } from './embedding-options.ts';
import { parseEmbeddingOptions } from './embedding-options.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import { nanoseconds } from '../backend/durations.ts';

function poolingOf(config: ModelConfig, options: EmbeddingOptions, name: string): Pooling {
  const pooling = options.pooling ?? config.pooling;
  if (pooling !== null) return pooling;
  return raise(SQLSTATE.objectNotInPrerequisiteState, `model ${name} does not say how it makes embeddings`, {
    hint: `give option pooling: mean or last; a model made for embeddings serves better`,
  });
}

/** Ids of one text as the model wants them, cut before the tokens that end it where it is too long. */
function embeddingIds(tokenizer: Tokenizer, text: string, limit: number, place: number, truncate: boolean): number[] {
  const ids = tokenizer.encode(text, { addSpecial: true, parseSpecial: false, poll });
  if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, `text ${place} has no tokens`);
  if (ids.length <= limit) return ids;
  if (!truncate) {
    raise(SQLSTATE.programLimitExceeded, `text ${place} has ${ids.length} tokens, the model reads ${limit}`, {
      hint: 'shorten it, or leave option truncate at true',
    });
  }
  const ending = (tokenizer.separatorId === null ? 0 : 1) + (tokenizer.addEos ? 1 : 0);
  return [...ids.slice(0, limit - ending), ...ids.slice(ids.length - ending)];
}

function finish(vector: Float64Array, options: EmbeddingOptions, normalize: boolean): number[] {
  const kept = options.dimensions === null ? vector : vector.subarray(0, options.dimensions);
  const length = normalize ? Math.hypot(...kept) : 1;
  return Array.from(kept, (value) => Math.fround(value / (length > 0 ? length : 1)));
}

/** Embeddings (dim, or the dimensions asked for) of texts, null for null. Throws naming the text by its place from 1. */
export function embedTexts(
  texts: readonly (string | null)[],
  model: string | null,
  given: Record<string, unknown> | null,
): (number[] | null)[] {
  const options = parseEmbeddingOptions(given ?? {});
  for (const text of texts) {
    if (text === null || typeof text === 'string') continue;
    raise(SQLSTATE.invalidParameterValue, 'texts must be an array of one dimension');
  }
  const { entry, tokenizer } = useModel(currentCatalog(), model, options.precision, { inParallel: true });
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
  const places: number[] = []; // index among the texts of each sequence
  const sequences: number[][] = [];
  texts.forEach((text, i) => {
    if (text === null) return;
    places.push(i);
    sequences.push(embeddingIds(tokenizer, text, config.embeddingTokens, i + 1, options.truncate));
  });
  const started = Date.now();
  const vectors = sequences.map(() => new Float64Array(dim));
  entry.model.hiddenStates(sequences, { poll }, (which, first, states) => {
    pool(vectors[which]!, pooling, first, states, sequences[which]!.length);
  });
  entry.usage.calls++;
  const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0);
  entry.usage.promptTokens += tokens;
  logEvent('embed', {
    model: entry.description.name,
    texts: sequences.length,
    prompt_tokens: tokens,
    prompt_eval_duration: nanoseconds(Date.now() - started),
  });
  const out: (number[] | null)[] = texts.map(() => null);
  vectors.forEach((vector, which) => (out[places[which]!] = finish(vector, options, normalize)));
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
