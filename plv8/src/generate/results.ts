/** What generate, complete and chat give for an answer. */
import { writeJson } from '../format/ordered-json.ts';
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
