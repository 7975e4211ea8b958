/** embed, similarity and rerank by embeddings for a backend that runs no JavaScript. */
import type { ModelDescription } from '../../../backend/catalog.ts';
import { useDescription } from '../../../backend/registry.ts';
import type { TextEmbedding } from '../../../embed/embedded-rows.ts';
import { EmbeddedRows } from '../../../embed/embedded-rows.ts';
import { parseEmbeddingOptions } from '../../../embed/embedding-options.ts';
import { cosine, cosinesOfFirst } from '../../../embed/ranking.ts';
import { embeddedOf } from '../ask-reading.ts';
import type { LastMessage, Part, Reading, ReadingRequest, SessionCall } from '../messages.ts';
import type { CallMade } from './served-call.ts';
import { ServedCall } from './served-call.ts';
import { readingRequest } from '../reading-request.ts';
import { arrayOf, jsonOptions, numeral, rowsResult, textOf, textsOf, valueResult } from './values.ts';

/** What is to be embedded, and what the result is; null for what the backend is to compute. */
interface Embedding {
  texts: readonly (string | null)[];
  /** Whether the first is a query to the others. */
  ranked: boolean;
  resultOf(rows: readonly TextEmbedding[]): string[] | null;
}

class ServedEmbeddings extends ServedCall {
  protected override readonly isRemembered = true;
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
    const request = readingRequest(made.catalog, model, given, parseEmbeddingOptions(given).precision, reading);
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

/** What a call asks for of the model that it names, or that is meant. */
function serveNamed(
  made: CallMade,
  [name, options]: readonly SessionCall['args'][number][],
  asked: Embedding,
): ServedCall | null {
  const model = useDescription(made.catalog, textOf(name), 'embedding');
  return ServedEmbeddings.of(made, model, jsonOptions(options), asked);
}

export function serveEmbed(made: CallMade): ServedCall | null {
  const [input, ...more] = made.call.args;
  const text = textOf(input);
  if (text === null) return null;
  const resultOf: Embedding['resultOf'] = ([row]) => row!.embedding && valueResult(arrayOf(row!.embedding));
  return serveNamed(made, more, { texts: [text], ranked: false, resultOf });
}

export function serveEmbedBatch(made: CallMade): ServedCall | null {
  const [inputs, ...more] = made.call.args;
  const texts = textsOf(inputs);
  if (texts === null) return null;
  const resultOf: Embedding['resultOf'] = (rows) =>
    rowsResult(rows.map(({ embedding, tokens, error }, i) => [i + 1, embedding && arrayOf(embedding), tokens, error]));
  return serveNamed(made, more, { texts, ranked: false, resultOf });
}

export function serveSimilarity(made: CallMade): ServedCall | null {
  const [a, b, ...more] = made.call.args;
  const texts = [textOf(a), textOf(b)];
  if (texts.includes(null)) return null;
  const resultOf: Embedding['resultOf'] = ([one, other]) => {
    const found = cosine(one!.embedding, other!.embedding);
    return found === null ? null : valueResult(numeral(found));
  };
  return serveNamed(made, more, { texts, ranked: false, resultOf });
}

/** How near the first of some texts, a query, is to each of the others; `tell` says what the result is. */
export function serveCosines(
  made: CallMade,
  model: ModelDescription,
  options: Record<string, unknown>,
  texts: readonly (string | null)[],
  tell: (scores: readonly (number | null)[]) => string[],
): ServedCall | null {
  return ServedEmbeddings.of(made, model, options, {
    texts,
    ranked: true,
    resultOf: (rows) => tell(cosinesOfFirst(rows)),
  });
}
