/**
 * JSON whose objects keep the order of their members: a schema's order is that in which a model answers. JavaScript puts
 * names that are whole numbers before all others, so an object that has such names is a proxy that tells them as they
 * were written; `Object.keys`, `Object.entries` and `JSON.stringify` follow it.
 *
 * Numbers are JavaScript's, and those that it would write otherwise (1.0, integers from 2^53 on) are remembered as they were
 * written beside the object or array they stand in: for templates, for values that a schema lists, and for `writeJson`.
 */

/** Names that JavaScript would sort; more digits than an array index may have do no harm. */
const NUMBER = /^(0|[1-9]\d{0,9})$/;

/** Stands before a name that is a number, or that begins with it, while the text is parsed. */
const MARK = '#';

/** A string, and the colon after it where it is a name; or a number where no name can stand. */
const TOKEN = /"(?:[^"\\]|\\.)*"(\s*:)?|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\s*:)/gs;

/** Stands before a number that is remembered as it was written, while it is a string; no string of a JSON text holds it. */
const NUL = '\0';

/** What cannot stand in PostgreSQL's text. */
const NOT_TEXT = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** Numbers as they were written, by the object or array they stand in, and their names or places there. */
const written = new WeakMap<object, Map<string, string>>();

/** Value of a JSON text. Throws SyntaxError for what is no JSON, RangeError for strings that hold NUL or half a surrogate pair. */
export function parseJson(text: string): unknown {
  const checked = text.includes('\\u');
  let marks = 0;
  const marked = text.replace(TOKEN, (token, colon: string | undefined) => {
    if (!token.startsWith('"')) {
      if (!isRewritten(token)) return token;
      marks++;
      return `"\\u0000${token}"`;
    }
    if (checked && token.includes('\\u') && NOT_TEXT.test(valueOf(token, colon))) {
      throw new RangeError('a string holds \\u0000 or half a surrogate pair, which is no text');
    }
    if (colon === undefined) return token;
    const name = valueOf(token, colon);
    if (!NUMBER.test(name) && !name.startsWith(MARK)) return token;
    marks++;
    return JSON.stringify(MARK + name) + colon;
  });
  return marks === 0 ? JSON.parse(text) : JSON.parse(marked, unmarked);
}

/** JSON text of a value, its numbers as they were written. */
export function writeJson(value: unknown): string {
  let marks = 0;
  const text = JSON.stringify(value, function (this: object, name: string, member: unknown) {
    const number = writtenNumber(this, name);
    if (number === undefined) return member;
    marks++;
    return NUL + number;
  });
  return marks === 0 ? text : text.replace(/"\\u0000([^"]*)"/g, '$1');
}

/** The number in an object or array as it was written, where JavaScript would write it otherwise. */
export function writtenNumber(holder: object, name: string | number): string | undefined {
  return written.get(holder)?.get(String(name));
}

/** Whether JavaScript loses digits of a number, or that it was written with a point. */
function isRewritten(number: string): boolean {
  return /[.eE]/.test(number) === Number.isSafeInteger(Number(number));
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

function unmarked(this: object, name: string, value: unknown): unknown {
  if (typeof value === 'string' && value.startsWith(NUL)) {
    const number = value.slice(NUL.length);
    let numbers = written.get(this);
    if (numbers === undefined) written.set(this, (numbers = new Map<string, string>()));
    numbers.set(bare(name), number);
    return Number(number);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const names = Object.keys(value);
  if (!names.some((each) => each.startsWith(MARK))) return value;
  const members = Object.entries(value).map(([each, member]): [string, unknown] => [bare(each), member]);
  const order = members.map(([each]) => each);
  const ordered = new Proxy(Object.fromEntries(members), { ownKeys: () => order });
  const numbers = written.get(value);
  if (numbers !== undefined) written.set(ordered, numbers);
  return ordered;
}

function bare(name: string): string {
  return name.startsWith(MARK) ? name.slice(MARK.length) : name;
}
