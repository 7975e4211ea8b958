/** What goes wrong over HTTP: PostgreSQL's errors become a status, and the body has the shape the client expects. */
import pg from 'pg';
import { AnswerCancelled } from '../answer/backend.ts';
import { CommandError } from '../errors.ts';

export type ErrorStatus = 400 | 401 | 403 | 404 | 413 | 500 | 502 | 503 | 504;

/** An error with its status; `retryAfter` in seconds. */
export class HttpError extends Error {
  constructor(
    readonly status: ErrorStatus,
    message: string,
    readonly fields: { param?: string; code?: string; retryAfter?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: fields.cause });
    this.name = 'HttpError';
  }
}

/** SQLSTATEs, or their classes, whose fault is the request's. */
const STATUS_OF: readonly (readonly [prefix: string, status: ErrorStatus])[] = [
  ['42704', 404], // no such model
  ['42501', 403], // no privilege
  ['57014', 504], // statement_timeout
  ['57P', 502], // the backend was ended
  ['08', 502],
  ['53', 503], // out of memory, connections, or a limit an operator set
  ['0A', 400],
  ['22', 400],
  ['42', 400],
  ['54', 400],
  ['55', 400],
  ['P0001', 400],
];

/** Whether a backend is of no further use after this error. */
export function isBroken(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return error.severity === 'FATAL' || error.severity === 'PANIC';
  // The driver's own errors carry no SQLSTATE: the connection broke.
  return !(error instanceof HttpError || error instanceof CommandError || error instanceof AnswerCancelled);
}

/** Any error as one with a status. */
export function asHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof pg.DatabaseError) {
    const code = error.code ?? '';
    const status = STATUS_OF.find(([prefix]) => code.startsWith(prefix))?.[1] ?? 500;
    const message = error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
    return new HttpError(status, message, { code, cause: error, ...(status === 503 ? { retryAfter: 5 } : {}) });
  }
  if (error instanceof CommandError) return new HttpError(503, error.message, { cause: error, retryAfter: 5 });
  // Nobody reads this: the client is gone, or the server is stopping.
  if (error instanceof AnswerCancelled) return new HttpError(503, error.message, { cause: error });
  const reason = error instanceof Error ? error.message : String(error);
  return new HttpError(502, `the connection to the database broke: ${reason}`, { cause: error });
}

/** The body of an error as OpenAI gives it. */
export function openaiError(error: HttpError): object {
  const type =
    error.status === 401
      ? 'authentication_error'
      : error.status === 403
        ? 'permission_error'
        : error.status < 500
          ? 'invalid_request_error'
          : 'server_error';
  return {
    error: { message: error.message, type, param: error.fields.param ?? null, code: error.fields.code ?? null },
  };
}

/** The body of an error as Ollama gives it. */
export function ollamaError(error: HttpError): object {
  return { error: error.message };
}
