/** What an engine sends of the prompts of a call, and what is left to do with it on behalf of the session whose it is. */
import type { BatchCall, BatchRow } from '../batch.ts';
import { BatchRows } from '../batch.ts';
import type { CallSession } from '../call-session.ts';
import { answerFacts, ignoredNotice } from '../generate.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import type { ToolCall } from '../../sampling/tool-calls.ts';
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
      else if (answer !== undefined) this.finishOne(rows, call, place, settings[place]!, answer, session);
    }
    return rows.rows;
  }

  private finishOne(
    rows: BatchRows,
    call: BatchCall,
    place: number,
    settings: GenerateOptions,
    { generation: sent, calls, ignoredKeywords, isWhole, heldAs, loadNs, run }: EngineAnswer,
    session: CallSession,
  ): void {
    const { caller, model } = call;
    const generation = { ...sent, calls: parseJson(calls) as ToolCall[] };
    const ignored = ignoredNotice(ignoredKeywords);
    if (ignored !== null) session.notice(ignored);
    session.log('generate', answerFacts(model.name, caller, generation));
    const ids = generation.tokens.map((token) => token.id);
    if (isWhole) session.remember({ caller, digest: model.digest, text: generation.text, ids });
    rows.answer(place, call, { generation, settings, heldAs, loadNs, run });
  }
}
