/**
 * JSON whose objects keep the order of their members: a schema's order is that in which a model answers. JavaScript puts
 * names that are whole numbers before all others, so an object that has such names is a proxy that tells them as they
 * were written; `Object.keys`, `Object.entries` and `JSON.stringify` follow it.
 */

/** Names that JavaScript would sort; more digits than an array index may have do no harm. */
const NUMBER = /^(0|[1-9]\d{0,9})$/;

/** Stands before a name that is a number, or that begins with it, while the text is parsed. */
const MARK = '#';

/** A string, and the colon after it where it is a name. */
const STRING = /"(?:[^"\\]|\\.)*"(\s*:)?/gs;

/** What cannot stand in PostgreSQL's text. */
const NOT_TEXT = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** Value of a JSON text. Throws SyntaxError for what is no JSON, RangeError for strings that hold NUL or half a surrogate pair. */
export function parseJson(text: string): unknown {
  const checked = text.includes('\\u');
  let marks = 0;
  const marked = text.replace(STRING, (token, colon: string | undefined) => {
    if (checked && token.includes('\\u') && NOT_TEXT.test(valueOf(token, colon))) {
      throw new RangeError('a string holds \\u0000 or half a surrogate pair, which is no text');
    }
    if (colon === undefined) return token;
    const name = valueOf(token, colon);
    if (!NUMBER.test(name) && !name.startsWith(MARK)) return token;
    marks++;
    return JSON.stringify(MARK + name) + colon;
  });
  return marks === 0 ? JSON.parse(text) : JSON.parse(marked, (_name, value: unknown) => unmarked(value));
}

function valueOf(token: string, colon: string | undefined): string {
  const string = colon === undefined ? token : token.slice(0, -colon.length);
  // What is no JSON is left to JSON.parse of the whole.
  try {
    return string.includes('\\') ? (JSON.parse(string) as string) : string.slice(1, -1);
  } catch {
    return '';
  }
}

function unmarked(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const names = Object.keys(value);
  if (!names.some((name) => name.startsWith(MARK))) return value;
  const members = Object.entries(value).map(([name, member]): [string, unknown] => [
    name.startsWith(MARK) ? name.slice(MARK.length) : name,
    member,
  ]);
  const order = members.map(([name]) => name);
  return new Proxy(Object.fromEntries(members), { ownKeys: () => order });
}
