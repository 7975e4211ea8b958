/** What becomes of the texts of a call that embeds them, be they embedded here or by an engine. */
import { nanoseconds } from '../backend/durations.ts';
import type { EmbeddingCounts } from './embedding.ts';
import type { Embedded } from './recent.ts';

export interface TextEmbedding {
  /** (dim, or the dimensions asked for) */
  embedding: number[] | null;
  /** tokens that the model read */
  tokens: number | null;
  /** why there is no embedding of a text that is there */
  error: string | null;
}

export class EmbeddedRows {
  readonly rows: TextEmbedding[];
  private readonly cut: { place: number; embedded: Embedded }[] = [];

  constructor(count: number) {
    this.rows = Array.from({ length: count }, () => ({ embedding: null, tokens: null, error: null }));
  }

  see(places: readonly number[], came: Embedded | string): void {
    for (const i of places) {
      if (typeof came === 'string') {
        this.rows[i]!.error = came;
        continue;
      }
      this.rows[i] = { embedding: came.embedding, tokens: came.tokens, error: null };
      if (came.length > came.tokens) this.cut.push({ place: i + 1, embedded: came });
    }
  }

  /** One for each text that was cut. */
  notices(): string[] {
    return [...this.cut]
      .sort((a, b) => a.place - b.place)
      .map(
        ({ place, embedded: { length, tokens } }) =>
          `text ${place} has ${length} tokens, the model reads ${tokens}: it was cut, and so may others of this statement be`,
      );
  }

  /** For the log line; the call began at `startedAt`, milliseconds since 1970. */
  facts(model: string, { reused, computed }: EmbeddingCounts, startedAt: number): Record<string, string | number> {
    return {
      model,
      texts: this.rows.length,
      prompt_tokens: reused + computed,
      prompt_eval_count: computed,
      prompt_eval_duration: nanoseconds(Date.now() - startedAt),
    };
  }
}
