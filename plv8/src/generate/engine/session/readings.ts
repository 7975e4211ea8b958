/** Requests of calls that read texts and do not answer them. */
import type { Catalog, ModelDescription } from '../../../backend/catalog.ts';
import type { EmbeddingOptions } from '../../../embed/embedding-options.ts';
import { writeJson } from '../../../format/ordered-json.ts';
import { MAX_INPUT, mayAsk, requestHead } from '../conversing.ts';
import type { Reading, ReadingRequest } from '../messages.ts';
import { readingLength, storedOf } from '../messages.ts';

/** Null for what an engine does not take. */
export function readingRequest(
  catalog: Catalog,
  model: ModelDescription,
  given: Record<string, unknown>,
  { precision }: Pick<EmbeddingOptions, 'precision'>,
  reading: Reading,
): ReadingRequest | null {
  const options = writeJson(given);
  if (!mayAsk(catalog.limits) || readingLength(reading) + options.length > MAX_INPUT) return null;
  const head = requestHead(catalog, model, {
    stored: storedOf(model),
    precision,
    options,
    limits: [...catalog.limits],
  });
  return { ...head, reading };
}
