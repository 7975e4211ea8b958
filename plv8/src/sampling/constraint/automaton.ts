/** A grammar over one vocabulary: which tokens may follow which state. The sets of allowed tokens are remembered by state. */
import { raise, SQLSTATE } from '../../errors.ts';
import { byteText, utf8Encoding } from './characters.ts';
import type { Expression, ExpressionRoom } from './expression.ts';
import { Expressions, NEVER, OutOfRoom } from './expression.ts';
import { compileGbnf } from './gbnf.ts';
import type { Grammar } from './grammar.ts';
import { nameOf } from './grammar.ts';
import { anyObject, compileSchema } from './json-schema.ts';
import { compilePattern } from './pattern.ts';
import type { TokenTree, TokenTrie } from './token-trie.ts';
import { compileToolCalls } from './tool-grammar.ts';
import { DEAD, Transitions, UNKNOWN } from './transitions.ts';

/** Bytes of the shortest text that an answer may need. */
export const MAX_SHORTEST_BYTES = 1_000_000;

/** Nodes of the tree between two polls. */
const POLL_STRIDE = 32_768;

/** Bytes that a state takes, with what is remembered of it, and one that follows it. */
const STATE_BYTES = 512;
const DERIVATIVE_BYTES = 48;

/** What one grammar may take, at the most; the limits within which a grammar is an error come on top. */
export interface Room extends ExpressionRoom {
  /** bytes of the remembered sets */
  maskBytes: number;
  /** states whose transitions are held as a table, a KiB each */
  tableStates: number;
  /** bytes of the shortest text of a state */
  shortestBytes: number;
}

export const USUAL_ROOM: Room = {
  states: Infinity,
  derivatives: Infinity,
  textBytes: Infinity,
  maskBytes: 32 * 1024 * 1024,
  tableStates: 16_384,
  shortestBytes: Infinity,
};

interface Mask {
  /** (vocabSize / 32) one bit for each token */
  bits: Uint32Array;
  /** most tokens that the text still needs after any of these */
  worst: number;
}

/** A grammar over one vocabulary. */
export class Automaton {
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
    private readonly room: Room = USUAL_ROOM,
  ) {
    const expressions = new Expressions(poll, room);
    this.expressions = expressions;
    this.transitions = new Transitions(expressions, room.tableStates);
    this.masks = trie.trees.map(() => new Map());
    this.start = this.texts(grammar);
    expressions.close();
    if (expressions.shortestLength(this.start) === Infinity) {
      raise(SQLSTATE.invalidParameterValue, `no finite text satisfies the ${nameOf(grammar)}`);
    }
    this.countsBytes = (expressions.bytesOfShortest(this.start) & ~trie.singleBytes) === 0n;
  }

  /** About as many bytes as it takes. */
  get bytes(): number {
    const { states, derivatives, textBytes } = this.expressions.held;
    const held = STATE_BYTES * states + DERIVATIVE_BYTES * derivatives + textBytes;
    return held + this.maskBytes + this.transitions.bytes;
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
      const length = this.shortestLength(state);
      if (length > this.room.shortestBytes && length !== Infinity) throw new OutOfRoom();
      cost = length > MAX_SHORTEST_BYTES ? Infinity : this.trie.fewestTokens(this.expressions.shortest(state));
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
      if (this.maskBytes > this.room.maskBytes) {
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
