/**
 * Errors of this backend's calls, by SQLSTATE. The host ends a call that is cancelled, times out or uses up the JavaScript
 * heap without running anything of ours: such a call is known by having begun and not ended.
 */
import { SQLSTATE } from '../errors.ts';
import { presenceChecks, showPresence } from './presence.ts';

/** What calls that were cut off are counted as; nearly always it is that. */
const CUT_OFF = SQLSTATE.queryCanceled;

interface Count {
  errors: number;
  lastAt: Date;
}

const counts = new Map<string, Count>();
/** Calls that began and did not end: the one that runs, and those that were cut off since it was last looked at. */
let open = 0;

function count(sqlstate: string, errors: number): void {
  const known = counts.get(sqlstate)?.errors ?? 0;
  counts.set(sqlstate, { errors: known + errors, lastAt: new Date() });
}

/** SQLSTATE that the client sees of what a call threw. */
function stateOf(error: unknown): string {
  const state = (error as { sqlerrcode?: unknown } | null | undefined)?.sqlerrcode;
  return typeof state === 'string' ? state : SQLSTATE.internalError;
}

/** Count those that were cut off; for a call that no other call of ours made. */
function settle(): void {
  if (open > 1) count(CUT_OFF, open - 1);
  open = 1;
}

/** Errors so far. */
export function errorTotal(): number {
  settle();
  return [...counts.values()].reduce((sum, { errors }) => sum + errors, 0);
}

/** The function, with its errors counted and, where it had come so far that it may run statements, told to other sessions. */
export function counted<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    open++;
    const checks = presenceChecks();
    try {
      const result = call(...args);
      open--;
      return result;
    } catch (error) {
      count(stateOf(error), 1);
      try {
        if (presenceChecks() > checks) showPresence({ errors: errorTotal() });
      } catch {
        // The error that is thrown on matters more; the next call tells.
      }
      open--;
      throw error;
    }
  };
}

export interface CallErrorRow {
  sqlstate: string;
  errors: number;
  last_at: Date;
}

/** Rows of the view call_errors. */
export function callErrorRows(): CallErrorRow[] {
  settle();
  return [...counts].map(([sqlstate, { errors, lastAt }]) => ({ sqlstate, errors, last_at: lastAt }));
}
