/**
 * A call whose backend runs no JavaScript: the engine does what the function would do there, for who called it, and says what is
 * left for that backend (host/src/front/call.cc). Its limits are looked at and its tokens counted here. Whatever is out of the
 * ordinary the backend computes with its function, which has the errors, too.
 */
import type { Catalog } from '../../../backend/catalog.ts';
import { charge, countCall, uncountCall } from '../../../backend/hourly-counts.ts';
import type { CounterStore } from '../../../db.ts';
import { logLine } from '../../../db.ts';
import type { CallSession } from '../../call-session.ts';
import { RECORD_RUN, storedRun } from '../../record.ts';
import type { EngineRequest, LastMessage, Part, SessionCall } from '../messages.ts';

/** Between fields of a message. No text of PostgreSQL's has it. */
const NEXT = '\0';

/** Has the backend compute the call. */
const NOTHING = 'nothing';

/** Stands where a run's id will: no run has it. */
const RUN_ID = Number.MAX_SAFE_INTEGER;

const field = (text: string): string => text.replaceAll(NEXT, '\uFFFD');
const message = (...fields: string[]): string => fields.map(field).join(NEXT);

/** A call as it was made. */
export interface CallMade {
  call: SessionCall;
  /** With the limits and accounts of who called. */
  catalog: Catalog;
  startedAt: number; // milliseconds since 1970
  /** Where it counts. */
  store: CounterStore;
}

export abstract class ServedCall {
  /** What the engine is to do. */
  abstract readonly request: EngineRequest;
  /** What the backend is to do besides its result. */
  private readonly besides: string[] = [];
  private charged = 0;

  protected readonly session: CallSession = {
    notice: (text) => this.besides.push(message('notice', text)),
    log: (event, facts) => this.besides.push(message('log', logLine(event, facts))),
    remember: (written) => this.besides.push(message('keep', JSON.stringify(written))),
    record: (run, texts) => {
      this.besides.push(message('run', RECORD_RUN, storedRun(run, texts)));
      return RUN_ID;
    },
  };

  constructor(protected readonly made: CallMade) {}

  /** What the backend hears of a call that it is to compute. */
  static readonly nothing = [NOTHING];

  /** Name of the role on whose behalf it is. */
  protected get caller(): string {
    const { catalog, call } = this.made;
    return catalog.accounts.find(({ oid }) => oid === call.role)!.role;
  }

  /** It is admitted. Throws where its hour is used up. */
  count(): void {
    const { catalog, store } = this.made;
    countCall(catalog.accounts, store);
  }

  /** So many tokens are about to be evaluated. */
  charge(tokens: number): void {
    charge(this.made.catalog.accounts, tokens, this.made.store);
    this.charged += tokens;
  }

  /** What one of several texts comes to. */
  see(_part: Part): void {
    throw new Error('no part of this call was to come');
  }

  /** What the backend hears at the end. What cannot be told, as options that nest too deep to be written, it computes itself. */
  finish(last: LastMessage): string[] {
    try {
      const result = this.resultOf(last);
      if (result !== null) return [...this.besides, ...result];
    } catch {
      // The backend has the error, if it is one of the call's.
    }
    return this.leave();
  }

  /** What the backend hears where it is to compute the call, which counts there. */
  leave(): string[] {
    const { catalog, store } = this.made;
    this.charge(-this.charged);
    uncountCall(catalog.accounts, store);
    return ServedCall.nothing;
  }

  /** The result as the backend hears it, by the functions below; null where it is to compute the call. */
  protected abstract resultOf(last: LastMessage): string[] | null;
}

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

/** Options that the function would get as a JSON value. */
export function jsonOptions(text: string | null | undefined): Record<string, unknown> | null {
  return typeof text === 'string' ? (JSON.parse(text) as Record<string, unknown> | null) : null;
}
