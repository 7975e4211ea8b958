/** open_session, next_tokens, close_session and the view sessions. */
import { returnNext } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { callerRole } from '../backend/caller.ts';
import { chatPrompt, turnPrompt } from '../generate/templated-prompt.ts';
import { callsFact, facts, openRequest, promptModel, shownLogprob, thinkingFact } from '../generate/request.ts';
import * as session from '../generate/session.ts';
import { parseMessages } from '../tokenizer/messages.ts';
import { writeJson } from '../format/ordered-json.ts';
import { jsonOf, optionsOf } from '../format/json-arguments.ts';

const MAX_TOKENS_PER_CALL = 100_000;

export function openSession(promptText: string | null, model: string | null, options: string | null): number | null {
  const prompt = jsonOf(promptText);
  if (prompt === null) return null;
  const request = openRequest(model, optionsOf(options), { conversation: typeof prompt !== 'string' });
  const prepared = promptModel(request.used);
  if (typeof prompt === 'string') {
    return session.openSession(request, 'stream', turnPrompt(prepared, prompt, request.options));
  }
  return session.openSession(request, 'chat', chatPrompt(prepared, parseMessages(prompt), request.options));
}

export function nextTokens(sessionId: bigint | number | null, n: number | null): void {
  if (sessionId === null || n === null) return;
  if (n < 1 || n > MAX_TOKENS_PER_CALL) {
    raise(SQLSTATE.invalidParameterValue, `n must be between 1 and ${MAX_TOKENS_PER_CALL}, got ${n}`);
  }
  const { steps, from, options, tokenizer } = session.nextSteps(Number(sessionId), callerRole(), n);
  steps.forEach(({ token, text, thinking, calls, doneReason }, i) => {
    returnNext({
      step: from + i,
      token_id: token?.id ?? null,
      token: text,
      logprob: token?.logprob ?? null,
      done_reason: doneReason,
      logprobs: options.logprobs && token !== null ? shownLogprob(tokenizer, token) : null,
      thinking,
      tool_calls: calls.length === 0 ? null : calls,
    });
  });
}

/** Text of a JSON object: arguments of calls keep the digits that the model wrote. */
export function closeSession(sessionId: bigint | number | null): string | null {
  if (sessionId === null) return null;
  const answer = session.closeSession(Number(sessionId), callerRole());
  return writeJson({
    model: answer.modelName,
    text: answer.generation.text,
    ...thinkingFact(answer),
    ...callsFact(answer),
    ...facts(answer),
  });
}

export function sessions(): void {
  for (const row of session.sessionRows(callerRole())) returnNext(row);
}
