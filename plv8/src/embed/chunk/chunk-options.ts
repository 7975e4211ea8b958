/** The options of chunk. */
import { raise, SQLSTATE } from '../../errors.ts';
import { isGiven, refuse, show } from '../../sampling/options.ts';
import type { Format } from './boundaries.ts';
import { formatOf, STRENGTH } from './boundaries.ts';

export interface ChunkOptions {
  /** most tokens of a chunk, without special ones; null for what suits the model */
  size: number | null;
  /** most tokens that a chunk repeats of the one before; null for an eighth of the size */
  overlap: number | null;
  format: Format;
  /** places of more strength than this one count as it */
  strongest: number;
}

const NAMES = ['size', 'overlap', 'by', 'format'];

/** What chunks are made of, and the strength up to which places differ. */
const BY: Readonly<Record<string, number>> = {
  token: STRENGTH.word,
  sentence: STRENGTH.sentence,
  paragraph: STRENGTH.section,
};

/** Parse options; null and missing values mean the default. Throws invalidParameterValue naming key and value. */
export function parseChunkOptions(given: Record<string, unknown>): ChunkOptions {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    raise(SQLSTATE.invalidParameterValue, `options must be a JSON object, got ${show(given)}`);
  for (const key of Object.keys(given)) {
    if (NAMES.includes(key)) continue;
    raise(SQLSTATE.invalidParameterValue, `unknown option ${show(key)}`, { hint: `options: ${NAMES.join(', ')}` });
  }
  const whole = (key: string, least: number): number | null => {
    if (!isGiven(given, key)) return null;
    const value = given[key];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least)
      refuse(key, `a whole number of at least ${least}`, value);
    return value as number;
  };
  const by = isGiven(given, 'by') ? given.by : 'paragraph';
  if (typeof by !== 'string' || !Object.hasOwn(BY, by)) refuse('by', `one of ${Object.keys(BY).join(', ')}`, by);
  return {
    size: whole('size', 1),
    overlap: whole('overlap', 0),
    format: isGiven(given, 'format') ? formatOf(given.format) : 'text',
    strongest: BY[by as string]!,
  };
}
