/** Texts by how near their embeddings are to a query's, or by other scores. */
import { cosineSimilarity } from '../model/vector-maths.ts';
import type { TextEmbedding } from './embedded-rows.ts';

/** Cosine of the angle between two embeddings; null where one of them is. */
export function cosine(one: number[] | null, other: number[] | null): number | null {
  return one === null || other === null ? null : cosineSimilarity(one, other);
}

/** Cosines of the first of some texts, a query, and each of the others. */
export function cosinesOfFirst([query, ...others]: readonly TextEmbedding[]): (number | null)[] {
  return others.map(({ embedding }) => cosine(query!.embedding, embedding));
}

export interface RankedRow {
  /** place among the documents, from 1 */
  ord: number;
  doc: string | null;
  score: number | null;
}

/** Best first, null last; of equal ones the earlier. */
export function rankedRows(docs: readonly (string | null)[], scores: readonly (number | null)[]): RankedRow[] {
  return docs
    .map((doc, i): RankedRow => ({ ord: i + 1, doc, score: scores[i]! }))
    .sort((one, other) => (other.score ?? -Infinity) - (one.score ?? -Infinity) || one.ord - other.ord);
}
