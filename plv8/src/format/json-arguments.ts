/** Arguments that SQL hands over as JSON text, so that their order is the caller's. */
import { raise, SQLSTATE } from '../errors.ts';
import { parseJson } from './ordered-json.ts';
import { brief } from './visible-text.ts';

/** Value of a JSON text; null for SQL null. Throws for what is no JSON, quoting nothing of it, and for strings that no text can hold. */
export function jsonOf(text: string | null): unknown {
  if (text === null) return null;
  try {
    return parseJson(text);
  } catch (error) {
    const { message } = error as Error;
    if (!(error instanceof SyntaxError)) {
      raise(SQLSTATE.untranslatableCharacter, `JSON cannot be read: ${brief(message)}`, { cause: error });
    }
    // Behind these V8 gives a part of the text.
    const detail = brief(message.split(/, (?:"|\.{3})/)[0]!);
    raise(SQLSTATE.invalidTextRepresentation, 'invalid input syntax for type json', { detail, cause: error });
  }
}

/** Options as given; what is no object is refused where they are parsed. */
export function optionsOf(text: string | null): Record<string, unknown> | null {
  return jsonOf(text) as Record<string, unknown> | null;
}
