/** Python's two ways of putting values into a text: '%s' % values, and '{}'.format(values). */
import { needCount } from './arguments.ts';
import type { Budget } from './budget.ts';
import { floatText, represent, show } from './show.ts';
import { joinTexts, Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import {
  Dict,
  Float,
  isInteger,
  lengthOf,
  numberOf,
  needDefined,
  TemplateError,
  text,
  Tuple,
  typeName,
} from './values.ts';

interface Layout {
  fill: string;
  align: '<' | '>' | '^' | '=';
  sign: string;
  alternate: boolean;
  width: number;
  grouped: string;
  precision: number | null;
  kind: string;
}

/** Digits of a number, without its sign. */
function digits(value: number | bigint, layout: Layout): string {
  const { kind, precision, alternate } = layout;
  const size = typeof value === 'bigint' ? (value < 0n ? -value : value) : Math.abs(value);
  switch (kind) {
    case 'd':
      return String(BigInt(Math.trunc(Number(size)) === Number(size) ? size : Math.trunc(Number(size))));
    case 'x':
    case 'X':
    case 'o':
    case 'b': {
      const base = kind === 'o' ? 8 : kind === 'b' ? 2 : 16;
      const plain = (alternate ? `0${kind}` : '') + BigInt(size).toString(base);
      return kind === 'X' ? plain.toUpperCase() : plain;
    }
    case 'f':
    case 'F':
      return finite(size, (number) => number.toFixed(Math.min(precision ?? 6, 100)));
    case '%':
      return `${(Number(size) * 100).toFixed(Math.min(precision ?? 6, 100))}%`;
    case 'e':
    case 'E': {
      const shown = finite(size, (number) => padExponent(number.toExponential(Math.min(precision ?? 6, 100))));
      return kind === 'E' ? shown.toUpperCase() : shown;
    }
    default:
      return finite(size, (number) => general(number, Math.max(1, precision ?? 6)));
  }
}

function finite(value: number | bigint, format: (number: number) => string): string {
  const number = Number(value);
  return Number.isFinite(number) ? format(number) : Number.isNaN(number) ? 'nan' : 'inf';
}

function padExponent(shown: string): string {
  return shown.replace(/e([+-])(\d)$/, 'e$10$2');
}

function general(number: number, precision: number): string {
  if (number === 0) return '0';
  const shown = number.toExponential(Math.min(precision, 100) - 1);
  const power = Number(shown.slice(shown.indexOf('e') + 1));
  if (power < -4 || power >= precision) return padExponent(shown.replace(/\.?0+e/, 'e'));
  const fixed = number.toFixed(Math.min(100, Math.max(0, precision - 1 - power)));
  return fixed.includes('.') ? fixed.replace(/\.?0+$/, '') : fixed;
}

function number(value: number | bigint, layout: Layout): Text {
  const isNegative = value < 0 || Object.is(value, -0);
  const sign = isNegative ? '-' : layout.sign === '-' ? '' : layout.sign;
  let shown = digits(value, layout);
  if (layout.grouped !== '')
    shown = shown.replace(/^\d+/, (whole) => whole.replace(/\B(?=(?:\d{3})+$)/g, layout.grouped));
  return pad(text(shown), sign, layout);
}

function pad(shown: Text, sign: string, { width, fill, align }: Layout): Text {
  const room = Math.max(0, width - lengthOf(shown)! - sign.length);
  const before = align === '<' ? 0 : align === '^' ? room >> 1 : room;
  const front = text(align === '=' ? sign + fill.repeat(room) : fill.repeat(before) + sign);
  return joinTexts([front, shown, text(align === '=' ? '' : fill.repeat(room - before))]);
}

function cut(shown: Text, precision: number | null): Text {
  if (precision === null || lengthOf(shown)! <= precision) return shown;
  return shown.slice(0, Array.from(shown.chars).slice(0, precision).join('').length);
}

const PERCENT = /%(?:\(([^)]*)\))?([-#0 +]*)(\*|\d+)?(?:\.(\*|\d+))?[hlL]?([^])/g;

/** '%s' % values. */
export function formatPercent(template: Text, values: Value, budget: Budget): Text {
  const given = values instanceof Tuple ? values.items : [values];
  let used = 0;
  let named = false;
  const next = (): Value => {
    if (used >= given.length) throw new TemplateError('not enough arguments for format string');
    return given[used++]!;
  };
  const parts: Text[] = [];
  let at = 0;
  for (const found of template.chars.matchAll(PERCENT)) {
    const [all, name, flags, width, precision, kind] = found;
    parts.push(template.slice(at, found.index));
    at = found.index + all.length;
    if (kind === '%') {
      parts.push(text('%'));
      continue;
    }
    const size = (stated: string | undefined): number | null =>
      stated === undefined ? null : stated === '*' ? needCount('format', next()) : Number(stated);
    const wide = size(width) ?? 0;
    const layout: Layout = {
      fill: flags!.includes('0') && !flags!.includes('-') && !'sra'.includes(kind!) ? '0' : ' ',
      align: flags!.includes('-') ? '<' : flags!.includes('0') && !'sra'.includes(kind!) ? '=' : '>',
      sign: flags!.includes('+') ? '+' : flags!.includes(' ') ? ' ' : '-',
      alternate: flags!.includes('#'),
      width: wide,
      grouped: '',
      precision: size(precision),
      kind: kind === 'i' || kind === 'u' ? 'd' : kind!,
    };
    if (name !== undefined) {
      if (!(values instanceof Dict)) throw new TemplateError('format requires a mapping');
      named = true;
    }
    const value = name === undefined ? next() : (values as Dict).get(text(name));
    if (value === undefined) throw new TemplateError(`'${name}'`);
    budget.make(layout.width);
    parts.push(percentField(value, layout, budget));
  }
  if (template.chars.slice(at).includes('%')) throw new TemplateError('incomplete format');
  parts.push(template.slice(at));
  if (used < given.length && !named && !(values instanceof Dict))
    throw new TemplateError('not all arguments converted during string formatting');
  return joinTexts(parts);
}

function percentField(value: Value, layout: Layout, budget: Budget): Text {
  const { kind } = layout;
  if (kind === 's') return pad(cut(show(value, budget), layout.precision), '', layout);
  if (kind === 'r' || kind === 'a') return pad(cut(represent(value, budget), layout.precision), '', layout);
  if (kind === 'c')
    return pad(value instanceof Text ? value : text(String.fromCodePoint(needCount('%c', value))), '', layout);
  if (!'doxXeEfFgG'.includes(kind)) throw new TemplateError(`unsupported format character '${kind}'`);
  const counted = numberOf(value);
  needDefined(value);
  if (counted === undefined)
    throw new TemplateError(`%${kind} format: a real number is required, not ${typeName(value)}`);
  return number(counted, layout);
}

const SPEC = /^(?:([^])?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/u;

/** What '{:spec}' makes of a value. */
function formatted(value: Value, spec: string, budget: Budget): Text {
  if (spec === '') return show(value, budget);
  needDefined(value);
  const found = SPEC.exec(spec);
  if (found === null) throw new TemplateError(`Invalid format specifier '${spec}'`);
  const [, fill, align, sign, alternate, zero, width, grouped, precision, kind] = found;
  const counted = numberOf(value);
  const isNumber = counted !== undefined && (typeof value !== 'boolean' || (kind !== undefined && kind !== 's'));
  const layout: Layout = {
    fill: fill ?? (zero === undefined ? ' ' : '0'),
    align: (align as Layout['align'] | undefined) ?? (zero !== undefined && isNumber ? '=' : isNumber ? '>' : '<'),
    sign: sign ?? '-',
    alternate: alternate !== undefined,
    width: Number(width ?? 0),
    grouped: grouped ?? '',
    precision: precision === undefined ? null : Number(precision),
    kind: kind ?? (isInteger(value) ? 'd' : precision === undefined ? 'repr' : 'g'),
  };
  budget.make(layout.width);
  if (!isNumber || kind === 's') {
    if (kind !== undefined && kind !== 's')
      throw new TemplateError(`Unknown format code '${kind}' for object of type '${typeName(value)}'`);
    return pad(cut(show(value, budget), layout.precision), '', layout);
  }
  if (layout.kind === 'repr') {
    const shown = floatText(Math.abs(Number(counted)));
    return pad(text(shown), Number(counted) < 0 ? '-' : layout.sign === '-' ? '' : layout.sign, layout);
  }
  if (value instanceof Float && 'dxXob'.includes(layout.kind))
    throw new TemplateError(`Unknown format code '${layout.kind}' for object of type 'float'`);
  return number(counted, layout);
}

/** str.format: '{}', '{0}', '{name}', with fields, conversions and layouts. */
export function formatBraces(
  template: Text,
  args: Arguments,
  lookup: { attribute: (of: Value, name: string) => Value; item: (of: Value, key: Value) => Value },
  budget: Budget,
): Text {
  const parts: Text[] = [];
  let at = 0;
  let automatic = 0;
  for (const found of template.chars.matchAll(
    /\{\{|\}\}|\{([^{}!:]*)(?:!([rsa]))?(?::((?:[^{}]|\{[^{}]*\})*))?\}|[{}]/g,
  )) {
    const [all, field, conversion, spec] = found;
    parts.push(template.slice(at, found.index));
    at = found.index + all.length;
    if (all === '{{' || all === '}}') {
      parts.push(text(all[0]!));
      continue;
    }
    if (field === undefined) throw new TemplateError(`Single '${all}' encountered in format string`);
    let value = fieldValue(field);
    if (conversion !== undefined) value = conversion === 's' ? show(value, budget) : represent(value, budget);
    const layout = (spec ?? '').replace(/\{([^{}]*)\}/g, (_, inner: string) => show(fieldValue(inner), budget).chars);
    parts.push(formatted(value, layout, budget));
  }
  parts.push(template.slice(at));
  return joinTexts(parts);

  function fieldValue(field: string): Value {
    const [, first, rest] = /^([^.[]*)([^]*)$/.exec(field)!;
    const key = first === '' ? String(automatic++) : first!;
    let value = /^\d+$/.test(key) ? args.positional[Number(key)] : args.named.get(key);
    if (value === undefined) throw new TemplateError(`Replacement index ${key} out of range for positional args tuple`);
    for (const [, name, index] of rest!.matchAll(/\.([^.[]+)|\[([^\]]+)\]/g)) {
      value =
        name === undefined
          ? lookup.item(value, /^\d+$/.test(index!) ? Number(index) : text(index!))
          : lookup.attribute(value, name);
    }
    return value;
  }
}
