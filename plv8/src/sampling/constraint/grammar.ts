/** What an answer has to be, as its caller said it. */
import { raise, SQLSTATE } from '../../errors.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { ToolGrammar } from './tool-grammar.ts';

/** What an answer has to be. */
export type Grammar =
  | { kind: 'json_object' }
  | { kind: 'json_schema'; schema: unknown }
  | { kind: 'regex'; pattern: string }
  | { kind: 'choice'; choices: readonly string[] }
  /** in GBNF */
  | { kind: 'grammar'; text: string }
  /** `otherwise` is what the answer is where no tool is called; null for any text */
  | (ToolGrammar & { otherwise: Grammar | null });

/** Characters of a grammar as JSON. */
const MAX_GRAMMAR_LENGTH = 256 * 1024;

/** Its JSON text. Throws programLimitExceeded where that is too long. */
export function keyOf(grammar: Grammar): string {
  const key = shallow(grammar, () => writeJson(grammar));
  if (key.length > MAX_GRAMMAR_LENGTH) {
    raise(
      SQLSTATE.programLimitExceeded,
      `${nameOf(grammar)} has ${key.length} characters, at most ${MAX_GRAMMAR_LENGTH} are read`,
    );
  }
  return key;
}

/** Run what goes down into a grammar; one that is deeper than V8's stack is an error of its own. */
export function shallow<T>(grammar: Grammar, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    raise(SQLSTATE.programLimitExceeded, `${nameOf(grammar)} nests too deep`, { cause: error });
  }
}

export function nameOf(grammar: Grammar): string {
  return grammar.kind.replace('_', ' ');
}
