/** What generate, complete, chat and generate_stream give for an answer. */
import { writeJson } from '../format/ordered-json.ts';
import type { SentStep } from './engine/messages.ts';
import type { Answer } from './request.ts';
import { callsFact, facts, thinkingFact } from './request.ts';

export function completion(answer: Answer): Record<string, unknown> {
  return {
    model: answer.modelName,
    created_at: new Date().toISOString(),
    text: answer.generation.text,
    ...thinkingFact(answer),
    ...facts(answer),
  };
}

/** Text of a JSON object: arguments of calls keep the digits that the model wrote. */
export function nextMessage(answer: Answer): string {
  return writeJson({
    model: answer.modelName,
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content: answer.generation.text, ...thinkingFact(answer), ...callsFact(answer) },
    ...facts(answer),
  });
}

export interface StreamRow {
  step: number;
  token_id: number;
  token: string;
  logprob: number | null;
  thinking: string;
}

/** A row for each token. Text may become certain only at the end of the answer, which has no token: it goes to the last one's. */
export function streamRows(steps: readonly SentStep[]): StreamRow[] {
  const rows: StreamRow[] = [];
  for (const { id, logprob, text, thinking } of steps) {
    if (id !== null) rows.push({ step: rows.length, token_id: id, token: text, logprob, thinking });
    else if (rows.length > 0) {
      rows[rows.length - 1]!.token += text;
      rows[rows.length - 1]!.thinking += thinking;
    }
  }
  return rows;
}
