/**
 * Texts from outside as a line may show them: short, and without characters that a terminal obeys. Escapes are those of
 * JavaScript and of psql (\x1b, \u202e).
 */

/** Characters that errors quote of what they were given. */
export const MOST_QUOTED = 200;

/** C0 but tab and line feed, DEL, C1, and what turns the direction of the text around it. */
const OBEYED = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g; // eslint-disable-line no-control-regex

function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16);
  return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u${code}`;
}

/** The text with what a terminal would obey written out; tabs and line ends stay. */
export function visible(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(OBEYED, escaped);
}

/** JSON that says the same without them: its strings have escapes of their own. */
export function visibleJson(json: string): string {
  return json.replace(OBEYED, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Whether a text has characters that no name may have: control characters, or what turns the direction of a text. */
export function hasControls(text: string): boolean {
  return text.search(OBEYED) >= 0 || /[\t\n]/.test(text);
}

/** A text for a line of an error: at most `most` of its characters, its middle left out, and all of them visible. */
export function brief(text: string, most: number = MOST_QUOTED): string {
  if (text.length > most) {
    const tail = Math.floor((most - 3) / 3);
    text = `${text.slice(0, most - 3 - tail)}...${text.slice(text.length - tail)}`;
  }
  return visible(text);
}

function asJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch (error) {
    if (error instanceof RangeError) return 'what nests too deep to be shown';
    throw error;
  }
}

/** A value as JSON for a line of an error: at most `most` characters of it. */
export function quoted(value: unknown, most: number = MOST_QUOTED): string {
  const text = typeof value === 'bigint' ? value.toString() : asJson(value);
  return visible(text.length > most ? `${text.slice(0, most - 3)}...` : text);
}
