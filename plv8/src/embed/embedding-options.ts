/** The options of embed, similarity and rerank. */
import type { OnError } from '../backend/on-error.ts';
import { onErrorOf } from '../backend/on-error.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { Pooling } from '../model/config.ts';
import { POOLINGS } from '../model/config.ts';
import type { Precision } from '../model/model.ts';
import type { TextKind } from './prefixes.ts';
import { TEXT_KINDS } from './prefixes.ts';
import { isGiven, precisionOf, refuse, show } from '../sampling/options.ts';

export interface EmbeddingOptions {
  /** what the texts are, which decides what the model gets before them; null for neither */
  kind: TextKind | null;
  /** null for the model's own */
  pooling: Pooling | null;
  /** make embeddings of length 1; null for what the model says */
  normalize: boolean | null;
  /** cut off what is longer than the model reads, rather than refuse it */
  truncate: boolean;
  /** leading elements to keep; null for all */
  dimensions: number | null;
  precision: Precision;
  onError: OnError;
}

const NAMES = ['kind', 'pooling', 'normalize', 'truncate', 'dimensions', 'precision', 'on_error'];

/** Parse options; null and missing values mean the default. Throws invalidParameterValue naming key and value. */
export function parseEmbeddingOptions(given: Record<string, unknown>): EmbeddingOptions {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    raise(SQLSTATE.invalidParameterValue, `options must be a JSON object, got ${show(given)}`);
  }
  for (const key of Object.keys(given)) {
    if (NAMES.includes(key)) continue;
    raise(SQLSTATE.invalidParameterValue, `unknown option ${show(key)}`, { hint: `options: ${NAMES.join(', ')}` });
  }
  const flag = (key: string): boolean | null => {
    const value = given[key];
    if (!isGiven(given, key)) return null;
    if (typeof value !== 'boolean') refuse(key, 'true or false', value);
    return value;
  };
  const pooling = isGiven(given, 'pooling') ? POOLINGS.find((name) => name === given.pooling) : null;
  if (pooling === undefined) refuse('pooling', `one of ${POOLINGS.join(', ')}`, given.pooling);
  const kind = isGiven(given, 'kind') ? TEXT_KINDS.find((name) => name === given.kind) : null;
  if (kind === undefined) refuse('kind', `one of ${TEXT_KINDS.join(', ')}`, given.kind);
  const dimensions = isGiven(given, 'dimensions') ? given.dimensions : null;
  if (dimensions !== null && !(typeof dimensions === 'number' && Number.isInteger(dimensions) && dimensions > 0)) {
    refuse('dimensions', 'a positive integer', dimensions);
  }
  return {
    kind,
    pooling,
    normalize: flag('normalize'),
    truncate: flag('truncate') ?? true,
    dimensions: dimensions as number | null,
    precision: precisionOf(given),
    onError: onErrorOf(given.on_error),
  };
}
