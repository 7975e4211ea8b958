/**
 * Constrained decoding: which tokens may come next so that the answer becomes a text that an expression accepts, within
 * the tokens that are left.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Automaton } from './automaton.ts';
import { MAX_SHORTEST_BYTES } from './automaton.ts';
import type { Expression } from './expression.ts';
import { NEVER } from './expression.ts';
import type { Grammar } from './grammar.ts';
import { nameOf, shallow } from './grammar.ts';
import type { KeptAutomata } from './kept-automata.ts';
import { ownAutomata } from './kept-automata.ts';

/** Where compiled grammars are kept, and for whom. */
export interface Keeping {
  kept?: KeptAutomata;
  owner?: string;
}

/** One answer under a grammar. */
export class Constraint {
  readonly automaton: Automaton;
  private state: Expression;

  /** Throws invalidParameterValue when `budget` tokens cannot hold the shortest answer. */
  constructor(
    private readonly tokenizer: Tokenizer,
    grammar: Grammar,
    budget: number,
    private readonly poll: () => void,
    { kept = ownAutomata, owner = '' }: Keeping = {},
  ) {
    this.automaton = kept.find(tokenizer, owner, grammar, poll);
    this.state = this.automaton.start;
    const what = nameOf(grammar);
    const length = this.automaton.shortestLength(this.state);
    const tooLong = length > MAX_SHORTEST_BYTES;
    const needed = tooLong
      ? Math.ceil(length / this.automaton.trie.longest)
      : shallow(grammar, () => this.automaton.cost(this.state));
    if (needed === Infinity) {
      raise(SQLSTATE.featureNotSupported, `the model's vocabulary has no tokens for the shortest text of the ${what}`);
    }
    if (needed > budget) {
      raise(SQLSTATE.invalidParameterValue, `${what} needs at least ${needed} tokens, ${budget} may be written`, {
        hint: 'raise option num_predict or num_ctx',
      });
    }
    if (tooLong) {
      raise(
        SQLSTATE.programLimitExceeded,
        `shortest text of the ${what} has ${length} bytes, at most ${MAX_SHORTEST_BYTES} are written`,
      );
    }
  }

  /** Keywords of the schema that nobody defines, with their places; they were ignored. */
  get ignored(): readonly string[] {
    return this.automaton.ignored;
  }

  /**
   * Bits of the tokens that may come next when `left` tokens may be written, this one included; where the text so far is
   * an answer, those that end it too.
   */
  allowed(left: number): Uint32Array {
    const tokens = this.automaton.allowed(this.state, left - 1, this.poll);
    if (!this.acceptsEnd) return tokens;
    const withEnd = tokens.slice();
    for (const id of this.tokenizer.endOfGeneration) withEnd[id >> 5]! |= 1 << (id & 31);
    return withEnd;
  }

  /** Whether the text so far is an answer. */
  get acceptsEnd(): boolean {
    return this.automaton.acceptsEnd(this.state);
  }

  /** Whether the text so far is an answer and nothing may follow. */
  get isComplete(): boolean {
    return this.automaton.isComplete(this.state);
  }

  advance(token: number): void {
    this.state = this.automaton.after(this.state, this.automaton.trie.bytesOf(token));
    if (this.state === NEVER) {
      raise(SQLSTATE.internalError, `token ${token} was chosen although the constraint does not allow it`);
    }
  }
}
