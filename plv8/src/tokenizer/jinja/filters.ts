/** Jinja's filters: https://jinja.palletsprojects.com/en/stable/templates/#list-of-builtin-filters */
import { bind, needCount, needText } from './arguments.ts';
import type { Budget } from './budget.ts';
import { formatPercent } from './format.ts';
import { SPACES } from './lexer.ts';
import { escapeText, Markup } from './markup.ts';
import { arithmetic } from './operators.ts';
import { sliceOf } from './sequences.ts';
import { represent, show, toJson } from './show.ts';
import { capitalize, joinWith, justify, replace, splitLines, strip } from './strings.ts';
import { joinTexts, Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import {
  compare,
  Dict,
  Float,
  Generator,
  integer,
  isTrue,
  iterate,
  lengthOf,
  List,
  needDefined,
  None,
  numberOf,
  TemplateError,
  text,
  Tuple,
  typeName,
  Undefined,
} from './values.ts';

/** What filters ask of the interpreter. */
export interface FilterContext {
  budget: Budget;
  attribute: (of: Value, name: string) => Value;
  item: (of: Value, key: Value) => Value;
  filter: (name: string, value: Value, args: Arguments) => Value;
  test: (name: string, value: Value, args: Arguments) => boolean;
}

/** Parameters behind the value; `required` of them must be given. */
interface Filter {
  parameters: readonly string[];
  required?: number;
  apply: (context: FilterContext, value: Value, args: (Value | undefined)[], all: Arguments) => Value;
}

const filter = (apply: Filter['apply'], parameters: readonly string[] = [], required = 0): Filter => ({
  parameters,
  required,
  apply,
});

/** A filter of the value as text. */
const ofText = (
  apply: (context: FilterContext, value: Text, args: (Value | undefined)[]) => Value,
  parameters: readonly string[] = [],
  required = 0,
): Filter => filter((context, value, args) => apply(context, show(value, context.budget), args), parameters, required);

const isGiven = (value: Value | undefined): value is Exclude<Value, None> =>
  value !== undefined && !(value instanceof None);

/** What `attribute` of a filter takes out of each value: names and indexes with dots between them. */
function getter(context: FilterContext, attribute: Value | undefined, otherwise?: Value): (value: Value) => Value {
  if (!isGiven(attribute)) return (value) => value;
  const keys: Value[] =
    attribute instanceof Text
      ? attribute.chars.split('.').map((key) => (/^\d+$/.test(key) ? Number(key) : text(key)))
      : [attribute];
  return (value) =>
    keys.reduce<Value>((of, key) => {
      const found = context.item(of, key);
      return found instanceof Undefined && isGiven(otherwise) ? otherwise : found;
    }, value);
}

const folded = (value: Value): Value => (value instanceof Text ? text(value.chars.toLowerCase()) : value);

function sorted(values: readonly Value[], keyOf: (value: Value) => Value, budget: Budget, reverse = false): Value[] {
  const keyed = values.map((value) => [keyOf(value), value] as const);
  budget.makeList(values.length);
  keyed.sort(([a], [b]) => (reverse ? compare(b, a, '<', budget) : compare(a, b, '<', budget)));
  return keyed.map(([, value]) => value);
}

function sortKey(
  context: FilterContext,
  attribute: Value | undefined,
  caseSensitive: boolean,
): (value: Value) => Value {
  const fold = caseSensitive ? (value: Value): Value => value : folded;
  if (!(attribute instanceof Text) || !attribute.chars.includes(',')) {
    const get = getter(context, attribute);
    return (value) => fold(get(value));
  }
  const getters = attribute.chars.split(',').map((name) => getter(context, text(name)));
  return (value) => new List(getters.map((get) => fold(get(value))));
}

function extreme(sign: '<' | '>'): Filter {
  return filter(
    (context, value, [caseSensitive, attribute]) => {
      const key = sortKey(context, attribute, isTrue(caseSensitive ?? false));
      let best: Value | undefined;
      for (const each of iterate(value)) {
        const order = best === undefined ? -1 : compare(key(each), key(best), sign, context.budget);
        if (best === undefined || (sign === '<' ? order < 0 : order > 0)) best = each;
      }
      return best ?? new Undefined('No aggregated item, sequence was empty.');
    },
    ['case_sensitive', 'attribute'],
  );
}

/** As Jinja's map and select have it, nothing to go through is no error, whatever it is. */
function givenValues(value: Value): readonly Value[] {
  return isTrue(value) ? iterate(value) : [];
}

function choosing(keep: boolean, byAttribute: boolean): Filter['apply'] {
  return (context, value, _args, all) => {
    const rest = [...all.positional];
    if (byAttribute && rest.length === 0) throw new TemplateError('Missing parameter for attribute name');
    const get = byAttribute ? getter(context, rest.shift()) : (each: Value): Value => each;
    const name = rest.shift();
    const args: Arguments = { positional: rest, named: all.named };
    const test =
      name === undefined ? isTrue : (each: Value): boolean => context.test(needText('test', name).chars, each, args);
    return new Generator(givenValues(value).filter((each) => test(get(each)) === keep));
  };
}

function mapped(context: FilterContext, value: Value, all: Arguments): Value {
  const values = givenValues(value);
  const attribute = all.named.get('attribute');
  if (all.positional.length === 0 && attribute !== undefined)
    return new Generator(values.map(getter(context, attribute, all.named.get('default'))));
  const [name, ...rest] = all.positional;
  if (name === undefined) throw new TemplateError('map requires a filter argument');
  return new Generator(
    values.map((each) => context.filter(needText('map', name).chars, each, { positional: rest, named: all.named })),
  );
}

function toInteger(value: Value, otherwise: Value, base: number): Value {
  needDefined(value);
  if (value instanceof Text) {
    const plain = strip(value, null, 'both').chars.replace(/(?<=\d)_(?=\d)/g, '');
    const wanted = /^([+-]?)(?:0[xX](?=[\da-fA-F]))?([\da-zA-Z]+)$/.exec(plain);
    if (base === 10 && /^[+-]?\d+$/.test(plain)) return integer(BigInt(plain.replace('+', '')));
    if (base !== 10 && wanted !== null) {
      const parsed = parseInt(wanted[2]!, base);
      if (parsed.toString(base).toLowerCase() === wanted[2]!.toLowerCase().replace(/^0+(?=.)/, ''))
        return wanted[1] === '-' ? -parsed : parsed;
    }
    const float = parseFloatText(plain);
    return float === undefined || !Number.isFinite(float) ? otherwise : integer(BigInt(Math.trunc(float)));
  }
  const number = numberOf(value);
  if (number === undefined || (typeof number === 'number' && !Number.isFinite(number))) return otherwise;
  return typeof number === 'bigint' ? number : integer(BigInt(Math.trunc(number)));
}

function parseFloatText(plain: string): number | undefined {
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(plain)) return Number(plain);
  const named = /^([+-]?)(?:inf|infinity|(nan))$/i.exec(plain);
  if (named === null) return undefined;
  return named[2] === undefined ? (named[1] === '-' ? -Infinity : Infinity) : NaN;
}

