/** Methods of Python's str over texts that know where they came from. */
import { bind, needCount, needText } from './arguments.ts';
import type { Budget } from './budget.ts';
import { SPACES } from './lexer.ts';
import { elementAt, isPlain, sliceOf } from './sequences.ts';
import { joinTexts, Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import { iterate, List, None, TemplateError, text, textCharacters, Tuple, typeName } from './values.ts';

const LEADING_SPACE = new RegExp(`^[${SPACES}]+`);
const TRAILING_SPACE = new RegExp(`[${SPACES}]+$`);
const SPACE_RUN = new RegExp(`[${SPACES}]+`, 'g');
const LINE_END = new RegExp(`\r\n|[\n\v\f\r${'\x1c-\x1e'}\x85\u2028\u2029]`, 'g');

export type Side = 'left' | 'right' | 'both';

/** Take the characters of `set` away at the sides; white space where it is null. */
export function strip(value: Text, set: Text | null, side: Side): Text {
  const { chars } = value;
  let [start, end] = [0, chars.length];
  if (set === null) {
    if (side !== 'right') start = LEADING_SPACE.exec(chars)?.[0].length ?? 0;
    if (side !== 'left') end = TRAILING_SPACE.exec(chars)?.index ?? end;
    return value.slice(start, Math.max(start, end));
  }
  const gone = new Set(set.chars);
  const sizeAt = (at: number): number => (chars.codePointAt(at)! > 0xffff ? 2 : 1);
  if (side !== 'right')
    while (start < end && gone.has(chars.slice(start, start + sizeAt(start)))) start += sizeAt(start);
  if (side !== 'left') {
    for (;;) {
      const size = end - 2 >= start && chars.codePointAt(end - 2)! > 0xffff ? 2 : 1;
      if (end <= start || !gone.has(chars.slice(end - size, end))) break;
      end -= size;
    }
  }
  return value.slice(start, end);
}

/** str.split: at each `separator`, or at runs of white space where it is null; at most `most` times from the left. */
export function split(value: Text, separator: Text | null, most: number): Text[] {
  if (separator === null) return splitWords(value, most);
  if (separator.length === 0) throw new TemplateError('empty separator');
  const parts: Text[] = [];
  let from = 0;
  while (parts.length !== most) {
    const at = value.chars.indexOf(separator.chars, from);
    if (at < 0) break;
    parts.push(value.slice(from, at));
    from = at + separator.length;
  }
  parts.push(value.slice(from));
  return parts;
}

function splitWords(value: Text, most: number): Text[] {
  const parts: Text[] = [];
  let rest = strip(value, null, 'left');
  while (rest.length > 0) {
    SPACE_RUN.lastIndex = 0;
    const found = parts.length === most ? null : SPACE_RUN.exec(rest.chars);
    if (found === null) {
      parts.push(parts.length === most ? rest : strip(rest, null, 'right'));
      break;
    }
    parts.push(rest.slice(0, found.index));
    rest = rest.slice(found.index + found[0].length);
  }
  return parts;
}

/** As split, from the right. */
function splitFromRight(value: Text, separator: Text | null, most: number): Text[] {
  if (most < 0) return split(value, separator, -1);
  if (separator?.length === 0) throw new TemplateError('empty separator');
  const parts: Text[] = [];
  let rest = separator === null ? strip(value, null, 'right') : value;
  while (parts.length < most && rest.length > 0) {
    const [start, end] = lastSeparator(rest.chars, separator?.chars ?? null);
    if (start < 0) break;
    parts.push(rest.slice(end));
    rest = rest.slice(0, start);
  }
  if (separator !== null || rest.length > 0) parts.push(rest);
  return parts.reverse();
}

/** Where the last separator begins and ends; -1 where there is none, or nothing but white space before it. */
function lastSeparator(chars: string, separator: string | null): [start: number, end: number] {
  if (separator !== null) {
    const at = chars.lastIndexOf(separator);
    return [at, at + separator.length];
  }
  const last = [...chars.matchAll(SPACE_RUN)].at(-1);
  return last === undefined ? [-1, -1] : [last.index, last.index + last[0].length];
}

export function splitLines(value: Text, keepEnds = false): Text[] {
  const lines: Text[] = [];
  let from = 0;
  for (const found of value.chars.matchAll(LINE_END)) {
    const end = found.index + found[0].length;
    lines.push(value.slice(from, keepEnds ? end : found.index));
    from = end;
  }
  if (from < value.length) lines.push(value.slice(from));
  return lines;
}

/** str.replace; `most` below 0 for all. */
export function replace(value: Text, old: Text, by: Text, most: number, budget: Budget): Text {
  if (old.length > 0) {
    if (!value.chars.includes(old.chars)) return value;
    const parts = split(value, old, most);
    budget.charge(parts.length);
    budget.make(value.length + parts.length * by.length);
    return joinWith(by, parts);
  }
  const between = textCharacters(value);
  const out: Text[] = [];
  for (let i = 0; i <= between.length; i++) {
    if (most < 0 || i < most) out.push(by);
    if (i < between.length) out.push(between[i]!);
  }
  budget.make(value.length + out.length * by.length);
  return joinTexts(out);
}

export function joinWith(separator: Text, parts: readonly Text[]): Text {
  const out: Text[] = [];
  parts.forEach((part, i) => {
    if (i > 0 && separator.length > 0) out.push(separator);
    out.push(part);
  });
  return joinTexts(out);
}

/** First character in upper case, the rest in lower case. */
export function capitalize(value: Text): Text {
  const first = (elementAt(value, 0) as Text | undefined) ?? value;
  return joinTexts([
    first.map((chars) => chars.toUpperCase()),
    value.slice(first.length).map((chars) => chars.toLowerCase()),
  ]);
}

/** str.title: each run of letters begins in upper case. */
function title(value: Text): Text {
  return value.map((chars) =>
    chars.replace(/\p{Cased}[\p{Cased}\p{Mn}]*/gu, (word) => {
      const first = String.fromCodePoint(word.codePointAt(0)!);
      return first.toUpperCase() + word.slice(first.length).toLowerCase();
    }),
  );
}

/** The text in a field of `width` characters. */
export function justify(
  value: Text,
  width: number,
  fill: string,
  place: 'left' | 'right' | 'center',
  budget: Budget,
): Text {
  const room = width - Array.from(value.chars).length;
  if (room <= 0) return value;
  budget.make(width);
  // As CPython does: an odd blank goes to the left where the width is odd.
  const before = place === 'left' ? 0 : place === 'right' ? room : (room >> 1) + (room & width & 1);
  return joinTexts([text(fill.repeat(before)), value, text(fill.repeat(room - before))]);
}

const IS: Readonly<Record<string, (chars: string) => boolean>> = {
  isalnum: (chars) => /^[\p{L}\p{Nd}\p{No}\p{Nl}]+$/u.test(chars),
  isalpha: (chars) => /^\p{L}+$/u.test(chars),
  isascii: (chars) => /^[\0-\x7f]*$/.test(chars),
  isdecimal: (chars) => /^\p{Nd}+$/u.test(chars),
  isdigit: (chars) => /^[\p{Nd}\u00b2\u00b3\u00b9\u2070-\u2079\u2080-\u2089\u2460-\u2468]+$/u.test(chars),
  isidentifier: (chars) => /^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$/u.test(chars),
  islower: (chars) => /\p{Ll}/u.test(chars) && !/[\p{Lu}\p{Lt}]/u.test(chars),
  isnumeric: (chars) => /^\p{N}+$/u.test(chars),
  isprintable: (chars) => !/[\p{C}\p{Z}]/u.test(chars.replaceAll(' ', '')),
  isspace: (chars) => new RegExp(`^[${SPACES}]+$`).test(chars),
  istitle: (chars) => /\p{Cased}/u.test(chars) && title(text(chars)).chars === chars,
  isupper: (chars) => /\p{Lu}/u.test(chars) && !/[\p{Ll}\p{Lt}]/u.test(chars),
};

/** Where `part` stands within [start, end) of the text, in UTF-16 units. */
function window(
  value: Text,
  start: Value | undefined,
  end: Value | undefined,
  budget: Budget,
): { from: number; inside: Text } {
  const count = (given: Value | undefined): number | null =>
    given === undefined || given instanceof None ? null : needCount('index', given);
  const [first, last] = [count(start), count(end)];
  const inside = sliceOf(value, { start: first, stop: last, step: 1 }, budget) as Text;
  const before = first === null ? 0 : (sliceOf(value, { start: 0, stop: first, step: 1 }, budget) as Text).length;
  return { from: before, inside };
}

function affix(called: string, value: Text, args: Arguments, budget: Budget): boolean {
  const [wanted, start, end] = bind(called, args, ['prefix', 'start', 'end'], 1);
  const { inside } = window(value, start, end, budget);
  const options = wanted instanceof Tuple ? wanted.items : [wanted!];
  return options.some((option) => {
    const { chars } = needText(called, option);
    return called === 'startswith' ? inside.chars.startsWith(chars) : inside.chars.endsWith(chars);
  });
}

function find(called: string, value: Text, args: Arguments, budget: Budget): number {
  const [wanted, start, end] = bind(called, args, ['sub', 'start', 'end'], 1);
  const { from, inside } = window(value, start, end, budget);
  const { chars } = needText(called, wanted!);
  const at = called.startsWith('r') ? inside.chars.lastIndexOf(chars) : inside.chars.indexOf(chars);
  if (at < 0) {
    if (called.endsWith('index')) throw new TemplateError('substring not found');
    return -1;
  }
  return isPlain(value.chars) ? from + at : Array.from(value.chars.slice(0, from + at)).length;
}

function count(value: Text, args: Arguments, budget: Budget): number {
  const [wanted, start, end] = bind('count', args, ['sub', 'start', 'end'], 1);
  const { inside } = window(value, start, end, budget);
  const part = needText('count', wanted!);
  return part.length === 0 ? Array.from(inside.chars).length + 1 : split(inside, part, -1).length - 1;
}

function partition(value: Text, separator: Text, fromRight: boolean): Tuple {
  if (separator.length === 0) throw new TemplateError('empty separator');
  const at = fromRight ? value.chars.lastIndexOf(separator.chars) : value.chars.indexOf(separator.chars);
  if (at < 0) return new Tuple(fromRight ? [text(''), text(''), value] : [value, text(''), text('')]);
  const end = at + separator.length;
  // The separator as it stands in the text, whose origin it has.
  return new Tuple([value.slice(0, at), value.slice(at, end), value.slice(end)]);
}

/** Call a method of a text; undefined for a name that is none. `format` and `format_map` are the interpreter's. */
export function stringMethod(value: Text, name: string, budget: Budget): ((args: Arguments) => Value) | undefined {
  const stripping = (side: Side) => (args: Arguments) => {
    const [set] = bind(name, args, ['chars']);
    return strip(value, set === undefined || set instanceof None ? null : needText(name, set), side);
  };
  const splitting = (how: typeof split) => (args: Arguments) => {
    const [separator, most] = bind(name, args, ['sep', 'maxsplit']);
    const at = separator === undefined || separator instanceof None ? null : needText(name, separator);
    const parts = how(value, at, most === undefined ? -1 : needCount(name, most));
    budget.makeList(parts.length);
    return new List(parts);
  };
  const changing = (change: (chars: string) => string) => (args: Arguments) => {
    bind(name, args, []);
    return value.map(change);
  };
  const justifying = (place: 'left' | 'right' | 'center') => (args: Arguments) => {
    const [width, fill] = bind(name, args, ['width', 'fillchar'], 1);
    return justify(
      value,
      needCount(name, width!),
      fill === undefined ? ' ' : needText(name, fill).chars,
      place,
      budget,
    );
  };
  const testing = Object.hasOwn(IS, name) ? IS[name] : undefined;
  if (testing !== undefined)
    return (args) => {
      bind(name, args, []);
      return testing(value.chars);
    };
  switch (name) {
    case 'strip':
      return stripping('both');
    case 'lstrip':
      return stripping('left');
    case 'rstrip':
      return stripping('right');
    case 'split':
      return splitting(split);
    case 'rsplit':
      return splitting(splitFromRight);
    case 'splitlines':
      return (args) => new List(splitLines(value, bind(name, args, ['keepends'])[0] === true));
    case 'partition':
    case 'rpartition':
      return (args) => partition(value, needText(name, bind(name, args, ['sep'], 1)[0]!), name === 'rpartition');
    case 'replace':
      return (args) => {
        const [old, by, most] = bind(name, args, ['old', 'new', 'count'], 2);
        return replace(
          value,
          needText(name, old!),
          needText(name, by!),
          most === undefined ? -1 : needCount(name, most),
          budget,
        );
      };
    case 'startswith':
    case 'endswith':
      return (args) => affix(name, value, args, budget);
    case 'removeprefix':
    case 'removesuffix':
      return (args) => {
        const part = needText(name, bind(name, args, ['affix'], 1)[0]!);
        if (name === 'removeprefix') return value.chars.startsWith(part.chars) ? value.slice(part.length) : value;
        return value.chars.endsWith(part.chars) ? value.slice(0, value.length - part.length) : value;
      };
    case 'find':
    case 'rfind':
    case 'index':
    case 'rindex':
      return (args) => find(name, value, args, budget);
    case 'count':
      return (args) => count(value, args, budget);
    case 'join':
      return (args) => {
        const parts = iterate(bind(name, args, ['iterable'], 1)[0]!).map((part, i) => {
          if (part instanceof Text) return part;
          throw new TemplateError(`sequence item ${i}: expected str instance, ${typeName(part)} found`);
        });
        budget.make(parts.reduce((size, part) => size + part.length + value.length, 0));
        return joinWith(value, parts);
      };
    case 'upper':
      return changing((chars) => chars.toUpperCase());
    case 'lower':
      return changing((chars) => chars.toLowerCase());
    case 'casefold':
      return changing((chars) => chars.toUpperCase().toLowerCase());
    case 'swapcase':
      return changing((chars) =>
        chars.replace(/\p{Cased}/gu, (one) => (one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase())),
      );
    case 'capitalize':
      return () => capitalize(value);
    case 'title':
      return () => title(value);
    case 'ljust':
      return justifying('left');
    case 'rjust':
      return justifying('right');
    case 'center':
      return justifying('center');
    case 'zfill':
      return (args) => {
        const sign = /^[+-]/.test(value.chars) ? 1 : 0;
        const width = needCount(name, bind(name, args, ['width'], 1)[0]!) - sign;
        return joinTexts([value.slice(0, sign), justify(value.slice(sign), width, '0', 'right', budget)]);
      };
    case 'expandtabs':
      return (args) => {
        const size = needCount(name, bind(name, args, ['tabsize'])[0] ?? 8);
        return expandTabs(value, size, budget);
      };
    default:
      return undefined;
  }
}

function expandTabs(value: Text, size: number, budget: Budget): Text {
  let column = 0;
  const parts = textCharacters(value).map((character) => {
    if (character.chars === '\t') {
      const blanks = size <= 0 ? 0 : size - (column % size);
      budget.make(blanks);
      column += blanks;
      return text(' '.repeat(blanks));
    }
    column = character.chars === '\n' || character.chars === '\r' ? 0 : column + 1;
    return character;
  });
  return joinTexts(parts);
}
