/**
 * Grammars in llama.cpp's notation GBNF (https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md). A rule that
 * leads back to itself becomes a reference, which stands for its texts but the empty one.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { CharacterSet } from './character-sets.ts';
import { complement, LAST_CODE_POINT, normalise } from './character-sets.ts';
import { byteText, utf8Encoding } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';
import { brief } from '../../format/visible-text.ts';

/** Groups within groups, and rules within rules. */
const MAX_DEPTH = 200;

type Part =
  | { kind: 'text'; text: string }
  | { kind: 'characters'; set: CharacterSet }
  | { kind: 'rule'; name: string; line: number }
  | { kind: 'sequence'; of: Part[] }
  | { kind: 'choice'; of: Part[] }
  | { kind: 'repeat'; of: Part; least: number; most: number };

/** Texts of the rule `root`. Throws invalidParameterValue with the line, or featureNotSupported by name. */
export function compileGbnf(expressions: Expressions, grammar: string): Expression {
  const rules = new Parser(grammar).rules();
  return new Compiler(expressions, rules).root();
}

function wrong(line: number, what: string): never {
  raise(SQLSTATE.invalidParameterValue, `grammar line ${line}: ${what}`);
}

class Parser {
  private at = 0;
  private depth = 0;
  private counted = { at: 0, line: 1 };

  constructor(private readonly text: string) {}

  rules(): Map<string, Part> {
    const rules = new Map<string, Part>();
    for (this.space(true); this.at < this.text.length; this.space(true)) {
      const line = this.line;
      const name = this.name() ?? wrong(line, `a rule begins with its name, got ${this.here}`);
      this.space(false);
      if (!this.take('::=')) wrong(line, `expected ::= after ${brief(name)}, got ${this.here}`);
      this.space(true);
      if (rules.has(name)) wrong(line, `rule ${brief(name)} is there already`);
      rules.set(name, this.choice(false));
      this.space(false);
      if (this.at < this.text.length && !/[\r\n]/.test(this.text[this.at]!))
        wrong(this.line, `unexpected ${this.here}`);
    }
    return rules;
  }

  /** The line of the place, counted on from where it was asked for last. */
  private get line(): number {
    if (this.counted.at > this.at) this.counted = { at: 0, line: 1 };
    for (; this.counted.at < this.at; this.counted.at++) {
      if (this.text[this.counted.at] === '\n') this.counted.line++;
    }
    return this.counted.line;
  }

  private get here(): string {
    const rest = this.text.slice(this.at, this.at + 20).split('\n')[0]!;
    return rest === '' ? 'the end' : JSON.stringify(rest);
  }

  /** Skip blanks and comments, and line ends where they may stand. */
  private space(lineEnds: boolean): void {
    const blank = lineEnds ? /(?:[ \t\r\n]|#[^\n]*)*/y : /(?:[ \t]|#[^\n]*)*/y;
    blank.lastIndex = this.at;
    blank.test(this.text);
    this.at = blank.lastIndex;
  }

  private take(token: string): boolean {
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  private name(): string | null {
    const word = /[A-Za-z0-9_-]+/y;
    word.lastIndex = this.at;
    const found = word.exec(this.text);
    if (found === null) return null;
    this.at = word.lastIndex;
    return found[0];
  }

  /** Whether the next line goes on with a further alternative. */
  private continues(nested: boolean): boolean {
    const before = this.at;
    this.space(true);
    if (nested || this.text[this.at] === '|') return true;
    this.at = before;
    return false;
  }

  private choice(nested: boolean): Part {
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `grammar nests deeper than ${MAX_DEPTH} levels`);
    }
    const of = [this.sequence(nested)];
    while (this.continues(nested) && this.take('|')) {
      this.space(true);
      of.push(this.sequence(nested));
    }
    this.depth--;
    return of.length === 1 ? of[0]! : { kind: 'choice', of };
  }

  private sequence(nested: boolean): Part {
    const of: Part[] = [];
    for (;;) {
      this.space(nested);
      const part = this.item();
      if (part === null) return { kind: 'sequence', of };
      of.push(this.repeated(part));
    }
  }

  private item(): Part | null {
    if (this.take('"')) return this.literal();
    if (this.take('[')) return this.characterClass();
    if (this.take('.')) return { kind: 'characters', set: [[0, LAST_CODE_POINT]] };
    if (this.take('(')) {
      this.space(true);
      const inner = this.choice(true);
      if (!this.take(')')) wrong(this.line, `expected ) got ${this.here}`);
      return inner;
    }
    if (/[<!]/.test(this.text[this.at] ?? '')) {
      raise(SQLSTATE.featureNotSupported, `grammar line ${this.line}: tokens as ${this.here} are not supported`);
    }
    const line = this.line;
    const name = this.name();
    return name === null ? null : { kind: 'rule', name, line };
  }

