/** Arguments of a call, put in the order of the parameters that are called. */
import { Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import { isInteger, needDefined, TemplateError, typeName } from './values.ts';

export const NO_ARGUMENTS: Arguments = { positional: [], named: new Map() };

/** The values of `names`; undefined where none was given and none is needed. The first `required` are. */
export function bind(called: string, args: Arguments, names: readonly string[], required = 0): (Value | undefined)[] {
  if (args.positional.length > names.length)
    throw new TemplateError(`${called} takes at most ${names.length} arguments (${args.positional.length} given)`);
  const values: (Value | undefined)[] = names.map((_, i) => args.positional[i]);
  for (const [name, value] of args.named) {
    const at = names.indexOf(name);
    if (at < 0) throw new TemplateError(`${called} got an unexpected keyword argument '${name}'`);
    if (at < args.positional.length) throw new TemplateError(`${called} got multiple values for argument '${name}'`);
    values[at] = value;
  }
  for (let i = 0; i < required; i++)
    if (values[i] === undefined) throw new TemplateError(`${called} missing a required argument: '${names[i]}'`);
  return values;
}

/** A text argument. */
export function needText(called: string, value: Value): Text {
  if (value instanceof Text) return value;
  needDefined(value);
  throw new TemplateError(`${called}: str expected, not ${typeName(value)}`);
}

/** A whole number as an argument, small enough to count with. */
export function needCount(called: string, value: Value): number {
  if (typeof value === 'boolean') return Number(value);
  if (isInteger(value)) {
    const count = Number(value);
    if (!Number.isSafeInteger(count)) throw new TemplateError(`${called}: ${String(value)} is too large`);
    return count;
  }
  needDefined(value);
  throw new TemplateError(`'${typeName(value)}' object cannot be interpreted as an integer`);
}
