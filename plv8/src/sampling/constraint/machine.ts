/**
 * Finite automata over bytes that are made as a whole: what several expressions accept at once, or one does and another
 * does not. Derivatives cannot tell that such a combination accepts nothing; here every state knows its shortest text.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { ByteClasses } from './byte-classes.ts';
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';
import type { Machine, MachineState } from './machine-states.ts';

/** States of one machine, some hundred bytes each. */
const MAX_STATES = 50_000;

/** A deterministic automaton whose states are numbers; NEVER is the one that nothing leaves. */
export interface Component {
  start: number;
  next(state: number, byte: number): number;
  accepts(state: number): boolean;
  classes(state: number): ByteClasses;
}

let machines = 0;

/** An expression without references as a component. */
function component(expressions: Expressions, e: Expression): Component {
  return {
    start: e,
    next: (state, byte) => expressions.derive(state, byte),
    accepts: (state) => expressions.acceptsEmpty(state),
    classes: (state) => expressions.classesOf(state),
  };
}

/** Texts that all of `wanted` accept and none of `unwanted`; expressions are without references. */
export function combine(
  expressions: Expressions,
  wanted: readonly (Expression | Component)[],
  unwanted: readonly (Expression | Component)[] = [],
): Expression {
  const parts = [...wanted, ...unwanted].map((each) =>
    typeof each === 'number' ? component(expressions, each) : each,
  );
  const { partitions } = expressions;
  const numbers = new Map<string, number>();
  const tuples: number[][] = [];
  const numberOf = (tuple: number[]): number => {
    const key = tuple.join();
    let number = numbers.get(key);
    if (number === undefined) {
      if (tuples.length === MAX_STATES) {
        raise(SQLSTATE.programLimitExceeded, `constraint needs more than ${MAX_STATES} states for one text`, {
          hint: 'lower bounds on lengths, or fewer keywords beside a pattern, need fewer',
        });
      }
      expressions.spend(1);
      number = tuples.push(tuple) - 1;
      numbers.set(key, number);
    }
    return number;
  };
  numberOf(parts.map(({ start }) => start));
  const states: MachineState[] = [];
  for (let at = 0; at < tuples.length; at++) {
    const tuple = tuples[at]!;
    const classes = parts.reduce((all, part, i) => {
      const state = tuple[i]!;
      return state === NEVER ? all : partitions.refine(all, part.classes(state));
    }, partitions.one);
    const next = Int32Array.from(classes.bytes, (byte) => {
      const to = parts.map((part, i) => (tuple[i] === NEVER ? NEVER : part.next(tuple[i]!, byte)));
      return to.some((state, i) => i < wanted.length && state === NEVER) ? -1 : numberOf(to);
    });
    const accepting = parts.every((part, i) => (tuple[i] !== NEVER && part.accepts(tuple[i]!)) === i < wanted.length);
    states.push({ classes, next, accepting });
  }
  return expressions.machine(complete(states), 0);
}

/** Shortest texts of the states, backwards from those that accept; ways to states without one are closed. */
function complete(states: readonly MachineState[]): Machine {
  const before: number[][] = states.map(() => []);
  states.forEach(({ next }, from) => next.forEach((to) => to >= 0 && before[to]!.push(from)));
  const least = new Float64Array(states.length).fill(Infinity);
  let reached = states.flatMap(({ accepting }, state) => (accepting ? [state] : []));
  for (const state of reached) least[state] = 0;
  for (let length = 1; reached.length > 0; length++) {
    const further: number[] = [];
    for (const state of reached) {
      for (const from of before[state]!) {
        if (least[from] !== Infinity) continue;
        least[from] = length;
        further.push(from);
      }
    }
    reached = further;
  }
  for (const { next } of states) next.forEach((to, i) => to >= 0 && least[to] === Infinity && (next[i] = -1));
  /** The first byte of the shortest text, the smallest where there are several. */
  const firstByte = (state: number): { byte: number; to: number } => {
    const { classes, next } = states[state]!;
    let found = { byte: 256, to: -1 };
    next.forEach((to, i) => {
      if (to >= 0 && least[to]! + 1 === least[state] && classes.bytes[i]! < found.byte) {
        found = { byte: classes.bytes[i]!, to };
      }
    });
    return found;
  };
  let written = 0n;
  states.forEach((_, state) => {
    if (least[state]! > 0 && least[state] !== Infinity) written |= 1n << BigInt(firstByte(state).byte);
  });
  return {
    number: machines++,
    states,
    least,
    written,
    shortest(state) {
      let text = '';
      for (let at = state; least[at]! > 0;) {
        const { byte, to } = firstByte(at);
        text += String.fromCharCode(byte);
        at = to;
      }
      return text;
    },
  };
}
