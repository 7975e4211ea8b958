/** Requests of calls that read texts and do not answer them. */
import type { Catalog, ModelDescription } from '../../backend/catalog.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Precision } from '../../model/model.ts';
import { headOf, MAX_INPUT, mayAsk } from './conversing.ts';
import type { Reading, ReadingRequest } from './messages.ts';
import { readingLength } from './messages.ts';

/** Null for what an engine does not take. */
export function readingRequest(
  catalog: Catalog,
  model: ModelDescription,
  given: Record<string, unknown>,
  precision: Precision,
  reading: Reading,
): ReadingRequest | null {
  if (!mayAsk(catalog.limits)) return null;
  const options = writeJson(given);
  if (readingLength(reading) + options.length > MAX_INPUT) return null;
  return { ...headOf(catalog, model, precision, options), reading };
}