  private repeated(of: Part): Part {
    for (;;) {
      const [least, most] = this.bounds();
      if (least < 0) return of;
      if (least > most) wrong(this.line, `repetition of at least ${least} and at most ${most}`);
      of = { kind: 'repeat', of, least, most };
    }
  }

  private bounds(): [number, number] {
    if (this.take('*')) return [0, Infinity];
    if (this.take('+')) return [1, Infinity];
    if (this.take('?')) return [0, 1];
    const counts = /\{\s*(\d+)\s*(,\s*(\d*)\s*)?\}/y;
    counts.lastIndex = this.at;
    const found = counts.exec(this.text);
    if (found === null) {
      if (this.text[this.at] === '{') wrong(this.line, `repetition is {m}, {m,} or {m,n}, got ${this.here}`);
      return [-1, -1];
    }
    this.at = counts.lastIndex;
    const least = Number(found[1]);
    return [least, found[2] === undefined ? least : found[3] === '' ? Infinity : Number(found[3])];
  }

  private literal(): Part {
    let text = '';
    while (!this.take('"')) text += String.fromCodePoint(this.character('"'));
    return { kind: 'text', text };
  }

  private characterClass(): Part {
    const negate = this.take('^');
    const ranges: [number, number][] = [];
    while (!this.take(']')) {
      const from = this.character(']');
      const isRange = this.text[this.at] === '-' && this.text[this.at + 1] !== ']';
      if (isRange) this.at++;
      const to = isRange ? this.character(']') : from;
      if (to < from) wrong(this.line, `class from ${String.fromCodePoint(from)} to ${String.fromCodePoint(to)}`);
      ranges.push([from, to]);
    }
    const set = normalise(ranges);
    return { kind: 'characters', set: negate ? complement(set) : set };
  }

  /** One character of a text or class that `end` ends, escapes resolved. */
  private character(end: string): number {
    const codePoint = this.text.codePointAt(this.at);
    if (codePoint === undefined || codePoint === 0x0a) wrong(this.line, `expected ${end} before the end of the line`);
    if (codePoint !== 0x5c) {
      this.at += codePoint > 0xffff ? 2 : 1;
      return codePoint;
    }
    const escape = /\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt\\"[\]^-]))/y;
    escape.lastIndex = this.at;
    const found = escape.exec(this.text);
    const digits = found?.[1] ?? found?.[2] ?? found?.[3];
    if (found === null || (digits !== undefined && parseInt(digits, 16) > LAST_CODE_POINT)) {
      wrong(this.line, `unknown escape ${this.here}`);
    }
    this.at = escape.lastIndex;
    if (digits !== undefined) return parseInt(digits, 16);
    const named = found[4]!;
    return { n: 0x0a, r: 0x0d, t: 0x09 }[named] ?? named.charCodeAt(0);
  }
}

class Compiler {
  private readonly nullable = new Set<string>();
  private readonly recursive: ReadonlySet<string>;
  private readonly compiled = new Map<string, Expression>();
  private readonly encode;

  constructor(
    private readonly expressions: Expressions,
    private readonly rules: ReadonlyMap<string, Part>,
  ) {
    this.encode = utf8Encoding(expressions);
    for (const part of rules.values()) this.refuseUnknown(part);
    this.findNullable();
    const [leftRecursive] = this.circles((part) => this.firstRules(part));
    if (leftRecursive !== undefined) {
      raise(
        SQLSTATE.featureNotSupported,
        `grammar rule ${brief(leftRecursive)} begins with itself, which is not supported`,
        {
          hint: 'write the repetition with *, or let the rule end with itself',
        },
      );
    }
    this.recursive = this.circles(rulesOf);
  }

  root(): Expression {
    if (!this.rules.has('root')) raise(SQLSTATE.invalidParameterValue, 'grammar has no rule root');
    return this.whole({ kind: 'rule', name: 'root', line: 0 }, 0);
  }

  private refuseUnknown(part: Part): void {
    if (part.kind === 'rule' && !this.rules.has(part.name)) wrong(part.line, `there is no rule ${brief(part.name)}`);
    for (const inner of innerParts(part)) this.refuseUnknown(inner);
  }

  private acceptsEmpty(part: Part): boolean {
    switch (part.kind) {
      case 'text':
        return part.text === '';
      case 'characters':
        return false;
      case 'rule':
        return this.nullable.has(part.name);
      case 'sequence':
        return part.of.every((each) => this.acceptsEmpty(each));
      case 'choice':
        return part.of.some((each) => this.acceptsEmpty(each));
      case 'repeat':
        return part.least === 0 || this.acceptsEmpty(part.of);
    }
  }

