/**
 * Regular expressions over bytes, extended by references to themselves, as a table of distinct nodes. A node is the
 * state of an automaton: its derivative by a byte (Brzozowski, https://dl.acm.org/doi/10.1145/321239.321249) is the node
 * that accepts what may follow that byte. Nodes are made as they are reached; equal ones are one and the same, so a
 * state that comes again is known. Through references the states form a stack automaton, which JSON needs.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { ByteClasses } from './byte-classes.ts';
import { BytePartitions } from './byte-classes.ts';
import type { Machine } from './machine-states.ts';

/** Number of a node. */
export type Expression = number;

/** Accepts nothing, not even the empty text. */
export const NEVER: Expression = 0;
/** Accepts the empty text. */
export const EMPTY: Expression = 1;
/** Accepts nothing, like NEVER, but counts as a text without bytes: it stands where no token comes to. */
const WALL: Expression = 2;

/** Nodes, with the members of alternatives and the states of machines counted: some hundred bytes each. */
const MAX_SIZE = 300_000;

/** What expressions may take where others need memory, too; who takes more throws OutOfRoom. */
export interface ExpressionRoom {
  /** as MAX_SIZE counts them */
  states: number;
  /** remembered derivatives */
  derivatives: number;
  /** bytes of remembered texts */
  textBytes: number;
}

const NO_BOUNDS: ExpressionRoom = { states: Infinity, derivatives: Infinity, textBytes: Infinity };

/** More was taken than there is room for. */
export class OutOfRoom extends Error {}

/** Nodes between two polls. */
const POLL_STRIDE = 1024;

interface Relaxed {
  e: Expression;
  removed: number;
}

type Node =
  | { kind: 'never' | 'empty' | 'wall' }
  | { kind: 'bytes'; set: Uint8Array } // (256) 1 for a byte that is accepted
  | { kind: 'literal'; text: string; from: number } // characters are bytes
  | { kind: 'sequence'; first: Expression; rest: Expression }
  | { kind: 'any'; of: readonly Expression[] }
  | { kind: 'repeat'; of: Expression; least: number; most: number }
  | { kind: 'reference'; to: number }
  | { kind: 'machine'; machine: Machine; state: number }
  // `least` to `most` texts, no two of which begin with the same byte; `used` has the bytes taken as bits.
  | ({ kind: 'distinct'; used: bigint; least: number; most: number } & Distinct);

/** Texts of a list: each is one of `head`, which holds no references, and then one of `tail`; `between` stands between two. */
export interface Distinct {
  head: Expression;
  tail: Expression;
  between: Expression;
}

export class Expressions {
  private readonly nodes: Node[] = [];
  private readonly known = new Map<string, Expression>();
  private readonly sequences = new Map<number, Expression>();
  private readonly derivatives = new Map<number, Expression>();
  readonly partitions = new BytePartitions();
  private readonly classes: (ByteClasses | undefined)[] = [];
  /** by the number of bytes */
  private readonly relaxedForms = new Map<number, Map<Expression, Relaxed>>();
  private readonly shortestTexts = new Map<Expression, string>();
  private readonly nullable: boolean[] = [];
  /** Bytes of the shortest text; Infinity when there is none. */
  private readonly least: number[] = [];
  private readonly definitions: Expression[] = [];
  private size = 0;
  private textBytes = 0;
  private spent = 0;
  private closed = false;

  constructor(
    readonly poll: () => void = () => undefined,
    readonly room: ExpressionRoom = NO_BOUNDS,
  ) {
    this.add({ kind: 'never' });
    this.add({ kind: 'empty' });
    this.add({ kind: 'wall' });
  }

  /** What there is of it. */
  get held(): ExpressionRoom {
    return { states: this.size, derivatives: this.derivatives.size, textBytes: this.textBytes };
  }

  /** Whether the empty text is accepted. */
  acceptsEmpty(e: Expression): boolean {
    return this.nullable[e]!;
  }

