/** embed, similarity and rerank by embeddings for a backend that runs no JavaScript. */
import type { ModelDescription } from '../../../backend/catalog.ts';
import type { TextEmbedding } from '../../../embed/embedded-rows.ts';
import { EmbeddedRows } from '../../../embed/embedded-rows.ts';
import { parseEmbeddingOptions } from '../../../embed/embedding-options.ts';
import { embeddedOf } from '../ask-reading.ts';
import type { LastMessage, Part, Reading, ReadingRequest } from '../messages.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';
import { readingRequest } from './readings.ts';

/** What is to be embedded, and what the result is; null for what the backend is to compute. */
export interface Embedding {
  texts: readonly (string | null)[];
  /** Whether the first is a query to the others. */
  ranked: boolean;
  resultOf(rows: readonly TextEmbedding[]): string[] | null;
}

export class ServedEmbeddings extends ServedCall {
  private readonly embedded: EmbeddedRows;

  private constructor(
    made: CallMade,
    private readonly model: ModelDescription,
    readonly request: ReadingRequest,
    private readonly asked: Embedding,
  ) {
    super(made);
    this.embedded = new EmbeddedRows(asked.texts.length);
  }

  static of(
    made: CallMade,
    model: ModelDescription,
    given: Record<string, unknown>,
    asked: Embedding,
  ): ServedCall | null {
    const { texts, ranked } = asked;
    const reading: Reading = { embed: texts, ranked };
    const request = readingRequest(made.catalog, model, given, parseEmbeddingOptions(given), reading);
    return request === null ? null : new ServedEmbeddings(made, model, request, asked);
  }

  override see(part: Part): void {
    if ('places' in part) this.embedded.see(part.places, embeddedOf(part));
  }

  protected resultOf(last: LastMessage): string[] | null {
    // Of texts that were cut the statement says it once, however many of its calls that concerns.
    if (!('embedded' in last) || this.embedded.notices().length > 0) return null;
    this.session.log('embed', this.embedded.facts(this.model.name, last.embedded, this.made.startedAt));
    return this.asked.resultOf(this.embedded.rows);
  }
}
