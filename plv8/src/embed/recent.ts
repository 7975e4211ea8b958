/**
 * Embeddings that were computed last, for each loaded model: a query like `order by e <=> embed('constant')` asks for the
 * same one in every row. A role meets its own only, so that no time tells what others asked.
 */
import type { Model } from '../model/model.ts';

/** Bytes of texts and vectors that a model's recent embeddings take at most. */
const MAX_BYTES = 8 * 1024 * 1024;

export interface Embedded {
  embedding: number[];
  /** tokens that the model read */
  tokens: number;
  /** tokens of the whole text, more than were read where it was cut */
  length: number;
}

export class Recent {
  /** Insertion order is order of use: the first is the least recently used. */
  private readonly kept = new Map<string, Embedded>();
  private bytes = 0;

  find(key: string): Embedded | undefined {
    const found = this.kept.get(key);
    if (found !== undefined) {
      this.kept.delete(key);
      this.kept.set(key, found);
    }
    return found;
  }

  keep(key: string, embedded: Embedded): void {
    const size = sizeOf(key, embedded);
    if (size > MAX_BYTES || this.kept.has(key)) return;
    this.kept.set(key, embedded);
    this.bytes += size;
    for (const [oldest, old] of this.kept) {
      if (this.bytes <= MAX_BYTES) return;
      this.kept.delete(oldest);
      this.bytes -= sizeOf(oldest, old);
    }
  }
}

/** Two bytes a character, eight a number. */
function sizeOf(key: string, { embedding }: Embedded): number {
  return 2 * key.length + 8 * embedding.length;
}

const byModel = new WeakMap<Model, Recent>();

export function recentOf(model: Model): Recent {
  let recent = byModel.get(model);
  if (recent === undefined) byModel.set(model, (recent = new Recent()));
  return recent;
}
