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
import { message, NOTHING } from './values.ts';

/** Characters that a backend hears at the end: what it reads slowly waits in the engine, which bounds that. */
const MAX_HEARD = 2_000_000;

/** Stands where a run's id will: no run has it. */
const RUN_ID = Number.MAX_SAFE_INTEGER;

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
  /** Whether what was computed for it is at hand where its backend asks the engine again. */
  protected readonly isRemembered: boolean = false;
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
  static readonly nothing = [message(NOTHING)];

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

  /**
   * What the backend hears at the end. What cannot be told, as options that nest too deep to be written, or is too much, it
   * computes itself.
   */
  finish(last: LastMessage): string[] {
    try {
      const result = this.resultOf(last);
      const heard = result === null ? null : [...this.besides, ...result];
      if (heard !== null && heard.reduce((sum, text) => sum + text.length, 0) <= MAX_HEARD) return heard;
    } catch {
      // The backend has the error, if it is one of the call's.
    }
    return this.leave(last);
  }

  /** What the backend hears where it is to compute the call, which counts there, and so do tokens that it has evaluated anew. */
  private leave(last: LastMessage): string[] {
    const { catalog, store } = this.made;
    if ('unseen' in last || !this.isRemembered) this.charge(-this.charged);
    uncountCall(catalog.accounts, store);
    return ServedCall.nothing;
  }

  /** The result as the backend hears it, by functions of values.ts; null where it is to compute the call. */
  protected abstract resultOf(last: LastMessage): string[] | null;
}
