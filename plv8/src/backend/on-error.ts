/** Option `on_error` of calls over many texts: what becomes of a text that cannot be computed. */
import type { HartonomousError } from '../errors.ts';
import { prefixed, raise, SQLSTATE } from '../errors.ts';
import { quoted } from '../format/visible-text.ts';

/** The call fails, or that text's result is null. */
export type OnError = 'error' | 'null';

export function onErrorOf(value: unknown): OnError {
  if (value === undefined || value === null) return 'error';
  if (value === 'error' || value === 'null') return value;
  return raise(SQLSTATE.invalidParameterValue, `option on_error must be one of error, null, got ${quoted(value)}`);
}

/** The error of one text, named by its place and never by its words. */
export function placed(what: string, index: number, error: HartonomousError): HartonomousError {
  return prefixed(`${what} ${index + 1}`, error);
}
