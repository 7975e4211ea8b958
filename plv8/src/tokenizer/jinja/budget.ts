/** What a template may use up: it comes from a file that somebody downloaded, so its steps and its output are bounded. */
import { raise, SQLSTATE } from '../../errors.ts';

/** Characters of any text, and elements of any list, that a template makes. */
const MAX_SIZE = 4 * 1024 * 1024;

/** Evaluated nodes, plus what they made, STEP_SIZE characters or elements a step; a second or so. */
const MAX_STEPS = 4_000_000;
const STEP_SIZE = 64;

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

  /** Call before a text or list of `size` is made. */
  make(size: number): void {
    if (size > MAX_SIZE)
      raise(SQLSTATE.programLimitExceeded, `chat template makes more than ${MAX_SIZE} characters`);
    this.charge(size / STEP_SIZE);
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