  /** Bytes of the shortest text accepted; Infinity when there is none. To be asked after `close`. */
  shortestLength(e: Expression): number {
    return this.least[e]!;
  }

  bytes(accepts: (byte: number) => boolean): Expression {
    const set = Uint8Array.from({ length: 256 }, (_, byte) => (accepts(byte) ? 1 : 0));
    return set.includes(1) ? this.keyed(`b${set.join('')}`, () => ({ kind: 'bytes', set })) : NEVER;
  }

  range(from: number, to: number): Expression {
    return this.bytes((byte) => byte >= from && byte <= to);
  }

  /** Exactly this text, whose characters are bytes. */
  literal(text: string, from = 0): Expression {
    if (from === text.length) return EMPTY;
    // A long text is not its own key: what is left of it would be a key as long at every byte.
    const key = text.length > 64 ? `l${this.textNumber(text)}@${from}` : `l${text.slice(from)}`;
    return this.keyed(key, () => ({ kind: 'literal', text, from }));
  }

  sequence(...parts: Expression[]): Expression {
    return parts.reduceRight((rest, first) => this.pair(first, rest), EMPTY);
  }

  any(alternatives: Iterable<Expression>): Expression {
    const members = new Set<Expression>();
    const sets = new Set<Expression>();
    const collect = (e: Expression): void => {
      const node = this.nodes[e]!;
      if (node.kind === 'any') node.of.forEach(collect);
      else if (node.kind === 'bytes') sets.add(e);
      else if (e !== NEVER) members.add(e);
    };
    for (const e of alternatives) collect(e);
    if (sets.size > 0) members.add(this.union([...sets]));
    if (members.size === 0) return NEVER;
    const of = [...members].sort((a, b) => a - b);
    if (of.length === 1) return of[0]!;
    return this.keyed(`a${of.join(',')}`, () => ({ kind: 'any', of }));
  }

  private union(sets: readonly Expression[]): Expression {
    if (sets.length === 1) return sets[0]!;
    const nodes = sets.map((e) => this.nodes[e] as Node & { kind: 'bytes' });
    return this.bytes((byte) => nodes.some((node) => node.set[byte] === 1));
  }

  optional(e: Expression): Expression {
    return this.any([EMPTY, e]);
  }

  /** `e` at least `least` and at most `most` times (Infinity for no bound). */
  repeat(e: Expression, least: number, most: number): Expression {
    if (e === NEVER) return least === 0 ? EMPTY : NEVER;
    if (most === 0 || e === EMPTY) return EMPTY;
    if (least === 1 && most === 1) return e;
    const needed = this.nullable[e] ? 0 : least;
    return this.keyed(`r${e},${needed},${most}`, () => ({ kind: 'repeat', of: e, least: needed, most }));
  }

  /** What a machine accepts from one of its states on. */
  machine(machine: Machine, state: number): Expression {
    if (machine.least[state] === Infinity) return NEVER;
    return this.keyed(`m${machine.number},${state}`, () => ({ kind: 'machine', machine, state }));
  }

  /** `least` to `most` texts, no two of which begin with the same byte. */
  distinct(texts: Distinct, least: number, most: number, used = 0n): Expression {
    if (most === 0) return least === 0 ? EMPTY : NEVER;
    const { head, tail, between } = texts;
    const needed = Math.max(1, least);
    const made = this.keyed(`d${head},${tail},${between},${used},${needed},${most}`, () => ({
      kind: 'distinct',
      head,
      tail,
      between,
      used,
      least: needed,
      most,
    }));
    return least === 0 ? this.optional(made) : made;
  }

  /** First bytes that are left to a list of distinct texts, with what is left of the head after each, the shortest first. */
  private firstBytes({ head, used }: Node & { kind: 'distinct' }): { byte: number; rest: Expression }[] {
    return Array.from({ length: 256 }, (_, byte) => ({ byte, rest: this.derive(head, byte) }))
      .filter(({ byte, rest }) => rest !== NEVER && ((used >> BigInt(byte)) & 1n) === 0n)
      .sort((a, b) => this.least[a.rest]! - this.least[b.rest]! || a.byte - b.byte);
  }

