/**
 * Regular expressions of JavaScript (with flag u), which are those of JSON Schema's `pattern`, also with a leading `(?i)` as
 * other languages write it. Parsed by regexpp; what no automaton can do (back references, look-behind, look-ahead that is
 * repeated without bound) is refused by name.
 */
import { RegExpParser } from '@eslint-community/regexpp';
import type { AST } from '@eslint-community/regexpp';
import { raise, SQLSTATE } from '../../errors.ts';
import type { CharacterSet } from './character-sets.ts';
import type { Encoding } from './characters.ts';
import { bothCases, complement, normalise, propertySet } from './character-sets.ts';
import type { Reading } from './escapes.ts';
import { ALL, dotSet, escapeSet, other } from './escapes.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';
import { combine } from './machine.ts';
import { brief } from '../../format/visible-text.ts';

/** Characters of a pattern; a person writes some dozens. */
const MAX_PATTERN_LENGTH = 10_000;

/** Groups within groups. */
const MAX_DEPTH = 200;

/** Times that what looks ahead may be repeated. */
const MAX_UNROLLED = 8;

/** What the pattern is compared with. */
export type Extent =
  /** the whole text */
  | 'whole'
  /** any part of the text, unless ^ and $ say otherwise */
  | 'part';

/**
 * Texts that match a pattern in all readings; in `any` reading for texts that are to be left out. Throws
 * invalidParameterValue for a wrong one and featureNotSupported by name.
 */
export function compilePattern(
  expressions: Expressions,
  pattern: string,
  encode: Encoding,
  extent: Extent,
  reading: Reading = 'all',
): Expression {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    raise(
      SQLSTATE.programLimitExceeded,
      `pattern has ${pattern.length} characters, at most ${MAX_PATTERN_LENGTH} are read`,
    );
  }
  const { source, ignoreCase } = splitFlags(pattern);
  let parsed: AST.Pattern;
  try {
    parsed = new RegExpParser({ ecmaVersion: 2025 }).parsePattern(source, 0, source.length, true);
  } catch (error) {
    const message = error instanceof RangeError ? 'it nests too deep' : (error as Error).message;
    raise(SQLSTATE.invalidParameterValue, `pattern is not valid: ${brief(message)}`);
  }
  return new PatternCompiler(expressions, encode, ignoreCase, reading).pattern(parsed, extent);
}

/** The pattern as V8 runs it. Throws invalidParameterValue for a wrong one. */
export function patternRegExp(pattern: string): RegExp {
  const { source, ignoreCase } = splitFlags(pattern);
  try {
    return new RegExp(source, ignoreCase ? 'ui' : 'u');
  } catch (error) {
    raise(SQLSTATE.invalidParameterValue, `pattern is not valid: ${brief((error as Error).message)}`);
  }
}

/**
 * Without `(?i)`, and what flag u does not allow written otherwise: backslashes before signs that mean nothing else, and a
 * hyphen after \w and its like, which is one.
 */
function splitFlags(pattern: string): { source: string; ignoreCase: boolean } {
  const ignoreCase = pattern.startsWith('(?i)');
  let inClass = false;
  const source = (ignoreCase ? pattern.slice(4) : pattern).replace(/\\[dDsSwW]-(?!\])|\\[^]|[[\]]/gu, (part) => {
    if (part.length === 3) return inClass ? `${part.slice(0, 2)}\\-` : part;
    if (part === '[' || part === ']') inClass = part === '[';
    const idle = /^\\(?:[^A-Za-z0-9^$\\.*+?()[\]{}|/-]|(-))$/u.exec(part);
    return idle === null || (idle[1] !== undefined && inClass) ? part : part.slice(1);
  });
  return { source, ignoreCase };
}

function unsupported(what: string): never {
  raise(SQLSTATE.featureNotSupported, `pattern has ${what}, which is not supported`);
}

/** What stands before an element: nothing, at least one character, or elements of the pattern, which may be empty. */
type Position = 'first' | 'later' | 'inside';

class PatternCompiler {
  private depth = 0;
  private readonly anything: Expression;

  constructor(
    private readonly expressions: Expressions,
    private readonly encode: Encoding,
    private ignoreCase: boolean,
    private reading: Reading,
  ) {
    this.anything = expressions.repeat(encode(ALL), 0, Infinity);
  }

  pattern(parsed: AST.Pattern, extent: Extent): Expression {
    return this.expressions.any(parsed.alternatives.map(({ elements }) => this.alternative(elements, extent)));
  }

