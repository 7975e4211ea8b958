/** Those of a higher priority go first, and hold up nobody for ever. */

/** Of turns for which somebody of a lower priority waits, one in so many is theirs, so that nobody waits for ever. */
const TURNS_A_LOWER = 8;

export class Priorities {
  private passed = 0;

  /** Those of whom one has the next turn: those of the highest priority, or all others where these were passed over often enough. */
  next<Each>(waiting: readonly Each[], priorityOf: (each: Each) => number): Each[] {
    const highest = waiting.reduce((most, each) => Math.max(most, priorityOf(each)), 0);
    const lower = waiting.filter((each) => priorityOf(each) < highest);
    if (lower.length === 0) return [...waiting];
    this.passed = (this.passed + 1) % TURNS_A_LOWER;
    return this.passed === 0 ? lower : waiting.filter((each) => priorityOf(each) === highest);
  }
}
