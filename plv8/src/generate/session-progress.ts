/**
 * How far each session of this backend got, kept in a setting of the connection: PostgreSQL takes a setting back when
 * the transaction that changed it fails, so what a client did not get is not counted. Works in read-only transactions.
 */
import { query } from '../db.ts';

const SETTING = 'hartonomous.session_steps';

function read(): Record<string, unknown> {
  const text = query('select current_setting($1::text, true) as value', [SETTING])[0]?.value;
  try {
    const value: unknown = JSON.parse(typeof text === 'string' && text !== '' ? text : '{}');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Steps that transactions which did not fail took; null when nothing is known, as after DISCARD ALL. */
export function committedSteps(id: number): number | null {
  const steps = read()[id];
  return typeof steps === 'number' && Number.isInteger(steps) && steps >= 0 ? steps : null;
}

/** Note that a session got that far; sessions not in `open` are forgotten. */
export function commitSteps(id: number, steps: number, open: Iterable<number>): void {
  const known = read();
  const next: Record<string, unknown> = {};
  for (const other of open) if (known[other] !== undefined) next[other] = known[other];
  next[id] = steps;
  query('select set_config($1::text, $2::text, false)', [SETTING, JSON.stringify(next)]);
}
