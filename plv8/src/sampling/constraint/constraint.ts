/**
 * Constrained decoding: which tokens may come next so that the answer becomes a text that an expression accepts, within
 * the tokens that are left. The sets of allowed tokens are remembered by state.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { byteText, utf8Encoding } from './characters.ts';
import type { Expression } from './expression.ts';
import { Expressions, NEVER } from './expression.ts';
import { compileGbnf } from './gbnf.ts';
import { anyObject, compileSchema } from './json-schema.ts';
import { compilePattern } from './pattern.ts';
import type { TokenTree } from './token-trie.ts';
import { TokenTrie } from './token-trie.ts';
import { DEAD, Transitions, UNKNOWN } from './transitions.ts';
import type { ToolGrammar } from './tool-grammar.ts';
import { compileToolCalls, marksOf } from './tool-grammar.ts';

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

/** Bytes of the remembered sets of one grammar. */
const MAX_MASK_BYTES = 32 * 1024 * 1024;

/** Bytes of the shortest text that an answer may need. */
const MAX_SHORTEST_BYTES = 1_000_000;

/** Compiled grammars that are kept for the next call. */
const MAX_KEPT = 8;

/** Milliseconds that a grammar may take to be made; bounds on its states come first where the machine is not busy. */
const MAX_MAKING_MS = 60_000;

/** Nodes of the tree between two polls. */
const POLL_STRIDE = 32_768;

interface Mask {
  /** (vocabSize / 32) one bit for each token */
  bits: Uint32Array;
  /** most tokens that the text still needs after any of these */
  worst: number;
}

/** A grammar over one vocabulary. */
class Automaton {
  private readonly expressions: Expressions;
  readonly start: Expression;
  /** Whether every shortest text can be written byte by byte, so that its bytes bound its tokens. */
  private readonly countsBytes: boolean;
  private readonly transitions: Transitions;
  /** by the tree and the state */
  private readonly masks: Map<Expression, Mask>[];
  private maskBytes = 0;
  private readonly costs = new Map<Expression, number>();
  /** keywords of the schema that nobody defines, with their places */
  readonly ignored: string[] = [];

  constructor(
    readonly trie: TokenTrie,
    grammar: Grammar,
    poll: () => void,
  ) {
    const expressions = new Expressions(poll);
    this.expressions = expressions;
    this.transitions = new Transitions(expressions);
    this.masks = trie.trees.map(() => new Map());
    this.start = this.texts(grammar);
    expressions.close();
    if (expressions.shortestLength(this.start) === Infinity) {
      raise(SQLSTATE.invalidParameterValue, `no finite text satisfies the ${nameOf(grammar)}`);
    }
    this.countsBytes = (expressions.bytesOfShortest(this.start) & ~trie.singleBytes) === 0n;
  }

  private texts(grammar: Grammar): Expression {
    const { expressions } = this;
    // Models like to begin with a space, and vocabularies of SentencePiece do.
    const afterSpace = (e: Expression): Expression =>
      expressions.sequence(expressions.optional(expressions.literal(' ')), e);
    switch (grammar.kind) {
      case 'json_object':
        return afterSpace(anyObject(expressions));
      case 'json_schema': {
        const { expression, ignored } = compileSchema(expressions, grammar.schema);
        this.ignored.push(...ignored);
        return afterSpace(expression);
      }
      case 'regex':
        return compilePattern(expressions, grammar.pattern, utf8Encoding(expressions), 'whole');
      case 'grammar':
        return compileGbnf(expressions, grammar.text);
      case 'choice':
        return afterSpace(expressions.any(grammar.choices.map((choice) => expressions.literal(byteText(choice)))));
      case 'tool_call': {
        const otherwise = grammar.otherwise === null ? null : this.texts(grammar.otherwise);
        const { expression, ignored } = compileToolCalls(expressions, grammar, otherwise);
        this.ignored.push(...ignored);
        return expression;
      }
    }
  }

  acceptsEnd(state: Expression): boolean {
    return this.expressions.acceptsEmpty(state);
  }

  /** Whether nothing may follow. */
  isComplete(state: Expression): boolean {
    if (!this.acceptsEnd(state)) return false;
    return this.expressions.classesOf(state).bytes.every((byte) => this.expressions.derive(state, byte) === NEVER);
  }

  after(state: Expression, bytes: Uint8Array): Expression {
    let at = state;
    for (const byte of bytes) at = this.expressions.derive(at, byte);
    return at;
  }

  /** Bytes of the shortest text that ends the answer. */
  shortestLength(state: Expression): number {
    return this.expressions.shortestLength(state);
  }

  /** Fewest tokens of the shortest text that ends the answer; Infinity when it is too long or has no tokens. */
  cost(state: Expression): number {
    let cost = this.costs.get(state);
    if (cost === undefined) {
      cost =
        this.shortestLength(state) > MAX_SHORTEST_BYTES
          ? Infinity
          : this.trie.fewestTokens(this.expressions.shortest(state));
      this.costs.set(state, cost);
    }
    return cost;
  }

  /** Tokens after which the text can be ended with `left` more. */
  allowed(state: Expression, left: number, poll: () => void): Uint32Array {
    const bits = new Uint32Array((this.trie.tokenizer.vocabSize + 31) >> 5);
    this.trie.trees.forEach((tree, i) => {
      const own = this.allowedOf(tree, this.masks[i]!, state, left, poll);
      for (let word = 0; word < bits.length; word++) bits[word]! |= own[word]!;
    });
    for (const [token, others] of this.trie.twins) {
      if ((bits[token >> 5]! & (1 << (token & 31))) === 0) continue;
      for (const twin of others) bits[twin >> 5]! |= 1 << (twin & 31);
    }
    return bits;
  }