function toFloat(value: Value, otherwise: Value): Value {
  needDefined(value);
  const number =
    value instanceof Text
      ? parseFloatText(strip(value, null, 'both').chars.replace(/(?<=\d)_(?=\d)/g, ''))
      : numberOf(value);
  return number === undefined ? otherwise : new Float(Number(number));
}

/** round(): to the nearest, halves to the even one, as Python does. */
function rounded(value: Value, precision: number, method: string): Value {
  needDefined(value);
  const number = numberOf(value);
  if (number === undefined) throw new TemplateError(`type ${typeName(value)} doesn't define __round__ method`);
  if (!['common', 'ceil', 'floor'].includes(method)) throw new TemplateError('method must be common, ceil or floor');
  if (method !== 'common') {
    const scale = 10 ** precision;
    return new Float((method === 'ceil' ? Math.ceil : Math.floor)(Number(number) * scale) / scale);
  }
  if (!(value instanceof Float)) {
    if (precision >= 0) return number;
    const scale = 10n ** BigInt(Math.min(-precision, 400));
    return integer(halfToEven(BigInt(number), scale));
  }
  if (precision > 0) {
    // The shortest digits that give the number back decide, but for exact halves.
    const exact = Number(number).toFixed(Math.min(100, precision + 30));
    return new Float(roundDecimal(exact, precision));
  }
  const scale = 10 ** -precision;
  const scaled = Number(number) / scale;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return new Float((rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor) * scale);
}