  /** Rules with which a text of `part` may begin. */
  private firstRules(part: Part): string[] {
    if (part.kind !== 'sequence')
      return part.kind === 'rule' ? [part.name] : innerParts(part).flatMap((each) => this.firstRules(each));
    const found: string[] = [];
    for (const each of part.of) {
      found.push(...this.firstRules(each));
      if (!this.acceptsEmpty(each)) break;
    }
    return found;
  }

  /** Rules that accept the empty text: whether one does is asked again where one that it names does. */
  private findNullable(): void {
    const naming = new Map<string, string[]>();
    for (const [name, part] of this.rules) {
      for (const inner of new Set(rulesOf(part))) naming.set(inner, [...(naming.get(inner) ?? []), name]);
    }
    const waiting = [...this.rules.keys()];
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      this.expressions.poll();
      if (this.nullable.has(name) || !this.acceptsEmpty(this.rules.get(name)!)) continue;
      this.nullable.add(name);
      waiting.push(...(naming.get(name) ?? []));
    }
  }

  /** Rules that lead back to themselves (Tarjan's strongly connected components), the first of the grammar first. */
  private circles(next: (part: Part) => string[]): ReadonlySet<string> {
    const numbers = new Map<string, number>();
    const open: string[] = [];
    const isOpen = new Set<string>();
    const found = new Set<string>();
    const visit = (name: string): number => {
      this.expressions.poll();
      const own = numbers.size;
      numbers.set(name, own);
      open.push(name);
      isOpen.add(name);
      const named = new Set(next(this.rules.get(name)!));
      let least = own;
      for (const other of named) {
        if (!numbers.has(other)) least = Math.min(least, visit(other));
        else if (isOpen.has(other)) least = Math.min(least, numbers.get(other)!);
      }
      if (least < own) return least;
      const circle = open.splice(open.lastIndexOf(name));
      for (const each of circle) isOpen.delete(each);
      if (circle.length > 1 || named.has(name)) for (const each of circle) found.add(each);
      return own;
    };
    for (const name of this.rules.keys()) if (!numbers.has(name)) visit(name);
    return new Set([...this.rules.keys()].filter((name) => found.has(name)));
  }

  /** All texts of a part. */
  private whole(part: Part, depth: number): Expression {
    const some = this.filled(part, depth);
    return this.acceptsEmpty(part) ? this.expressions.optional(some) : some;
  }

  /** All texts of a part but the empty one. */
  private filled(part: Part, depth: number): Expression {
    const { expressions } = this;
    if (depth > MAX_DEPTH * 4) {
      raise(SQLSTATE.programLimitExceeded, `grammar nests deeper than ${MAX_DEPTH} levels`);
    }
    switch (part.kind) {
      case 'text':
        return part.text === '' ? NEVER : expressions.literal(byteText(part.text));
      case 'characters':
        return this.encode(part.set);
      case 'rule':
        return this.rule(part.name, depth);
      case 'choice':
        return expressions.any(part.of.map((each) => this.filled(each, depth + 1)));
      case 'sequence': {
        // The first part that is not empty may be any up to the first that cannot be.
        const last = part.of.findIndex((each) => !this.acceptsEmpty(each));
        const ways: Expression[] = [];
        let after: Expression = EMPTY;
        for (let i = part.of.length - 1; i >= 0; i--) {
          const some = this.filled(part.of[i]!, depth + 1);
          const isOptional = this.acceptsEmpty(part.of[i]!);
          if (last < 0 || i <= last) ways.push(expressions.sequence(some, after));
          after = expressions.sequence(isOptional ? expressions.optional(some) : some, after);
        }
        return expressions.any(ways.reverse());
      }
      case 'repeat': {
        const least = this.acceptsEmpty(part.of) ? 1 : Math.max(1, part.least);
        return part.most === 0 ? NEVER : expressions.repeat(this.filled(part.of, depth + 1), least, part.most);
      }
    }
  }

  private rule(name: string, depth: number): Expression {
    const known = this.compiled.get(name);
    if (known !== undefined) return known;
    const part = this.rules.get(name)!;
    if (!this.recursive.has(name)) {
      const made = this.filled(part, depth + 1);
      this.compiled.set(name, made);
      return made;
    }
    const { expression, define } = this.expressions.reference();
    this.compiled.set(name, expression);
    define(this.filled(part, depth + 1));
    return expression;
  }
}

function innerParts(part: Part): readonly Part[] {
  if (part.kind === 'repeat') return [part.of];
  return part.kind === 'sequence' || part.kind === 'choice' ? part.of : [];
}

function rulesOf(part: Part): string[] {
  return part.kind === 'rule' ? [part.name] : innerParts(part).flatMap(rulesOf);
}