  /** One of the outermost alternatives, with what may stand around it. */
  private alternative(elements: readonly AST.Element[], extent: Extent): Expression {
    const { expressions, anything } = this;
    if (extent === 'whole') return this.then(elements, EMPTY, 'first');
    if (isAssertion(elements[0], 'start')) return this.then(elements, anything, 'first');
    if (elements.some(isWordBoundary)) return this.bounded(anything, elements, anything);
    const found = expressions.sequence(anything, this.then(elements, anything, 'later'));
    if (!elements.some((element) => looks(element, 'start'))) return found;
    return expressions.any([this.then(elements, anything, 'first'), expressions.sequence(this.encode(ALL), found)]);
  }

  /** Elements one after the other and then `after`, which is all up to the end of the text, so that it can be looked at. */
  private then(elements: readonly AST.Element[], after: Expression, position: Position): Expression {
    const { expressions } = this;
    const at = elements.findIndex((element) => looks(element));
    if (at < 0) return expressions.sequence(this.elements(elements), after);
    const element = elements[at]!;
    const here = at === 0 ? position : 'inside';
    const isAnchor = isAssertion(element, 'start') || isAssertion(element, 'lookahead');
    if (elements.some(isWordBoundary) && !(at === 0 && isAnchor)) {
      return position === 'first' ? this.bounded(EMPTY, elements, after) : this.deepBoundary();
    }
    const rest = this.then(elements.slice(at + 1), after, isAnchor ? here : 'inside');
    return expressions.sequence(this.elements(elements.slice(0, at)), this.looking(element, rest, here));
  }

  /** An element that looks around, and then `rest`. */
  private looking(element: AST.Element, rest: Expression, position: Position): Expression {
    const { expressions } = this;
    switch (element.type) {
      case 'Group':
      case 'CapturingGroup':
        return this.modified(element, () =>
          expressions.any(element.alternatives.map(({ elements }) => this.then(elements, rest, position))),
        );
      case 'Quantifier': {
        const { element: repeated, min, max } = element;
        if (max > MAX_UNROLLED) unsupported(`${repeated.raw} repeated more than ${MAX_UNROLLED} times`);
        let found = rest;
        for (let i = max; i > 0; i--) {
          const more = this.deeper(() => this.looking(repeated, found, i === 1 ? position : 'inside'));
          found = i > min ? expressions.any([rest, more]) : more;
        }
        return found;
      }
      case 'Assertion':
        return this.assertion(element, rest, position);
      default:
        return expressions.sequence(this.element(element), rest);
    }
  }

  private assertion(element: AST.Assertion, rest: Expression, position: Position): Expression {
    const { expressions } = this;
    switch (element.kind) {
      case 'start':
        if (position === 'inside') unsupported(`${element.raw} in a place other than the beginning of an alternative`);
        return position === 'first' ? rest : NEVER;
      case 'end': {
        // Python's stands before a last line feed as well.
        if (this.reading === 'all') return expressions.acceptsEmpty(rest) ? EMPTY : NEVER;
        return combine(expressions, [rest, expressions.optional(this.encode(normalise([[0x0a, 0x0a]])))]);
      }
      case 'lookahead': {
        const seen = (): Expression =>
          expressions.any(element.alternatives.map(({ elements }) => this.then(elements, this.anything, position)));
        return element.negate
          ? combine(expressions, [rest], [this.inverted(seen)])
          : combine(expressions, [rest, seen()]);
      }
      case 'word':
        return this.deepBoundary();
      case 'lookbehind':
        return unsupported('a lookbehind');
    }
  }

  private deepBoundary(): never {
    return unsupported('\\b in a place other than an outermost alternative');
  }

  /** Elements between `before` and `after`, cut at word boundaries: of the characters there one is of a word. */
  private bounded(before: Expression, elements: readonly AST.Element[], after: Expression): Expression {
    const { expressions } = this;
    const last = elements.map(isWordBoundary).lastIndexOf(true);
    if (last < 0) {
      const looking = elements.find((element) => looks(element));
      if (looking !== undefined) unsupported(`${looking.raw} before a word boundary`);
      return expressions.sequence(before, this.elements(elements), after);
    }
    const left = this.bounded(before, elements.slice(0, last), EMPTY);
    const right = this.then(elements.slice(last + 1), after, 'inside');
    const word = this.encode(escapeSet('word', false, this.reading));
    const none = this.encode(escapeSet('word', true, this.reading));
    const both = (a: Expression, b: Expression): Expression => combine(expressions, [a, b]);
    const leftWord = both(left, expressions.sequence(this.anything, word));
    const leftOther = both(left, expressions.optional(expressions.sequence(this.anything, none)));
    const rightWord = both(right, expressions.sequence(word, this.anything));
    const rightOther = both(right, expressions.optional(expressions.sequence(none, this.anything)));
    const isBoundary = !(elements[last] as AST.WordBoundaryAssertion).negate;
    return expressions.any([
      expressions.sequence(leftWord, isBoundary ? rightOther : rightWord),
      expressions.sequence(leftOther, isBoundary ? rightWord : rightOther),
    ]);
  }

