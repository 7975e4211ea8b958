/** What a template may use up: it comes from a file that somebody downloaded, so its steps and its output are bounded. */
import { raise, SQLSTATE } from '../../errors.ts';

/** Characters of any text, and elements of any list, that a template makes. */
const MAX_SIZE = 4 * 1024 * 1024;

/** Evaluated nodes, and what they made; a second or two. A long conversation takes some hundred thousand. */
const MAX_STEPS = 1_500_000;
const CHARACTERS_PER_STEP = 64;
const ELEMENTS_PER_STEP = 4;

/** Nodes and calls within one another; V8's stack ends far beyond. */
const MAX_DEPTH = 400;

/** Steps between two polls. */
const POLL_STRIDE = 2048;

/** What poll() threw, carried through the interpreter untouched. */
export class PollError extends Error {}

export class Budget {
  private steps = 0;
  private pollAt = POLL_STRIDE;
  private depth = 0;

  constructor(private readonly poll: () => void) {}

  charge(steps: number): void {
    this.steps += steps;
    if (this.steps < this.pollAt) return;
    this.pollAt = this.steps + POLL_STRIDE;
    if (this.steps > MAX_STEPS)
      raise(SQLSTATE.programLimitExceeded, `chat template takes more than ${MAX_STEPS} steps`);
    try {
      this.poll();
    } catch (error) {
      throw new PollError('cancelled', { cause: error });
    }
  }

  /** Call before a text of `size` characters is made. */
  make(size: number): void {
    if (size > MAX_SIZE) raise(SQLSTATE.programLimitExceeded, `chat template makes more than ${MAX_SIZE} characters`);
    this.charge(size / CHARACTERS_PER_STEP);
  }

  /** Call before a list of `size` elements is made. */
  makeList(size: number): void {
    if (size > MAX_SIZE) raise(SQLSTATE.programLimitExceeded, `chat template makes a list of more than ${MAX_SIZE}`);
    this.charge(size / ELEMENTS_PER_STEP);
  }

  enter(): void {
    if (++this.depth > MAX_DEPTH)
      raise(SQLSTATE.programLimitExceeded, `chat template nests deeper than ${MAX_DEPTH} levels`);
    this.charge(1);
  }

  leave(): void {
    this.depth--;
  }
}
