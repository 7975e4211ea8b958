/** What stands behind a dot or in brackets: attributes and methods of Python's types, elements, slices. */
import { bind, needCount } from './arguments.ts';
import type { Budget } from './budget.ts';
import { formatBraces } from './format.ts';
import { elementAt, isSequence, sliceOf } from './sequences.ts';
import { Text } from './text.ts';
import { stringMethod } from './strings.ts';
import type { Arguments, Value } from './values.ts';
import {
  Callable,
  Dict,
  DictView,
  isEqual,
  isInteger,
  List,
  Namespace,
  needDefined,
  NONE,
  None,
  TemplateError,
  text,
  Tuple,
  typeName,
  Undefined,
} from './values.ts';

/** Methods that change their object, which the sandbox refuses. */
const CHANGING: ReadonlySet<string> = new Set([
  'append',
  'clear',
  'extend',
  'insert',
  'pop',
  'popitem',
  'remove',
  'reverse',
  'setdefault',
  'sort',
  'update',
]);

export class SliceKey {
  constructor(
    readonly start: Value,
    readonly stop: Value,
    readonly step: Value,
  ) {}
}

/** value.name: an attribute, else an element of that name. */
export function attributeOf(value: Value, name: string, budget: Budget): Value {
  needDefined(value);
  return attribute(value, name, budget) ?? element(value, text(name)) ?? missing(value, name);
}

/** Filter `attr`: an attribute and nothing else. */
export function onlyAttributeOf(value: Value, name: string, budget: Budget): Value {
  needDefined(value);
  return attribute(value, name, budget) ?? missing(value, name);
}

/** value[key]: an element, else an attribute of that name. */
export function itemOf(value: Value, key: Value | SliceKey, budget: Budget): Value {
  needDefined(value);
  if (key instanceof SliceKey) return slice(value, key, budget);
  const found = element(value, key);
  if (found !== undefined) return found;
  if (key instanceof Text) return attribute(value, key.chars, budget) ?? missing(value, key.chars);
  return missing(value, isInteger(key) ? String(key) : typeName(key));
}

function missing(value: Value, name: string): Undefined {
  return new Undefined(`'${typeName(value)} object' has no attribute '${name}'`);
}

function slice(value: Value, { start, stop, step }: SliceKey, budget: Budget): Value {
  if (!isSequence(value)) return new Undefined(`'${typeName(value)}' object is not subscriptable`);
  const count = (part: Value): number | null => (part instanceof None ? null : needCount('slice', part));
  return sliceOf(value, { start: count(start), stop: count(stop), step: count(step) }, budget);
}

function element(value: Value, key: Value): Value | undefined {
  if (value instanceof Dict) return isHashable(key) ? value.get(key) : undefined;
  if (isSequence(value) && (isInteger(key) || typeof key === 'boolean')) return elementAt(value, Number(key));
  return undefined;
}

function isHashable(key: Value): boolean {
  return !(key instanceof List || key instanceof Dict);
}

function attribute(value: Value, name: string, budget: Budget): Value | undefined {
  if (name.startsWith('_')) return undefined;
  if (value instanceof Namespace) return value.fields.get(name);
  if (value instanceof Callable) return value.fields(name);
  const call = method(value, name, budget);
  return call === undefined ? undefined : new Callable(`built-in method ${name} of ${typeName(value)} object`, call);
}

function method(value: Value, name: string, budget: Budget): ((args: Arguments) => Value) | undefined {
  if (value instanceof Text) {
    if (name === 'format')
      return (args) =>
        formatBraces(
          value,
          args,
          { attribute: (of, field) => attributeOf(of, field, budget), item: (of, key) => itemOf(of, key, budget) },
          budget,
        );
    return stringMethod(value, name, budget);
  }
  const isMutable = value instanceof List || value instanceof Dict;
  if (isMutable && CHANGING.has(name)) {
    const known =
      value instanceof List
        ? !/^(popitem|setdefault|update)$/.test(name)
        : !/^(append|extend|insert|remove|reverse|sort)$/.test(name);
    if (!known) return undefined;
    return () => {
      throw new TemplateError(`access to attribute '${name}' of '${typeName(value)}' object is unsafe.`);
    };
  }
  if (value instanceof Dict) return dictMethod(value, name);
  if (value instanceof List || value instanceof Tuple) return listMethod(value, name, budget);
  if (isInteger(value) && name === 'bit_length')
    return () => (BigInt(value) < 0n ? -BigInt(value) : BigInt(value)).toString(2).replace(/^0$/, '').length;
  return undefined;
}

function dictMethod(dict: Dict, name: string): ((args: Arguments) => Value) | undefined {
  switch (name) {
    case 'get':
      return (args) => {
        const [key, otherwise] = bind(name, args, ['key', 'default'], 1);
        return dict.get(key!) ?? otherwise ?? NONE;
      };
    case 'keys':
    case 'values':
    case 'items':
      return (args) => {
        bind(name, args, []);
        return new DictView(name, dict);
      };
    case 'copy':
      return () => {
        const copy = new Dict();
        for (const [key, value] of dict.entries.values()) copy.set(key, value);
        return copy;
      };
    default:
      return undefined;
  }
}

function listMethod(list: List | Tuple, name: string, budget: Budget): ((args: Arguments) => Value) | undefined {
  switch (name) {
    case 'count':
      return (args) => {
        const [wanted] = bind(name, args, ['value'], 1);
        return list.items.filter((item) => isEqual(item, wanted!, budget)).length;
      };
    case 'index':
      return (args) => {
        const [wanted] = bind(name, args, ['value'], 1);
        const at = list.items.findIndex((item) => isEqual(item, wanted!, budget));
        if (at < 0) throw new TemplateError('the value is not in the list');
        return at;
      };
    case 'copy':
      return list instanceof List ? () => new List([...list.items]) : undefined;
    default:
      return undefined;
  }
}