  private elements(elements: readonly AST.Element[]): Expression {
    return this.expressions.sequence(...elements.map((element) => this.element(element)));
  }

  private element(element: AST.Element): Expression {
    return this.deeper(() => this.compile(element));
  }

  private deeper<T>(work: () => T): T {
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `pattern nests deeper than ${MAX_DEPTH} levels`);
    }
    const found = work();
    this.depth--;
    return found;
  }

  private compile(element: AST.Element): Expression {
    switch (element.type) {
      case 'Character':
        return this.characters([[element.value, element.value]]);
      case 'CharacterSet':
        return this.encode(this.setOf(element));
      case 'CharacterClass': {
        const members = (): CharacterSet => normalise(element.elements.flatMap((member) => this.classMember(member)));
        const set = element.negate ? this.inverted(members) : members();
        const cased = this.ignoreCase ? bothCases(set) : set;
        return this.encode(element.negate ? complement(cased) : cased);
      }
      case 'CapturingGroup':
      case 'Group':
        return this.modified(element, () =>
          this.expressions.any(element.alternatives.map(({ elements }) => this.elements(elements))),
        );
      case 'Quantifier':
        return this.expressions.repeat(this.element(element.element), element.min, element.max);
      case 'Backreference':
        return unsupported('a back reference');
      default:
        return unsupported(`a ${element.type}`);
    }
  }

  /** What is inside of a group, under its modifiers. */
  private modified(group: AST.Group | AST.CapturingGroup, work: () => Expression): Expression {
    const modifiers = group.type === 'Group' ? group.modifiers : null;
    const outside = this.ignoreCase;
    if (modifiers?.add.multiline || modifiers?.add.dotAll) unsupported(`the modifiers ${modifiers.raw}`);
    if (modifiers?.add.ignoreCase) this.ignoreCase = true;
    if (modifiers?.remove?.ignoreCase) this.ignoreCase = false;
    const inside = this.deeper(work);
    this.ignoreCase = outside;
    return inside;
  }

  /** What is denied is read the other way. */
  private inverted<T>(work: () => T): T {
    this.reading = other(this.reading);
    const found = work();
    this.reading = other(this.reading);
    return found;
  }

  private characters(set: CharacterSet): Expression {
    const found = normalise(set);
    return this.encode(this.ignoreCase ? bothCases(found) : found);
  }

  private setOf(set: AST.CharacterSet): CharacterSet {
    if (set.kind === 'any') return dotSet(this.reading);
    if (set.kind === 'property') return propertySet(set.raw);
    return escapeSet(set.kind, set.negate, this.reading);
  }

  private classMember(
    member: AST.ClassRangesCharacterClassElement | AST.UnicodeSetsCharacterClassElement,
  ): CharacterSet {
    switch (member.type) {
      case 'Character':
        return [[member.value, member.value]];
      case 'CharacterClassRange':
        return [[member.min.value, member.max.value]];
      case 'CharacterSet':
        return this.setOf(member);
      default:
        return unsupported(`a ${member.type} in a class`);
    }
  }
}

function isAssertion(element: AST.Element | undefined, kind: AST.Assertion['kind']): boolean {
  return element?.type === 'Assertion' && element.kind === kind;
}

function isWordBoundary(element: AST.Element): boolean {
  return isAssertion(element, 'word');
}

/** Whether an assertion, of one kind or of any, is in an element. */
function looks(element: AST.Element, kind: AST.Assertion['kind'] | null = null): boolean {
  switch (element.type) {
    case 'Assertion':
      return kind === null || element.kind === kind;
    case 'Group':
    case 'CapturingGroup':
      return element.alternatives.some(({ elements }) => elements.some((inner) => looks(inner, kind)));
    case 'Quantifier':
      return looks(element.element, kind);
    default:
      return false;
  }
}