  /** A place for an expression that is not made yet; `define` says what it stands for. It must not accept the empty text. */
  reference(): { expression: Expression; define(e: Expression): void } {
    const to = this.definitions.length;
    this.definitions.push(NEVER);
    return {
      expression: this.keyed(`x${to}`, () => ({ kind: 'reference', to })),
      define: (e) => {
        this.definitions[to] = e;
      },
    };
  }

  /** All references are defined: work out lengths, which go round through them. */
  close(): void {
    this.settle((e) => {
      const length = this.lengthOf(this.nodes[e]!);
      if (length === this.least[e]) return false;
      this.least[e] = length;
      return true;
    });
    this.closed = true;
  }

  /**
   * Work out what a node has from its parts, `update` telling whether it changed. Parts are made before what they are part
   * of, so one pass suffices but for references: what depends on one is asked again until nothing changes.
   */
  private settle(update: (e: Expression) => boolean): void {
    for (let e = 0; e < this.nodes.length; e++) update(e);
    if (this.definitions.length === 0) return;
    const wholes: Expression[][] = this.nodes.map(() => []);
    this.nodes.forEach((node, e) => this.partsOf(node).forEach((part) => wholes[part]!.push(e)));
    const waiting = new Set(this.nodes.flatMap(({ kind }, e) => (kind === 'reference' ? [e] : [])));
    for (const e of waiting) {
      waiting.delete(e);
      this.spend(0);
      if (update(e)) wholes[e]?.forEach((whole) => waiting.add(whole));
    }
  }

  private partsOf(node: Node): readonly Expression[] {
    switch (node.kind) {
      case 'sequence':
        return [node.first, node.rest];
      case 'any':
        return node.of;
      case 'repeat':
        return [node.of];
      case 'reference':
        return [this.definitions[node.to]!];
      case 'distinct':
        return [node.head, node.tail, node.between];
      default:
        return [];
    }
  }

  /**
   * Bytes that may occur in the shortest text of `start` or of anything that may be left of it, as bits. To be asked after
   * `close`. Of an alternative the shortest members count as long as it is whole, and what is left of any of them after that.
   */
  bytesOfShortest(start: Expression): bigint {
    const whole: bigint[] = new Array<bigint>(this.nodes.length).fill(0n); // in the shortest text of the node
    const left: bigint[] = new Array<bigint>(this.nodes.length).fill(0n); // in those of its derivatives
    this.settle((e) => {
      const [inWhole, inLeft] = this.bytesOfNode(this.nodes[e]!, whole, left);
      if (inWhole === whole[e] && inLeft === left[e]) return false;
      whole[e] = inWhole;
      left[e] = inLeft;
      return true;
    });
    return whole[start]! | left[start]!;
  }

  private bytesOfNode(node: Node, whole: readonly bigint[], left: readonly bigint[]): [whole: bigint, left: bigint] {
    switch (node.kind) {
      case 'bytes':
        return [1n << BigInt(node.set.indexOf(1)), 0n];
      case 'literal': {
        let bits = 0n;
        for (let i = node.from; i < node.text.length; i++) bits |= 1n << BigInt(node.text.charCodeAt(i));
        return [bits, bits];
      }
      case 'sequence': {
        const { first, rest } = node;
        return [whole[first]! | whole[rest]!, left[first]! | whole[rest]! | left[rest]!];
      }
      case 'any': {
        const length = this.lengthOf(node);
        const shortest = node.of.filter((e) => this.least[e] === length);
        return [shortest.reduce((bits, e) => bits | whole[e]!, 0n), node.of.reduce((bits, e) => bits | left[e]!, 0n)];
      }
      case 'repeat': {
        const needed = node.least > 0 ? whole[node.of]! : 0n;
        return [needed, needed | left[node.of]!];
      }
      case 'reference': {
        const to = this.definitions[node.to]!;
        return [whole[to]!, left[to]!];
      }
      case 'machine': {
        const { written } = node.machine;
        return [written, written];
      }
      case 'distinct': {
        const first = this.firstBytes(node).reduce((bits, { byte }) => bits | (1n << BigInt(byte)), 0n);
        const parts = [node.head, node.tail, node.between];
        const all = parts.reduce((bits, e) => bits | whole[e]! | left[e]!, first);
        return [all, all];
      }
      default:
        return [0n, 0n];
    }
  }

