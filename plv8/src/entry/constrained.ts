/** generate_json, generate_regex, generate_grammar and generate_choice. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Grammar } from '../sampling/constraint/grammar.ts';
import { answer } from '../generate/engine/ask.ts';
import { jsonOf, optionsOf } from '../format/json-arguments.ts';

function constrained(prompt: string, grammar: Grammar, model: string | null, options: string | null): string {
  return answer('generate', { prompt }, model, optionsOf(options), { grammar }).generation.text;
}

/** Text of a JSON value. */
export function generateJson(
  prompt: string | null,
  schemaText: string | null,
  model: string | null,
  options: string | null,
): string | null {
  const schema = jsonOf(schemaText);
  // JSON's null is no schema.
  if (prompt === null || schema === null) return null;
  return constrained(prompt, { kind: 'json_schema', schema }, model, options);
}

export function generateRegex(
  prompt: string | null,
  pattern: string | null,
  model: string | null,
  options: string | null,
): string | null {
  if (prompt === null || pattern === null) return null;
  return constrained(prompt, { kind: 'regex', pattern }, model, options);
}

export function generateGrammar(
  prompt: string | null,
  grammar: string | null,
  model: string | null,
  options: string | null,
): string | null {
  if (prompt === null || grammar === null) return null;
  return constrained(prompt, { kind: 'grammar', text: grammar }, model, options);
}

export function generateChoice(
  prompt: string | null,
  choices: (string | null)[] | null,
  model: string | null,
  options: string | null,
): string | null {
  if (prompt === null || choices === null) return null;
  const given = choices.map((choice, i) => {
    if (choice === null) raise(SQLSTATE.invalidParameterValue, `choice ${i + 1} is null`);
    return choice;
  });
  if (given.length === 0) raise(SQLSTATE.invalidParameterValue, 'choices must not be empty');
  const text = constrained(prompt, { kind: 'choice', choices: given }, model, options);
  // One space may stand before the answer.
  return given.includes(text) ? text : text.slice(1);
}
