/** Answers that are one of several texts. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Grammar } from '../sampling/constraint/grammar.ts';

/** Throws where there is none, or one is null, naming it by its place from 1. */
export function choiceGrammar(
  choices: readonly (string | null)[],
): Extract<Grammar, { kind: 'choice' }> & { choices: string[] } {
  const given = choices.map((choice, i) => {
    if (choice === null) raise(SQLSTATE.invalidParameterValue, `choice ${i + 1} is null`);
    return choice;
  });
  if (given.length === 0) raise(SQLSTATE.invalidParameterValue, 'choices must not be empty');
  return { kind: 'choice', choices: given };
}

/** The choice that an answer is: one space may stand before it. */
export function chosen(text: string, choices: readonly string[]): string {
  return choices.includes(text) ? text : text.slice(1);
}