  /** What may follow `byte`; NEVER when nothing may, or when what may follow never ends. */
  derive(e: Expression, byte: number): Expression {
    const node = this.nodes[e]!;
    switch (node.kind) {
      case 'never':
      case 'empty':
      case 'wall':
        return NEVER;
      case 'bytes':
        return node.set[byte] === 1 ? EMPTY : NEVER;
      case 'literal':
        return node.text.charCodeAt(node.from) === byte ? this.literal(node.text, node.from + 1) : NEVER;
      default: {
        const key = e * 256 + byte;
        let derived = this.derivatives.get(key);
        if (derived === undefined) {
          derived = this.deriveNode(node, byte);
          if (this.least[derived] === Infinity) derived = NEVER;
          this.derivatives.set(key, derived);
          if (this.derivatives.size > this.room.derivatives) throw new OutOfRoom();
        }
        return derived;
      }
    }
  }

  /** Bytes that `derive` does not tell apart. */
  classesOf(e: Expression): ByteClasses {
    let classes = this.classes[e];
    if (classes === undefined) {
      classes = this.classesOfNode(this.nodes[e]!);
      this.classes[e] = classes;
    }
    return classes;
  }

  private classesOfNode(node: Node): ByteClasses {
    const { partitions } = this;
    switch (node.kind) {
      case 'bytes':
        return partitions.partition((byte) => node.set[byte]!);
      case 'literal':
        return partitions.single(node.text.charCodeAt(node.from));
      case 'sequence': {
        const classes = this.classesOf(node.first);
        return this.nullable[node.first] ? partitions.refine(classes, this.classesOf(node.rest)) : classes;
      }
      case 'any':
        return node.of.reduce((classes, e) => partitions.refine(classes, this.classesOf(e)), partitions.one);
      case 'repeat':
        return this.classesOf(node.of);
      case 'reference':
        return this.classesOf(this.definitions[node.to]!);
      case 'machine':
        return node.machine.states[node.state]!.classes;
      case 'distinct': {
        // Each first byte leaves another set of them.
        const firsts = new Set(this.firstBytes(node).map(({ byte }) => byte));
        return partitions.partition((byte) => (firsts.has(byte) ? byte : -1));
      }
      default:
        return partitions.one;
    }
  }

  /**
   * The expression with counts of repetition that `bytes` bytes cannot reach made smaller, so that states which differ in
   * them only are one: what may follow within so many bytes is the same. `removed` is what the shortest texts of the
   * repetitions that are gone cost.
   */
  relax(e: Expression, bytes: number, costOf: (e: Expression) => number): Relaxed {
    const known = this.relaxedWithin(bytes);
    let relaxed = known.get(e);
    if (relaxed === undefined) {
      relaxed = this.relaxNode(e, this.nodes[e]!, bytes, costOf);
      known.set(e, relaxed);
    }
    return relaxed;
  }

  private relaxedWithin(bytes: number): Map<Expression, Relaxed> {
    let known = this.relaxedForms.get(bytes);
    if (known === undefined) this.relaxedForms.set(bytes, (known = new Map()));
    return known;
  }

