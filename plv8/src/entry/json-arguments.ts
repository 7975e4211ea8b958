/** Arguments that SQL hands over as JSON text, so that their order is the caller's. */
import { raise, SQLSTATE } from '../errors.ts';
import { parseJson } from '../format/ordered-json.ts';
import { brief } from '../format/visible-text.ts';

/** Value of an argument that PostgreSQL has found to be JSON; null for SQL null. Throws for strings that no text can hold. */
export function jsonOf(text: string | null): unknown {
  if (text === null) return null;
  try {
    return parseJson(text);
  } catch (error) {
    raise(SQLSTATE.untranslatableCharacter, `JSON cannot be read: ${brief((error as Error).message)}`, {
      cause: error,
    });
  }
}

/** Options as given; what is no object is refused where they are parsed. */
export function optionsOf(text: string | null): Record<string, unknown> | null {
  return jsonOf(text) as Record<string, unknown> | null;
}
