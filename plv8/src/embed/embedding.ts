/** Texts to embeddings: tokens, hidden states, and one vector of them by the model's pooling. */
import { poll } from '../db.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { ModelConfig, Pooling } from '../model/config.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { EmbeddingOptions } from './embedding-options.ts';
import type { Pause } from '../model/pause.ts';
import type { UsedModel } from '../backend/registry.ts';
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

export interface TextIds {
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

/** What is to be embedded. */
export interface EmbeddingTask {
  texts: readonly (string | null)[];
  options: EmbeddingOptions;
  /** what each text is where option `kind` does not say it; it counts for models that are known to tell kinds apart */
  kinds?: ((place: number) => TextKind) | undefined;
  /** whose it is: nobody else meets what is remembered of it */
  owner: string;
  /** tokens of texts that go together at most, where one has not more; by default as many as the model takes */
  together?: number | undefined;
  /** has a text cut into tokens; may throw where that takes too long */
  cut?: ((work: () => TextIds) => TextIds) | undefined;
}

export interface EmbeddingCounts {
  reused: number; // tokens whose embeddings were remembered
  computed: number;
}

/** Sees what becomes of the texts at these places: an embedding, or why there is none. */
export type SeeEmbedded = (places: readonly number[], came: Embedded | string) => void;

/**
 * Embed texts in pieces, with pauses as Model.hiddenStatesInPieces has them; the same for every text that is the same. Throws
 * naming the text by its place from 1, unless option on_error says null.
 */
export function* embedInPieces(
  { entry, tokenizer }: UsedModel,
  { texts, options, kinds, owner, together = Infinity, cut = (work) => work() }: EmbeddingTask,
  see: SeeEmbedded,
): Generator<Pause, EmbeddingCounts> {
  const { model, description } = entry;
  const { config } = model;
  const { dim } = config;
  const pooling = poolingOf(config, options, description.name);
  if (options.dimensions !== null && options.dimensions > dim) {
    raise(
      SQLSTATE.invalidParameterValue,
      `option dimensions is ${options.dimensions}, the model's embeddings have ${dim}`,
    );
  }
  const normalize = options.normalize ?? config.normalizedEmbeddings;
  const common = options.kind === null ? null : prefixOf(description, config, options.kind);
  const known = kinds === undefined ? null : knownPrefixes(description, config);
  const otherwise = defaultPrefix(description);
  const recent = recentOf(model);
  const kind = JSON.stringify([owner, pooling, normalize, options.truncate, options.dimensions]);
  const counts = { reused: 0, computed: 0 };
  const places = new Map<string, number[]>();
  texts.forEach((text, i) => {
    if (text === null) return;
    const prefixed = (common ?? known?.[kinds!(i)] ?? otherwise) + text;
    const same = places.get(prefixed);
    if (same === undefined) places.set(prefixed, [i]);
    else same.push(i);
  });
  const wanted: (TextIds & { text: string })[] = [];
  for (const [text, at] of places) {
    const kept = recent.find(kind + text);
    if (kept !== undefined) {
      counts.reused += kept.tokens;
      see(at, kept);
      continue;
    }
    for (const i of at) {
      try {
        const { embeddingTokens } = config;
        const ids = cut(() => embeddingIds(tokenizer, text, embeddingTokens, i + 1, options.truncate));
        wanted.push({ text, ...ids });
        break;
      } catch (error) {
        if (!(error instanceof HartonomousError) || options.onError === 'error') throw error;
        see([i], error.message);
        yield 'between'; // the same text is cut for each of its places, which its error names
      }
    }
    yield 'between';
  }
  const sequences = wanted.map(({ ids }) => ids);
  const vectors = new Map<number, Float64Array>(); // of the texts that are being computed
  const complete = (): void => {
    for (const [which, vector] of vectors) {
      const { text, ids, length } = wanted[which]!;
      const embedding = normalized(model.throughDenseHeads(vector), options, normalize);
      const embedded = { embedding, tokens: ids.length, length };
      recent.keep(kind + text, embedded);
      see(places.get(text)!, embedded);
    }
    vectors.clear();
  };
  const pauses = model.hiddenStatesInPieces(sequences, { poll, together }, (which, first, states) => {
    let vector = vectors.get(which);
    if (vector === undefined) vectors.set(which, (vector = new Float64Array(dim)));
    pool(vector, pooling, first, states, sequences[which]!.length);
  });
  for (const pause of pauses) {
    if (pause === 'between') complete();
    yield pause;
  }
  counts.computed = sequences.reduce((sum, ids) => sum + ids.length, 0);
  const { usage } = entry;
  usage.calls++;
  usage.promptTokens += counts.reused + counts.computed;
  usage.reusedTokens += counts.reused;
  if (counts.reused > 0) usage.cacheHits++;
  return counts;
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
