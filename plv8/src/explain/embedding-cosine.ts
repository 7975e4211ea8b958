/** How near token embeddings are to one another: similarity, not cause. */
import type { Model } from '../model/model.ts';

/** Cosine of each id's embedding with that of `id`; null where an embedding is zero. */
export function embeddingCosines(model: Model, ids: readonly number[], id: number): (number | null)[] {
  const { embedding } = model.weights;
  const own = new Float32Array(embedding.cols);
  const other = new Float32Array(embedding.cols);
  model.readRow(embedding, id, own);
  return ids.map((each) => {
    model.readRow(embedding, each, other);
    let dot = 0;
    let ownSquares = 0;
    let otherSquares = 0;
    for (let d = 0; d < own.length; d++) {
      dot += own[d]! * other[d]!;
      ownSquares += own[d]! * own[d]!;
      otherSquares += other[d]! * other[d]!;
    }
    const norm = Math.sqrt(ownSquares * otherSquares);
    return norm === 0 ? null : dot / norm;
  });
}