  private relaxNode(e: Expression, node: Node, bytes: number, costOf: (e: Expression) => number): Relaxed {
    switch (node.kind) {
      case 'sequence':
        return this.relaxSequence(e, bytes, costOf);
      case 'any': {
        const of = node.of.map((member) => this.relax(member, bytes, costOf));
        return { e: this.any(of.map((member) => member.e)), removed: Math.max(...of.map((member) => member.removed)) };
      }
      case 'repeat': {
        // So many are begun at the most, and one more must not be told from none.
        const { of, least, most } = node;
        const within = Math.floor(bytes / Math.max(1, this.least[of]!)) + 2;
        if (least > within) {
          // One, whose cost depends on how far a token goes into it, and then any number that never suffices.
          return { e: this.sequence(of, this.repeat(of, 0, Infinity), WALL), removed: (least - 1) * costOf(of) };
        }
        return { e: this.repeat(of, least, most > within ? Infinity : most), removed: 0 };
      }
      default:
        return { e, removed: 0 };
    }
  }

  /** From the last part on, one after the other: an answer may nest deeper than calls do. */
  private relaxSequence(e: Expression, bytes: number, costOf: (e: Expression) => number): Relaxed {
    const known = this.relaxedWithin(bytes);
    const sequences: { whole: Expression; first: Expression }[] = [];
    let rest = e;
    for (let node = this.nodes[rest]!; node.kind === 'sequence'; node = this.nodes[rest]!) {
      if (known.has(rest)) break;
      sequences.push({ whole: rest, first: node.first });
      rest = node.rest;
    }
    return sequences.reduceRight(
      (after, { whole, first }) => {
        const part = this.relax(first, bytes, costOf);
        const relaxed = { e: this.pair(part.e, after.e), removed: part.removed + after.removed };
        known.set(whole, relaxed);
        return relaxed;
      },
      this.relax(rest, bytes, costOf),
    );
  }

  /** The first of the shortest texts in the order of bytes; its characters are bytes. */
  shortest(e: Expression): string {
    const known = this.shortestTexts.get(e);
    if (known !== undefined) return known;
    const parts: string[] = [];
    let at = e;
    for (let node = this.nodes[at]!; node.kind === 'sequence'; node = this.nodes[at]!) {
      parts.push(this.shortest(node.first));
      at = node.rest;
    }
    parts.push(this.shortestOf(this.nodes[at]!));
    const text = parts.join('');
    this.shortestTexts.set(e, text);
    this.textBytes += text.length;
    if (this.textBytes > this.room.textBytes) throw new OutOfRoom();
    return text;
  }

  private shortestOf(node: Node): string {
    switch (node.kind) {
      case 'bytes':
        return String.fromCharCode(node.set.indexOf(1));
      case 'literal':
        return node.text.slice(node.from);
      case 'any': {
        const length = this.lengthOf(node);
        const texts = node.of.filter((e) => this.least[e] === length).map((e) => this.shortest(e));
        return texts.reduce((first, text) => (text < first ? text : first));
      }
      case 'repeat':
        return this.shortest(node.of).repeat(node.least);
      case 'reference':
        return this.shortest(this.definitions[node.to]!);
      case 'machine':
        return node.machine.shortest(node.state);
      case 'distinct':
        return this.firstBytes(node)
          .slice(0, node.least)
          .map(({ byte, rest }) => String.fromCharCode(byte) + this.shortest(rest) + this.shortest(node.tail))
          .join(this.shortest(node.between));
      default:
        return '';
    }
  }

  private deriveNode(node: Node, byte: number): Expression {
    switch (node.kind) {
      case 'sequence': {
        const derived = this.pair(this.derive(node.first, byte), node.rest);
        return this.nullable[node.first] ? this.any([derived, this.derive(node.rest, byte)]) : derived;
      }
      case 'any':
        return this.any(node.of.map((e) => this.derive(e, byte)));
      case 'repeat': {
        const rest = this.repeat(node.of, Math.max(0, node.least - 1), node.most - 1);
        return this.pair(this.derive(node.of, byte), rest);
      }
      case 'reference':
        return this.derive(this.definitions[node.to]!, byte);
      case 'machine': {
        const { classes, next } = node.machine.states[node.state]!;
        const to = next[classes.of[byte]!]!;
        return to < 0 ? NEVER : this.machine(node.machine, to);
      }
      case 'distinct': {
        const { head, tail, between, used, least, most } = node;
        const bit = 1n << BigInt(byte);
        if ((used & bit) !== 0n) return NEVER;
        const further =
          most === 1 ? EMPTY : this.pair(between, this.distinct(node, Math.max(1, least - 1), most - 1, used | bit));
        return this.sequence(this.derive(head, byte), tail, least > 1 ? further : this.optional(further));
      }
      default:
        return NEVER;
    }
  }

