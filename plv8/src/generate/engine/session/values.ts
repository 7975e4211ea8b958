/** Arguments and results of calls, as a backend that runs no JavaScript sends and hears them (host/src/front/values.cc). */
import type { SessionCall } from '../messages.ts';

/** Between fields of a message. No text of PostgreSQL's has it. */
const NEXT = '\0';

/** Has the backend compute the call. */
export const NOTHING = 'nothing';

const field = (text: string): string => text.replaceAll(NEXT, '\uFFFD');
/** A message of the first field's kind. */
export const message = (...fields: string[]): string => fields.map(field).join(NEXT);

/** A value, as its type's input function reads it. */
export function valueResult(text: string): string[] {
  return [message('answer', text)];
}

/** A JSON text in which the id of the run, where one is recorded, is what the backend gets for it. */
export function recordedResult(text: string, { runId }: { runId: number | null }): string[] {
  if (runId === null) return valueResult(text);
  const before = '"run_id":';
  const at = text.lastIndexOf(before + runId) + before.length;
  return [message('answer', text.slice(0, at), text.slice(at + String(runId).length))];
}

export type Columns = readonly (string | number | null)[];

/** Rows, each with its columns as their types' input functions read them. */
export function rowsResult(rows: readonly Columns[]): string[] {
  const column = (value: string | number | null): string => (value === null ? '-' : `+${numeral(value)}`);
  return [...rows.map((row) => message('row', ...row.map(column))), message('answer')];
}

/** A number as PostgreSQL reads it, to the same bits. */
export function numeral(value: string | number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** An array of them. */
export function arrayOf(numbers: readonly number[]): string {
  return `{${numbers.map(numeral).join()}}`;
}

/** Texts of one call: the rows of all leave together, and have to wait for a backend that reads slowly. */
const MAX_TEXTS = 64;

type Argument = SessionCall['args'][number] | undefined;

/** Null for null, and for what is none. */
export function textOf(argument: Argument): string | null {
  return typeof argument === 'string' ? argument : null;
}

/** The same of an array, and null for one of more texts than are taken. */
export function textsOf(argument: Argument): (string | null)[] | null {
  return Array.isArray(argument) && argument.length <= MAX_TEXTS ? argument : null;
}

/** Options that the function would get as a JSON value, not as a text. */
export function jsonOptions(argument: Argument): Record<string, unknown> {
  const text = textOf(argument);
  return text === null ? {} : ((JSON.parse(text) as Record<string, unknown> | null) ?? {});
}