/** The multiple of `scale` that is nearest, of two the even one. */
function halfToEven(value: bigint, scale: bigint): bigint {
  const size = value < 0n ? -value : value;
  const [count, rest] = [size / scale, (size % scale) * 2n];
  const nearest = (rest > scale || (rest === scale && count % 2n === 1n) ? count + 1n : count) * scale;
  return value < 0n ? -nearest : nearest;
}

/** A decimal text cut to `precision` digits behind the point, halves to the even one. */
function roundDecimal(exact: string, precision: number): number {
  const at = exact.indexOf('.') + 1 + precision;
  const [kept, rest] = [exact.slice(0, at), exact.slice(at)];
  const half = `5${'0'.repeat(rest.length - 1)}`;
  const isOdd = Number(kept.at(-1)) % 2 === 1;
  if (rest < half || (rest === half && !isOdd)) return Number(kept);
  const digits = BigInt(kept.replace(/[-.]/g, '')) + 1n;
  const size = Number(digits) / 10 ** precision;
  const shown = String(digits).padStart(precision + 1, '0');
  const text = `${shown.slice(0, shown.length - precision)}.${shown.slice(shown.length - precision)}`;
  return (exact.startsWith('-') ? -1 : 1) * (Number.isFinite(size) ? Number(text) : size);
}

/** Words of a text for `title`: they begin after white space, hyphens and opening brackets. */
const WORD_BEGINNINGS = new RegExp(`([-${SPACES}({\\[<]+)`);

const SPACE_RUNS = new RegExp(`[${SPACES}]+`, 'g');

function titleOf(value: Text): Text {
  const parts: Text[] = [];
  let at = 0;
  for (const part of value.chars.split(WORD_BEGINNINGS)) {
    parts.push(capitalize(value.slice(at, at + part.length)));
    at += part.length;
  }
  return joinTexts(parts);
}

function indent(context: FilterContext, value: Text, [width, first, blank]: (Value | undefined)[]): Text {
  const by = width instanceof Text ? width : text(' '.repeat(needCount('indent', width ?? 4)));
  const lines = splitLines(joinTexts([value, text('\n')]));
  context.budget.make(value.length + lines.length * by.length);
  const blanks = isTrue(blank ?? false);
  const shown = lines.map((line, i) => {
    const isIndented = i === 0 ? isTrue(first ?? false) : blanks || line.length > 0;
    return isIndented ? joinTexts([by, line]) : line;
  });
  return joinWith(text('\n'), shown);
}

function truncate(context: FilterContext, value: Text, args: (Value | undefined)[]): Text {
  const [length, killWords, ending, leeway] = args;
  const most = needCount('truncate', length ?? 255);
  const end = isGiven(ending) ? needText('truncate', ending) : text('...');
  const size = lengthOf(value)!;
  if (size <= most + (isGiven(leeway) ? needCount('truncate', leeway) : 5)) return value;
  const kept = sliceOf(value, { start: null, stop: most - lengthOf(end)!, step: null }, context.budget) as Text;
  const space = kept.chars.lastIndexOf(' ');
  return joinTexts([isTrue(killWords ?? false) || space < 0 ? kept : kept.slice(0, space), end]);
}

