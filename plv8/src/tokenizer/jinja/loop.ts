/** The name `loop` inside of a for loop. */
import type { Budget } from './budget.ts';
import type { Arguments, Value } from './values.ts';
import { Callable, isEqual, TemplateError, Tuple, Undefined } from './values.ts';

export class LoopState {
  /** from 0 */
  index = 0;
  /** what changed() saw last */
  seen: Value | undefined;

  constructor(
    readonly values: readonly Value[],
    readonly depth: number,
  ) {}
}

/** `recurse` goes through the loop's body again; null where the loop is not recursive. */
export function loopValue(state: LoopState, recurse: ((args: Arguments) => Value) | null, budget: Budget): Callable {
  const call = (args: Arguments): Value => {
    if (recurse === null)
      throw new TemplateError("The loop must have the 'recursive' marker to be called recursively.");
    return recurse(args);
  };
  return new Callable('LoopContext', call, (name) => loopField(state, name, budget));
}

function loopField(state: LoopState, name: string, budget: Budget): Value | undefined {
  const { index, values } = state;
  switch (name) {
    case 'index':
      return index + 1;
    case 'index0':
      return index;
    case 'revindex':
      return values.length - index;
    case 'revindex0':
      return values.length - index - 1;
    case 'first':
      return index === 0;
    case 'last':
      return index === values.length - 1;
    case 'length':
      return values.length;
    case 'depth':
      return state.depth + 1;
    case 'depth0':
      return state.depth;
    case 'previtem':
      return values[index - 1] ?? new Undefined('there is no previous item');
    case 'nextitem':
      return values[index + 1] ?? new Undefined('there is no next item');
    case 'cycle':
      return new Callable('cycle', ({ positional }) => {
        if (positional.length === 0) throw new TemplateError('no items for cycling given');
        return positional[index % positional.length]!;
      });
    case 'changed':
      return new Callable('changed', ({ positional }) => {
        const now = new Tuple(positional);
        const isSame = state.seen !== undefined && isEqual(state.seen, now, budget);
        state.seen = now;
        return !isSame;
      });
    default:
      return undefined;
  }
}
