/** generate_json, generate_regex, generate_grammar and generate_choice. */
import { choiceGrammar, chosen } from '../generate/choice.ts';
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
  const grammar = choiceGrammar(choices);
  return chosen(constrained(prompt, grammar, model, options), grammar.choices);
}
