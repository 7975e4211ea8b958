/** What an engine sends of the prompts of a call, and what is left to do with it on behalf of the session whose it is. */
import type { BatchCall, BatchRow } from '../batch.ts';
import { BatchRows } from '../batch.ts';
import type { CallSession } from '../call-session.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { received } from './finish.ts';
import type { EngineAnswer, Part } from './messages.ts';

export class AnsweredPrompts {
  private readonly answers = new Map<number, EngineAnswer | null>();

  see(part: Part): void {
    if ('place' in part) this.answers.set(part.place, part.answer);
  }

  /** The rows of a call of so many prompts; `settings` are those of each. Answers are logged, remembered and recorded. */
  finish(call: BatchCall, settings: readonly GenerateOptions[], session: CallSession): BatchRow[] {
    const rows = new BatchRows(settings.length, session);
    for (const place of settings.keys()) {
      const answer = this.answers.get(place);
      if (answer === null) rows.fail(place);
      if (!answer) continue;
      const { heldAs, loadNs, run } = answer;
      const generation = received(call, answer, session);
      rows.answer(place, call, { generation, settings: settings[place]!, heldAs, loadNs, run });
    }
    return rows.rows;
  }
}