  private pair(first: Expression, rest: Expression): Expression {
    if (first === NEVER || rest === NEVER) return NEVER;
    if (first === EMPTY) return rest;
    if (rest === EMPTY) return first;
    const node = this.nodes[first]!;
    if (node.kind === 'sequence') return this.pair(node.first, this.pair(node.rest, rest));
    const key = first * 2 ** 26 + rest;
    let e = this.sequences.get(key);
    if (e === undefined) {
      e = this.add({ kind: 'sequence', first, rest });
      this.sequences.set(key, e);
    }
    return e;
  }

  private readonly longTexts = new Map<string, number>();

  private textNumber(text: string): number {
    let number = this.longTexts.get(text);
    if (number === undefined) {
      number = this.longTexts.size;
      this.longTexts.set(text, number);
    }
    return number;
  }

  private keyed(key: string, make: () => Node): Expression {
    let e = this.known.get(key);
    if (e === undefined) {
      e = this.add(make());
      this.known.set(key, e);
    }
    return e;
  }

  /** Take room for so many states. Throws programLimitExceeded when there is no more. */
  spend(states: number): void {
    this.size += states;
    if (this.size > MAX_SIZE) {
      raise(SQLSTATE.programLimitExceeded, `constraint needs more than ${MAX_SIZE} states`, {
        hint: 'a smaller schema, fewer alternatives, or lower bounds on repetition need fewer',
      });
    }
    if (this.size > this.room.states) throw new OutOfRoom();
    if (++this.spent % POLL_STRIDE === 0) this.poll();
  }

  private add(node: Node): Expression {
    this.spend(node.kind === 'any' ? node.of.length : 1);
    // Both may make further nodes. References may not be defined before `close`, which works these lengths out again.
    const nullable = this.isNullable(node);
    const least = this.closed || node.kind !== 'reference' ? this.lengthOf(node) : Infinity;
    this.nullable.push(nullable);
    this.least.push(least);
    return this.nodes.push(node) - 1;
  }

  private isNullable(node: Node): boolean {
    switch (node.kind) {
      case 'empty':
        return true;
      case 'sequence':
        return this.nullable[node.first]! && this.nullable[node.rest]!;
      case 'any':
        return node.of.some((e) => this.nullable[e]);
      case 'repeat':
        return node.least === 0;
      case 'machine':
        return node.machine.states[node.state]!.accepting;
      default:
        return false;
    }
  }

  private lengthOf(node: Node): number {
    switch (node.kind) {
      case 'never':
        return Infinity;
      case 'empty':
      case 'wall':
        return 0;
      case 'bytes':
        return 1;
      case 'literal':
        return node.text.length - node.from;
      case 'sequence':
        return this.least[node.first]! + this.least[node.rest]!;
      case 'any':
        return node.of.reduce((least, e) => Math.min(least, this.least[e]!), Infinity);
      case 'repeat':
        return node.least === 0 ? 0 : this.least[node.of]! * node.least;
      case 'reference':
        return this.least[this.definitions[node.to]!]!;
      case 'machine':
        return node.machine.least[node.state]!;
      case 'distinct': {
        const firsts = this.firstBytes(node);
        if (firsts.length < node.least) return Infinity;
        const heads = firsts.slice(0, node.least).reduce((length, { rest }) => length + 1 + this.least[rest]!, 0);
        return heads + node.least * this.least[node.tail]! + (node.least - 1) * this.least[node.between]!;
      }
    }
  }
}
