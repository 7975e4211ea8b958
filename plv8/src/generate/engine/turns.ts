/** Roles that take turns, so that none waits for all that another has. */

/** Take out of those that wait, who came first first and of whom there is one, the first of another role than the latest, else the first. */
export function takeTurn<Each>(waiting: Each[], roleOf: (each: Each) => number, latest: number | null): Each {
  const other = waiting.findIndex((each) => roleOf(each) !== latest);
  return waiting.splice(Math.max(0, other), 1)[0]!;
}
