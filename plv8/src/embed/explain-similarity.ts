/** What each token of two texts adds to the cosine of their embeddings. */
import { poll } from '../db.ts';
import { currentCatalog, useModel } from '../backend/registry.ts';
import type { Model } from '../model/model.ts';
import { cosineSimilarity } from '../model/vector-maths.ts';
import { embeddingIds, poolingOf } from './embedding.ts';
import { parseEmbeddingOptions } from './embedding-options.ts';
import { normalized } from './normalized.ts';
import { prefixOf } from './prefixes.ts';

/** A pair of tokens, or with nulls a token of one text alone. */
export interface SimilarityRow {
  a_position: number | null;
  a_token: string | null;
  b_position: number | null;
  b_token: string | null;
  contribution: number;
}

/**
 * Where a text's vector is the mean of its tokens', the cosine is a sum over pairs of tokens: these are its terms. Where it is
 * that of one token, which has read the others, a token's contribution is the cosine less the one without it.
 */
export function explainSimilarity(
  texts: readonly [string, string],
  model: string | null,
  given: Record<string, unknown> | null,
): SimilarityRow[] {
  const options = parseEmbeddingOptions(given ?? {});
  const { entry, tokenizer } = useModel(currentCatalog(), model, options.precision, {
    inParallel: true,
    purpose: 'embedding',
  });
  const { config } = entry.model;
  const pooling = poolingOf(config, options, entry.description.name);
  const prefix = options.kind === null ? '' : prefixOf(entry.description, config, options.kind);
  const [a, b] = texts.map(
    (text, i) => embeddingIds(tokenizer, prefix + text, config.embeddingTokens, i + 1, options.truncate).ids,
  ) as [number[], number[]];
  const kept = (vector: Float64Array): number[] => normalized(vector, options, false);
  const name = (id: number): string => tokenizer.tokenText(id).replaceAll('\0', '\uFFFD');
  if (pooling === 'mean') {
    const [ofA, ofB] = statesOf(entry.model, [a, b]).map((states) =>
      states.map((state) => kept(entry.model.throughDenseHeads(Float64Array.from(state)))),
    ) as [number[][], number[][]];
    const length = lengthOfMean(ofA) * ofA.length * lengthOfMean(ofB) * ofB.length;
    return ofA.flatMap((one, i) => {
      poll();
      return ofB.map((other, j) => ({
        a_position: i,
        a_token: name(a[i]!),
        b_position: j,
        b_token: name(b[j]!),
        contribution: one.reduce((sum, x, d) => sum + x * other[d]!, 0) / length,
      }));
    });
  }
  const vectorOf = (states: Float32Array[]): number[] =>
    kept(entry.model.throughDenseHeads(Float64Array.from(states.at(pooling === 'cls' ? 0 : -1)!)));
  const [whole, other] = statesOf(entry.model, [a, b]).map(vectorOf) as [number[], number[]];
  const cosine = cosineSimilarity(whole, other);
  // The tokens that stand around every text are no words of it.
  const places = (ids: readonly number[]): number[] => [...ids.keys()].filter((i) => !tokenizer.isControl(ids[i]!));
  const lost = (ids: readonly number[], beside: readonly number[]): { at: number; cost: number }[] => {
    const left = places(ids).map((at) => ids.filter((_, i) => i !== at));
    const vectors = statesOf(
      entry.model,
      left.filter((each) => each.length > 0),
    ).map(vectorOf);
    return places(ids).flatMap((at, i) => {
      const without = vectors[i];
      return without === undefined ? [] : [{ at, cost: cosine - cosineSimilarity(without, beside) }];
    });
  };
  return [
    ...lost(a, other).map(({ at, cost }) => ({
      a_position: at,
      a_token: name(a[at]!),
      b_position: null,
      b_token: null,
      contribution: cost,
    })),
    ...lost(b, whole).map(({ at, cost }) => ({
      a_position: null,
      a_token: null,
      b_position: at,
      b_token: name(b[at]!),
      contribution: cost,
    })),
  ];
}

/** (sequences, tokens) hidden states (dim). */
function statesOf(model: Model, sequences: readonly number[][]): Float32Array[][] {
  const { dim } = model.config;
  const found = sequences.map((): Float32Array[] => []);
  model.hiddenStates(sequences, { poll }, (which, first, states) => {
    for (let t = 0; t * dim < states.length; t++) found[which]![first + t] = states.slice(t * dim, (t + 1) * dim);
  });
  return found;
}

function lengthOfMean(vectors: readonly number[][]): number {
  const mean = vectors[0]!.map((_, d) => vectors.reduce((sum, vector) => sum + vector[d]!, 0) / vectors.length);
  return Math.hypot(...mean);
}
