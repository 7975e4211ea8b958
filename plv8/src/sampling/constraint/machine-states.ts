/** A finite automaton that was made as a whole: its states, and the shortest text of each. */
import type { ByteClasses } from './byte-classes.ts';

export interface MachineState {
  classes: ByteClasses;
  /** (classes) next state; -1 where no text is accepted any more */
  next: Int32Array;
  accepting: boolean;
}

export interface Machine {
  number: number;
  states: readonly MachineState[];
  /** (states) bytes of the shortest text; Infinity when there is none */
  least: Float64Array;
  /** Bytes of the shortest texts of all states, as bits. */
  written: bigint;
  shortest(state: number): string;
}
