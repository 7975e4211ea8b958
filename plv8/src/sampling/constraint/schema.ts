/** A schema, and what is said about one that cannot be compiled, and where in it. */
import { raise, SQLSTATE } from '../../errors.ts';

export type Schema = Record<string, unknown>;

/** Schemas within schemas. */
export const MAX_DEPTH = 100;

/** A place in a schema, of which a long one is cut. */
export function at(path: string): string {
  return path.length > 80 ? `${path.slice(0, 77)}...` : path;
}

export function invalid(path: string, what: string): never {
  raise(SQLSTATE.invalidParameterValue, `schema at ${at(path)}: ${what}`);
}

/** A value as it stands in a message. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

export function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
