/** SQLSTATEs raised by the bundle; names and classes as in PostgreSQL's appendix A. */
export const SQLSTATE = {
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  invalidTextRepresentation: '22P02',
  untranslatableCharacter: '22P05',
  dataCorrupted: 'XX001',
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

/**
 * An error with a SQLSTATE. PL/V8 reads `sqlerrcode`, `detail` and `hint` from a thrown object, so a client sees
 * them as it would those of a built-in function.
 */
export class HartonomousError extends Error {
  readonly code: SqlState;
  readonly sqlerrcode: SqlState;
  readonly detail: string | undefined;
  readonly hint: string | undefined;

  constructor(code: SqlState, message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = 'HartonomousError';
    this.code = code;
    this.sqlerrcode = code;
    this.detail = fields.detail;
    this.hint = fields.hint;
  }
}

/** Throw a HartonomousError; typed `never` so that callers need no return after it. */
export function raise(code: SqlState, message: string, fields: ErrorFields = {}): never {
  throw new HartonomousError(code, message, fields);
}
