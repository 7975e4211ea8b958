/** Where that of a call goes which is not its result: to the client, the server's log, what a session remembers, recorded runs. */
import type { SqlValue } from '../db.ts';
import { logEvent, notice } from '../db.ts';
import type { RunRecord, RunTexts } from './record.ts';
import { recordWithTexts } from './record.ts';
import type { Written } from './written-answers.ts';
import { rememberWhole } from './written-answers.ts';

export interface CallSession {
  notice(message: string): void;
  log(event: string, facts: Record<string, SqlValue>): void;
  remember(written: Written): void;
  /** The run's id. */
  record(run: RunRecord, texts: RunTexts): number;
}

/** The session of this backend. */
export const THIS_SESSION: CallSession = { notice, log: logEvent, remember: rememberWhole, record: recordWithTexts };
