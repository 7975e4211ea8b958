/** Values as text: str(), repr() and json.dumps() of Python. */
import type { Budget } from './budget.ts';
import { joinTexts, Text } from './text.ts';
import type { Value } from './values.ts';
import {
  Callable,
  Dict,
  DictView,
  Float,
  Generator,
  isInteger,
  List,
  Namespace,
  None,
  Range,
  TemplateError,
  text,
  Tuple,
  typeName,
  Undefined,
} from './values.ts';

/** repr() of a float: the shortest digits that give it back, with an exponent from 1e16 on and below 1e-4. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (power < -4 || power >= 16) {
    const size = String(Math.abs(power)).padStart(2, '0');
    return `${digits}e${power < 0 ? '-' : '+'}${size}`;
  }
  const sign = value < 0 ? '-' : '';
  const bare = digits.replace(/[-.]/g, '');
  if (power < 0) return `${sign}0.${'0'.repeat(-power - 1)}${bare}`;
  const padded = bare.padEnd(power + 2, '0');
  return `${sign}${padded.slice(0, power + 1)}.${padded.slice(power + 1)}`;
}

/** str(). */
export function show(value: Value, budget: Budget): Text {
  if (value instanceof Text) return value;
  return value instanceof Undefined ? text('') : represent(value, budget);
}

/** repr(). */
export function represent(value: Value, budget: Budget): Text {
  const parts: Text[] = [];
  writeRepresentation(value, parts, budget);
  return joinTexts(parts);
}

function writeRepresentation(value: Value, out: Text[], budget: Budget): void {
  budget.enter();
  const put = (chars: string): void => {
    out.push(text(chars));
  };
  const list = (open: string, items: readonly Value[], close: string): void => {
    put(open);
    items.forEach((item, i) => {
      if (i > 0) put(', ');
      writeRepresentation(item, out, budget);
    });
    put(close);
  };
  if (value instanceof Text) out.push(quoted(value, budget));
  else if (value instanceof None) put('None');
  else if (typeof value === 'boolean') put(value ? 'True' : 'False');
  else if (isInteger(value)) put(String(value));
  else if (value instanceof Float) put(floatText(value.value));
  else if (value instanceof List) list('[', value.items, ']');
  else if (value instanceof Tuple) list('(', value.items, value.items.length === 1 ? ',)' : ')');
  else if (value instanceof DictView) list(`dict_${value.kind}([`, value.items, '])');
  else if (value instanceof Dict || value instanceof Namespace) {
    const fields: readonly (readonly [Value, Value])[] =
      value instanceof Dict
        ? [...value.entries.values()]
        : Array.from(value.fields, ([name, field]) => [text(name), field] as const);
    put(value instanceof Dict ? '{' : '<Namespace {');
    fields.forEach(([key, item], i) => {
      if (i > 0) put(', ');
      writeRepresentation(key, out, budget);
      put(': ');
      writeRepresentation(item, out, budget);
    });
    put(value instanceof Dict ? '}' : '}>');
  } else if (value instanceof Range)
    put(`range(${value.start}, ${value.stop}${value.step === 1 ? '' : `, ${value.step}`})`);
  else if (value instanceof Generator) put(`<${value.kind} object>`);
  else if (value instanceof Callable) put(`<${value.name}>`);
  else put('Undefined');
  budget.leave();
}

/** Characters that repr() spells out: controls, format, unassigned, and every space but ' '. */
const UNPRINTABLE = /[\p{C}\p{Z}]/u;

function quoted(value: Text, budget: Budget): Text {
  budget.make(value.length);
  const quote = value.chars.includes("'") && !value.chars.includes('"') ? '"' : "'";
  const inside = value.mapStretches((chars) =>
    chars.replace(/[^ !#-&(-[\]-~]/gu, (character) => {
      switch (character) {
        case '\n':
          return '\\n';
        case '\r':
          return '\\r';
        case '\t':
          return '\\t';
        case '\\':
          return '\\\\';
      }
      if (character === quote) return `\\${quote}`;
      if (!UNPRINTABLE.test(character)) return character;
      const hex = character.codePointAt(0)!.toString(16);
      return hex.length <= 2
        ? `\\x${hex.padStart(2, '0')}`
        : hex.length <= 4
          ? `\\u${hex.padStart(4, '0')}`
          : `\\U${hex.padStart(8, '0')}`;
    }),
  );
  return joinTexts([text(quote), inside, text(quote)]);
}

export interface JsonStyle {
  ensureAscii: boolean;
  /** what one level is indented by; null for one line */
  indent: string | null;
  separators: readonly [item: Text, key: Text] | null;
  sortKeys: boolean;
}

/** json.dumps(). */
export function toJson(value: Value, style: JsonStyle, budget: Budget): Text {
  const parts: Text[] = [];
  writeJson(value, '\n', style, parts, budget);
  return joinTexts(parts);
}

function writeJson(value: Value, newline: string, style: JsonStyle, out: Text[], budget: Budget): void {
  budget.enter();
  const put = (chars: string): void => {
    out.push(text(chars));
  };
  const [comma, colon] = style.separators ?? [text(style.indent === null ? ', ' : ','), text(': ')];
  const list = <Item>(open: string, items: readonly Item[], close: string, write: (item: Item) => void): void => {
    put(open);
    const inner = style.indent === null ? '' : newline + style.indent;
    items.forEach((item, i) => {
      if (i > 0) out.push(comma);
      put(inner);
      write(item);
    });
    if (style.indent !== null && items.length > 0) put(newline);
    put(close);
  };
  const deeper = newline + (style.indent ?? '');
  if (value instanceof Text) out.push(jsonString(value, style, budget));
  else if (value instanceof None) put('null');
  else if (typeof value === 'boolean' || isInteger(value)) put(String(value));
  else if (value instanceof Float) put(jsonNumber(value.value));
  else if (value instanceof List || value instanceof Tuple)
    list('[', value.items, ']', (item) => writeJson(item, deeper, style, out, budget));
  else if (value instanceof Dict) {
    const entries = Array.from(value.entries.values(), ([key, item]) => [jsonKey(key), item] as const);
    if (style.sortKeys) entries.sort(([a], [b]) => (a.chars < b.chars ? -1 : a.chars > b.chars ? 1 : 0));
    list('{', entries, '}', ([key, item]) => {
      out.push(jsonString(key, style, budget), colon);
      writeJson(item, deeper, style, out, budget);
    });
  } else throw new TemplateError(`Object of type ${typeName(value)} is not JSON serializable`);
  budget.leave();
}

function jsonNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  return floatText(value);
}

function jsonKey(key: Value): Text {
  if (key instanceof Text) return key;
  if (key instanceof None) return text('null');
  if (typeof key === 'boolean' || isInteger(key)) return text(String(key));
  if (key instanceof Float) return text(jsonNumber(key.value));
  throw new TemplateError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function jsonString(value: Text, style: JsonStyle, budget: Budget): Text {
  budget.make(value.length);
  const inside = value.mapStretches((chars) => {
    // JSON.stringify escapes what json.dumps does, and lone surrogates, which no text here has.
    const escaped = JSON.stringify(chars).slice(1, -1);
    return style.ensureAscii
      ? escaped.replace(/[\u007f-\uffff]/g, (unit) =>
          unit === '\u007f' ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
        )
      : escaped;
  });
  return joinTexts([text('"'), inside, text('"')]);
}
