/**
 * What answers that have to be something may take of an engine, so that no role's schema holds up another role: the time in
 * which their next tokens are found, and the memory of their compiled grammars. Who takes more is computed by its session.
 */
import { heldTokenizers } from '../../backend/registry.ts';
import { TookTooLong, within } from '../../db.ts';
import type { Automaton, Room } from '../../sampling/constraint/automaton.ts';
import type { Keeping } from '../../sampling/constraint/constraint.ts';
import { OutOfRoom } from '../../sampling/constraint/expression.ts';
import { KeptAutomata } from '../../sampling/constraint/kept-automata.ts';

/** Milliseconds in which the tokens that may come next have to be known. */
const CHOOSE_MS = 200;

/** Milliseconds of a pass after which such answers wait for the next one: what others then wait for is this and CHOOSE_MS at most. */
export const CHOOSING_MS = 100;

/** Milliseconds that an answer may take for this in all: at its beginning, and more with each token. */
const ANSWER_MS = 1000;
const TOKEN_MS = 10;

/** Compiled grammars of a vocabulary that are kept between calls. */
const MAX_KEPT = 32;

/** Bytes of all compiled grammars of an engine, when another one is to be compiled, and of those in use. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Of one grammar: some 30 MB in all, fifty times what a usual schema takes. */
const ROOM: Room = {
  states: 20_000,
  derivatives: 200_000,
  textBytes: 2 * 1024 * 1024,
  maskBytes: 4 * 1024 * 1024,
  tableStates: 4096,
  shortestBytes: 16 * 1024,
};

/** The compiled grammars of an engine. */
export class Grammars {
  private readonly kept = new KeptAutomata(MAX_KEPT, ROOM);

  /** `used` says which of them open requests are constrained by. */
  constructor(private readonly used: () => ReadonlySet<Automaton>) {}

  /** Where another grammar of this role may be compiled. Throws OutOfRoom where those in use leave no room. */
  placeFor(owner: string): Keeping {
    if (this.trim(this.used()) > MAX_BYTES) throw new OutOfRoom();
    return { kept: this.kept, owner };
  }

  /** Throws OutOfRoom where those in use take too much, and this one more than its share. */
  check(automaton: Automaton): void {
    const used = this.used();
    if (automaton.bytes * used.size > MAX_BYTES && this.trim(used) > MAX_BYTES) throw new OutOfRoom();
  }

  /** Bytes of those in use, after others were forgotten where they take too much. */
  private trim(used: ReadonlySet<Automaton>): number {
    this.kept.trim(heldTokenizers(), used, MAX_BYTES);
    return [...used].reduce((sum, { bytes }) => sum + bytes, 0);
  }
}

/** The time that one answer takes for its tokens to be chosen. */
export class ChoosingTime {
  private ms = 0;
  private tokens = 0;

  /** Choose a token. Throws TookTooLong. */
  choose<Result>(work: () => Result): Result {
    const since = Date.now();
    const result = within(CHOOSE_MS, work);
    this.ms += Date.now() - since;
    this.tokens++;
    if (this.ms > ANSWER_MS + TOKEN_MS * this.tokens)
      throw new TookTooLong('masks took more time than they were given');
    return result;
  }
}