function batches(context: FilterContext, value: Value, [count, fill]: (Value | undefined)[]): Value {
  const size = needCount('batch', count!);
  if (size < 1) throw new TemplateError('batch needs a size of at least 1');
  const values = iterate(value);
  const out: Value[] = [];
  for (let i = 0; i < values.length; i += size) {
    const batch = values.slice(i, i + size);
    if (isGiven(fill)) {
      context.budget.makeList(size);
      while (batch.length < size) batch.push(fill);
    }
    out.push(new List(batch));
  }
  return new Generator(out);
}

function slices(context: FilterContext, value: Value, [count, fill]: (Value | undefined)[]): Value {
  const values = iterate(value);
  const pieces = needCount('slice', count!);
  if (pieces < 1) throw new TemplateError('integer division or modulo by zero');
  context.budget.makeList(pieces);
  const each = Math.floor(values.length / pieces);
  const longer = values.length % pieces;
  let at = 0;
  return new Generator(
    Array.from({ length: pieces }, (_, i) => {
      const size = each + (i < longer ? 1 : 0);
      const piece = values.slice(at, at + size);
      at += size;
      if (isGiven(fill) && i >= longer) piece.push(fill);
      return new List(piece);
    }),
  );
}

function grouped(
  context: FilterContext,
  value: Value,
  [attribute, otherwise, caseSensitive]: (Value | undefined)[],
): Value {
  const get = getter(context, attribute, otherwise);
  const key = isTrue(caseSensitive ?? false) ? get : (each: Value): Value => folded(get(each));
  const groups: { key: Value; shown: Value; items: Value[] }[] = [];
  for (const each of sorted(iterate(value), key, context.budget)) {
    const last = groups.at(-1);
    if (last !== undefined && compare(last.key, key(each), '<', context.budget) === 0) last.items.push(each);
    else groups.push({ key: key(each), shown: get(each), items: [each] });
  }
  return new List(groups.map((group) => new Tuple([group.shown, new List(group.items)])));
}

function jsonFilter(context: FilterContext, value: Value, args: (Value | undefined)[]): Text {
  const [ensureAscii, indentation, separators, sortKeys] = args;
  const style = {
    ensureAscii: isTrue(ensureAscii ?? false),
    indent: !isGiven(indentation)
      ? null
      : indentation instanceof Text
        ? indentation.chars
        : ' '.repeat(Math.max(0, needCount('tojson', indentation))),
    separators: isGiven(separators)
      ? (iterate(separators).map((each) => needText('tojson', each)) as [Text, Text])
      : null,
    sortKeys: isTrue(sortKeys ?? false),
  };
  if (style.separators !== null && style.separators.length !== 2)
    throw new TemplateError('not enough values to unpack (expected 2)');
  return toJson(value, style, context.budget);
}

const escaped = ofText((_context, value) => escapeText(value));

function quoteUrl(value: Text): Text {
  return value.mapStretches((chars) =>
    encodeURIComponent(chars)
      .replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
      .replaceAll('%2F', '/'),
  );
}

function urlEncoded(context: FilterContext, value: Value): Text {
  if (value instanceof Text || !(value instanceof Dict || value instanceof List || value instanceof Tuple))
    return quoteUrl(show(value, context.budget));
  const pairs = value instanceof Dict ? value.items() : value.items;
  const query = (part: Value): Text =>
    quoteUrl(show(part, context.budget)).map((chars) => chars.replaceAll('/', '%2F').replaceAll('%20', '+'));
  return joinWith(
    text('&'),
    pairs.map((pair) => joinWith(text('='), iterate(pair).map(query))),
  );
}

function defaulted(value: Value, otherwise: Value | undefined, boolean: boolean): Value {
  return value instanceof Undefined || (boolean && !isTrue(value)) ? (otherwise ?? text('')) : value;
}

function reversed(context: FilterContext, value: Value): Value {
  if (value instanceof Text) return sliceOf(value, { start: null, stop: null, step: -1 }, context.budget);
  return new Generator([...iterate(value)].reverse(), 'list_reverseiterator');
}