  private allowedOf(
    tree: TokenTree,
    masks: Map<Expression, Mask>,
    state: Expression,
    left: number,
    poll: () => void,
  ): Uint32Array {
    // Where tokens are counted by bytes, states that no token of the tree tells apart share a set.
    const { e, removed } = this.countsBytes
      ? this.expressions.relax(state, tree.nodes.longest, (e) => this.cost(e))
      : { e: state, removed: 0 };
    let mask = masks.get(e);
    if (mask === undefined) {
      mask = this.walk(tree, e, Infinity, poll);
      this.maskBytes += mask.bits.byteLength;
      if (this.maskBytes > MAX_MASK_BYTES) {
        for (const each of this.masks) each.clear();
        this.maskBytes = mask.bits.byteLength;
      }
      masks.set(e, mask);
    }
    return mask.worst + removed <= left ? mask.bits : this.walk(tree, state, left, poll).bits;
  }

  private walk(tree: TokenTree, state: Expression, left: number, poll: () => void): Mask {
    const { bytes, depths, ends, tokens, longest } = tree.nodes;
    const { transitions } = this;
    const bits = new Uint32Array((this.trie.tokenizer.vocabSize + 31) >> 5);
    const stack = new Int32Array(longest + 1); // (depths) number of the state there
    stack[0] = transitions.begin(state);
    let { next, needed } = transitions;
    let worst = 0;
    let pollAt = POLL_STRIDE;
    // Few words and numbers only: the first masks of a backend are made before this is compiled.
    for (let node = 0, seen = 0; node < bytes.length; seen++) {
      if (seen === pollAt) {
        pollAt += POLL_STRIDE;
        poll();
      }
      const depth = depths[node]!;
      const place = stack[depth]! * 256 + bytes[node]!;
      let to = next[place]!;
      if (to === UNKNOWN) {
        to = transitions.find(stack, depth, bytes[node]!);
        ({ next, needed } = transitions);
      }
      if (to === DEAD) {
        node = ends[node]!;
        continue;
      }
      stack[depth + 1] = to;
      const token = tokens[node++]!;
      if (token < 0) continue;
      let least = needed[to]!;
      if (least < 0) least = needed[to] = this.bound(transitions.states[to]!);
      if (least > left) least = this.cost(transitions.states[to]!);
      if (least > left || least === Infinity) continue;
      bits[token >> 5]! |= 1 << (token & 31);
      if (least > worst) worst = least;
    }
    return { bits, worst };
  }

  /** Tokens that suffice after `state`: its bytes where each of them is a token, which may be more than the fewest. */
  private bound(state: Expression): number {
    const length = this.shortestLength(state);
    return this.countsBytes && length <= MAX_SHORTEST_BYTES ? length : this.cost(state);
  }
}

const tries = new WeakMap<Tokenizer, Map<string, TokenTrie>>();
const automata = new WeakMap<Tokenizer, Map<string, Automaton>>();

function automatonFor(tokenizer: Tokenizer, grammar: Grammar, poll: () => void): Automaton {
  const key = keyOf(grammar);
  let kept = automata.get(tokenizer);
  if (kept === undefined) automata.set(tokenizer, (kept = new Map()));
  let automaton = kept.get(key);
  if (automaton === undefined) {
    const vocabulary = trieFor(tokenizer, grammar);
    const deadline = Date.now() + MAX_MAKING_MS;
    let making = true;
    const timed = (): void => {
      poll();
      if (making && Date.now() > deadline) {
        raise(
          SQLSTATE.programLimitExceeded,
          `${nameOf(grammar)} takes more than ${MAX_MAKING_MS / 1000} seconds to be prepared`,
          { hint: 'a smaller schema, fewer alternatives, or lower bounds on repetition need less' },
        );
      }
    };
    automaton = shallow(grammar, () => new Automaton(vocabulary, grammar, timed));
    making = false;
  }
  kept.delete(key);
  for (const oldest of kept.keys()) {
    if (kept.size < MAX_KEPT) break;
    kept.delete(oldest);
  }
  kept.set(key, automaton);
  return automaton;
}

/** The vocabulary as a tree, with the control tokens that the grammar speaks of. */
function trieFor(tokenizer: Tokenizer, grammar: Grammar): TokenTrie {
  const marks = grammar.kind === 'tool_call' ? marksOf(grammar) : [];
  const named = new Set<number>();
  for (let id = 0; marks.length > 0 && id < tokenizer.vocabSize; id++) {
    if (!tokenizer.isControl(id)) continue;
    const name = tokenizer.tokenText(id);
    if (name !== '' && marks.some((mark) => mark.includes(name))) named.add(id);
  }
  const key = [...named].join();
  let known = tries.get(tokenizer);
  if (known === undefined) tries.set(tokenizer, (known = new Map()));
  let trie = known.get(key);
  if (trie === undefined) known.set(key, (trie = new TokenTrie(tokenizer, named)));
  return trie;
}

function keyOf(grammar: Grammar): string {
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
function shallow<T>(grammar: Grammar, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    raise(SQLSTATE.programLimitExceeded, `${nameOf(grammar)} nests too deep`, { cause: error });
  }
}

function nameOf(grammar: Grammar): string {
  return grammar.kind.replace('_', ' ');
}

/** One answer under a grammar. */
export class Constraint {
  private readonly automaton: Automaton;
  private state: Expression;

  /** Throws invalidParameterValue when `budget` tokens cannot hold the shortest answer. */
  constructor(
    private readonly tokenizer: Tokenizer,
    grammar: Grammar,
    budget: number,
    private readonly poll: () => void,
  ) {
    this.automaton = automatonFor(tokenizer, grammar, poll);
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
