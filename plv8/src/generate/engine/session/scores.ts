/** rerank and classify by a model's classifier for a backend that runs no JavaScript. */
import type { ModelDescription } from '../../../backend/catalog.ts';
import { logScores, refuseForEmbeddings } from '../../../embed/cross-encoder.ts';
import { parseEmbeddingOptions } from '../../../embed/embedding-options.ts';
import { scoredOf } from '../ask-reading.ts';
import type { LastMessage, Reading, ReadingRequest } from '../messages.ts';
import { readingRequest } from '../reading-request.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';

export class ServedScores extends ServedCall {
  private constructor(
    made: CallMade,
    private readonly model: ModelDescription,
    readonly request: ReadingRequest,
    private readonly tell: (scores: readonly (number | null)[]) => string[],
  ) {
    super(made);
  }

  /** `tell` says of the scores what the result is. */
  static of(
    made: CallMade,
    model: ModelDescription,
    given: Record<string, unknown>,
    reading: Reading,
    tell: (scores: readonly (number | null)[]) => string[],
  ): ServedCall | null {
    const options = parseEmbeddingOptions(given);
    refuseForEmbeddings(options);
    const request = readingRequest(made.catalog, model, given, options.precision, reading);
    return request === null ? null : new ServedScores(made, model, request, tell);
  }

  protected resultOf(last: LastMessage): string[] | null {
    if (!('scored' in last)) return null;
    const { scored } = last;
    logScores(this.model.name, scored, this.made.startedAt, this.session.log);
    return this.tell(scoredOf(scored));
  }
}
