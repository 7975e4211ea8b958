import { wellFormed } from './format/utf8.ts';

/** SQLSTATEs raised by the bundle; names and classes as in PostgreSQL's appendix A. */
export const SQLSTATE = {
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  invalidTextRepresentation: '22P02',
  untranslatableCharacter: '22P05',
  dataCorrupted: 'XX001',
  readOnlySqlTransaction: '25006',
  insufficientPrivilege: '42501',
  undefinedObject: '42704',
  duplicateObject: '42710',
  objectNotInPrerequisiteState: '55000',
  programLimitExceeded: '54000',
  configurationLimitExceeded: '53400',
  outOfMemory: '53200',
  queryCanceled: '57014',
  internalError: 'XX000',
} as const;

export type SqlState = (typeof SQLSTATE)[keyof typeof SQLSTATE];

export interface ErrorFields {
  detail?: string;
  hint?: string;
  cause?: unknown;
}

/** A SQLSTATE as PostgreSQL packs it into an integer: six bits a character, the first character lowest. */
function packed(state: string): number {
  return [...state].reduce((sum, character, i) => sum + (((character.charCodeAt(0) - 48) & 63) << (6 * i)), 0);
}

/**
 * An error with a SQLSTATE. PL/V8 reads `code` (an integer), `detail` and `hint` from a thrown object, so a client sees
 * them as it would those of a built-in function. PL/V8 shows an error as text and takes "Error: " away, so the class has no name of its own.
 * A text that was cut, or that V8 quotes from, may end in half a character: PL/V8 would send the client bytes that are no UTF-8.
 */
export class HartonomousError extends Error {
  readonly code: number;
  readonly sqlerrcode: SqlState;
  readonly detail: string | undefined;
  readonly hint: string | undefined;

  constructor(sqlerrcode: SqlState, message: string, fields: ErrorFields = {}) {
    super(wellFormed(message), fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = packed(sqlerrcode);
    this.sqlerrcode = sqlerrcode;
    this.detail = fields.detail === undefined ? undefined : wellFormed(fields.detail);
    this.hint = fields.hint === undefined ? undefined : wellFormed(fields.hint);
  }
}

/** The same error, which says in front what it is about. */
export function prefixed(what: string, error: HartonomousError): HartonomousError {
  const { sqlerrcode, detail, hint } = error;
  return new HartonomousError(sqlerrcode, `${what}: ${error.message}`, {
    ...(detail === undefined ? {} : { detail }),
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

/** Throw a HartonomousError; typed `never` so that callers need no return after it. */
export function raise(sqlerrcode: SqlState, message: string, fields: ErrorFields = {}): never {
  throw new HartonomousError(sqlerrcode, message, fields);
}
