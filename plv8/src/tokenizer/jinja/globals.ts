/** Functions that every template may call: those of Jinja that transformers leaves there. */
import { bind, needCount } from './arguments.ts';
import type { Arguments, Value } from './values.ts';
import { Callable, Dict, iterate, Namespace, NONE, Range, TemplateError, text } from './values.ts';
import { Text } from './text.ts';

/** Elements of one range(), as in Jinja's sandbox. */
const MAX_RANGE = 100_000;

function range({ positional, named }: Arguments): Value {
  if (named.size > 0) throw new TemplateError('range() takes no keyword arguments');
  const given = positional.map((each) => needCount('range', each));
  if (given.length < 1 || given.length > 3)
    throw new TemplateError(`range expected 1 to 3 arguments, got ${given.length}`);
  const [start, stop, step] = given.length === 1 ? [0, given[0]!, 1] : [given[0]!, given[1]!, given[2] ?? 1];
  if (step === 0) throw new TemplateError('range() arg 3 must not be zero');
  const made = new Range(start, stop, step);
  if (made.length > MAX_RANGE)
    throw new TemplateError(`it asks for a range of ${made.length}, at most ${MAX_RANGE} are made`);
  return made;
}

function dict({ positional, named }: Arguments): Dict {
  if (positional.length > 1) throw new TemplateError(`dict expected at most 1 argument, got ${positional.length}`);
  const made = new Dict();
  const [from] = positional;
  if (from instanceof Dict) for (const [key, value] of from.entries.values()) made.set(key, value);
  else if (from !== undefined)
    for (const pair of iterate(from)) {
      const [key, value, ...rest] = iterate(pair);
      if (key === undefined || value === undefined || rest.length > 0)
        throw new TemplateError('dictionary update sequence element needs two values');
      made.set(key, value);
    }
  for (const [name, value] of named) made.set(text(name), value);
  return made;
}

function namespace(args: Arguments): Namespace {
  const made = new Namespace();
  for (const [key, value] of dict(args).entries.values()) {
    if (!(key instanceof Text) || key.chars.startsWith('_'))
      throw new TemplateError('a namespace cannot store such a name');
    made.fields.set(key.chars, value);
  }
  return made;
}

function cycler({ positional }: Arguments): Value {
  if (positional.length === 0) throw new TemplateError('at least one item has to be provided');
  let at = 0;
  const current = (): Value => positional[at]!;
  return new Callable(
    'Cycler',
    () => {
      throw new TemplateError("'Cycler' object is not callable");
    },
    (name) => {
      if (name === 'current') return current();
      if (name === 'reset')
        return new Callable(name, () => {
          at = 0;
          return NONE;
        });
      if (name !== 'next') return undefined;
      return new Callable(name, () => {
        const value = current();
        at = (at + 1) % positional.length;
        return value;
      });
    },
  );
}

function joiner(args: Arguments): Value {
  const [separator] = bind('joiner', args, ['sep']);
  let used = false;
  return new Callable('Joiner', () => {
    const value = used ? (separator ?? text(', ')) : text('');
    used = true;
    return value;
  });
}

export const GLOBALS: Readonly<Record<string, (args: Arguments) => Value>> = { range, dict, namespace, cycler, joiner };