function joined(context: FilterContext, value: Value, [separator, attribute]: (Value | undefined)[]): Text {
  const get = getter(context, attribute);
  const parts = iterate(value).map((each) => show(get(each), context.budget));
  const between = separator === undefined ? text('') : show(separator, context.budget);
  context.budget.make(parts.reduce((size, part) => size + part.length + between.length, 0));
  return joinWith(between, parts);
}

function first(value: Value): Value {
  const found = value instanceof Generator ? value.next() : iterate(value)[0];
  return found ?? new Undefined('No first item, sequence was empty.');
}

function last(value: Value): Value {
  if (value instanceof Generator) throw new TemplateError(`'${value.kind}' object is not reversible`);
  return iterate(value).at(-1) ?? new Undefined('No last item, sequence was empty.');
}

function counted(value: Value): number {
  const length = lengthOf(value);
  if (length === undefined) throw new TemplateError(`object of type '${typeName(value)}' has no len()`);
  return length;
}

const LENGTH = filter((_context, value) => counted(value));
const DEFAULT = filter(
  (_context, value, [otherwise, boolean]) => defaulted(value, otherwise, isTrue(boolean ?? false)),
  ['default_value', 'boolean'],
);
const ANY: readonly string[] = [];

const FILTERS: Readonly<Record<string, Filter>> = {
  abs: filter((_context, value) => {
    needDefined(value);
    const number = numberOf(value);
    if (number === undefined) throw new TemplateError(`bad operand type for abs(): '${typeName(value)}'`);
    if (value instanceof Float) return new Float(Math.abs(value.value));
    return number < 0 ? integer(-BigInt(number)) : number;
  }),
  attr: filter((context, value, [name]) => context.attribute(value, show(name!, context.budget).chars), ['name'], 1),
  batch: filter(batches, ['linecount', 'fill_with'], 1),
  capitalize: ofText((_context, value) => capitalize(value)),
  center: ofText(
    (context, value, [width]) => justify(value, needCount('center', width ?? 80), ' ', 'center', context.budget),
    ['width'],
  ),
  count: LENGTH,
  d: DEFAULT,
  default: DEFAULT,
  dictsort: filter(
    (context, value, [caseSensitive, by, reverse]) => {
      needDefined(value);
      if (!(value instanceof Dict)) throw new TemplateError(`'${typeName(value)}' object has no attribute 'items'`);
      const at = by === undefined || (by instanceof Text && by.chars === 'key') ? 0 : 1;
      if (at === 1 && !(by instanceof Text && by.chars === 'value'))
        throw new TemplateError('You can only sort by either "key" or "value"');
      const fold = isTrue(caseSensitive ?? false) ? (each: Value): Value => each : folded;
      const key = (pair: Value): Value => fold((pair as Tuple).items[at]!);
      return new List(sorted(value.items(), key, context.budget, isTrue(reverse ?? false)));
    },
    ['case_sensitive', 'by', 'reverse'],
  ),
  e: escaped,
  escape: escaped,
  first: filter((_context, value) => first(value)),
  float: filter((_context, value, [otherwise]) => toFloat(value, otherwise ?? new Float(0)), ['default']),
  forceescape: escaped,
  format: filter((context, value, _args, all) => {
    const named = new Dict();
    for (const [name, each] of all.named) named.set(text(name), each);
    const values = all.named.size > 0 ? named : new Tuple(all.positional);
    return formatPercent(show(value, context.budget), values, context.budget);
  }, ANY),
  groupby: filter(grouped, ['attribute', 'default', 'case_sensitive'], 1),
  indent: ofText(indent, ['width', 'first', 'blank']),
  int: filter(
    (_context, value, [otherwise, base]) => toInteger(value, otherwise ?? 0, needCount('int', base ?? 10)),
    ['default', 'base'],
  ),
  items: filter((_context, value) => {
    if (value instanceof Undefined) return new Generator([]);
    if (value instanceof Dict) return new Generator(value.items());
    throw new TemplateError('Can only get item pairs from a mapping.');
  }),
  join: filter(joined, ['d', 'attribute']),
  last: filter((_context, value) => last(value)),
  length: LENGTH,
  list: filter((context, value) => {
    const items = [...iterate(value)];
    context.budget.makeList(items.length);
    return new List(items);
  }),
  lower: ofText((_context, value) => value.map((chars) => chars.toLowerCase())),
  map: filter((context, value, _args, all) => mapped(context, value, all), ANY),
  max: extreme('>'),
  min: extreme('<'),
  pprint: filter((context, value) => represent(value, context.budget), ['verbose']),
  reject: filter(choosing(false, false), ANY),
  rejectattr: filter(choosing(false, true), ANY),
  replace: ofText(
    (context, value, [old, by, count]) => {
      const part = (each: Value): Text => show(each, context.budget);
      return replace(value, part(old!), part(by!), isGiven(count) ? needCount('replace', count) : -1, context.budget);
    },
    ['old', 'new', 'count'],
    2,
  ),
  reverse: filter(reversed),
  round: filter(
    (_context, value, [precision, method]) =>
      rounded(
        value,
        needCount('round', precision ?? 0),
        method === undefined ? 'common' : needText('round', method).chars,
      ),
    ['precision', 'method'],
  ),
  safe: ofText((_context, value) => new Markup(value)),
  select: filter(choosing(true, false), ANY),
  selectattr: filter(choosing(true, true), ANY),
  slice: filter(slices, ['slices', 'fill_with'], 1),
  sort: filter(
    (context, value, [reverse, caseSensitive, attribute]) =>
      new List(
        sorted(
          iterate(value),
          sortKey(context, attribute, isTrue(caseSensitive ?? false)),
          context.budget,
          isTrue(reverse ?? false),
        ),
      ),
    ['reverse', 'case_sensitive', 'attribute'],
  ),
  string: ofText((_context, value) => value),
  striptags: ofText((_context, value) => {
    const chars = value.chars
      .replace(/<!--[^]*?-->|<[^>]*>/g, '')
      .replace(SPACE_RUNS, ' ')
      .trim();
    // What was cut together is the caller's as a whole.
    return value.spans.length > 0 ? Text.content(chars) : text(chars);
  }),
  sum: filter(
    (context, value, [attribute, start]) => {
      const get = getter(context, attribute);
      return iterate(value).reduce<Value>((sum, each) => arithmetic('+', sum, get(each), context.budget), start ?? 0);
    },
    ['attribute', 'start'],
  ),
  title: ofText((_context, value) => titleOf(value)),
  tojson: filter(jsonFilter, ['ensure_ascii', 'indent', 'separators', 'sort_keys']),
  trim: ofText(
    (_context, value, [chars]) => strip(value, isGiven(chars) ? needText('trim', chars) : null, 'both'),
    ['chars'],
  ),
  truncate: ofText(truncate, ['length', 'killwords', 'end', 'leeway']),
  unique: filter(
    (context, value, [caseSensitive, attribute]) => {
      const get = getter(context, attribute);
      const seen = new Dict();
      return new Generator(
        iterate(value).filter((each) => {
          const key = isTrue(caseSensitive ?? false) ? get(each) : folded(get(each));
          if (seen.get(key) !== undefined) return false;
          seen.set(key, true);
          return true;
        }),
      );
    },
    ['case_sensitive', 'attribute'],
  ),
  upper: ofText((_context, value) => value.map((chars) => chars.toUpperCase())),
  urlencode: filter((context, value) => urlEncoded(context, value)),
  wordcount: ofText((_context, value) => value.chars.match(/[\p{L}\p{N}\p{Pc}]+/gu)?.length ?? 0),
};

/** Throws TemplateError for a filter that is not known. */
export function callFilter(context: FilterContext, name: string, value: Value, args: Arguments): Value {
  const known = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined;
  if (known === undefined) throw new TemplateError(`No filter named '${name}'`);
  const bound = known.parameters === ANY ? [] : bind(name, args, known.parameters, known.required);
  return known.apply(context, value, bound, args);
}

export function isFilter(name: Value): boolean {
  return name instanceof Text && Object.hasOwn(FILTERS, name.chars);
}
