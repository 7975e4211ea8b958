/** Whose turn it is among the requests of an engine: roles take turns, so that none waits for all that another has. */
import { Priorities } from '../priorities.ts';

/** What turns are given by. */
export interface Turn {
  /** oid of the role on whose behalf */
  readonly role: number;
  /** Higher goes first. */
  readonly priority: number;
}

/** Turns of requests. */
export class Turns {
  private readonly priorities = new Priorities();
  private latestRole: number | null = null;

  /** Take out of those that wait, who came first first and of whom there is one, the first of another role than the latest, else the first. */
  take<Each>(waiting: Each[], turnOf: (each: Each) => Turn): Each {
    const next = this.priorities.next(waiting, (each) => turnOf(each).priority);
    const taken = next.find((each) => turnOf(each).role !== this.latestRole) ?? next[0]!;
    this.latestRole = turnOf(taken).role;
    return waiting.splice(waiting.indexOf(taken), 1)[0]!;
  }
}
