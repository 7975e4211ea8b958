/** Exit codes of the program: 1 failure, 2 wrong use, 3 the database's schema is not this program's. */
export const EXIT = { failure: 1, usage: 2, schemaMismatch: 3 } as const;

/** An error that ends a command: one line for the user, and the next step where there is one. */
export class CommandError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(message: string, options: { hint?: string; exitCode?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'CommandError';
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? EXIT.failure;
  }
}
