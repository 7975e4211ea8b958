/**
 * Regular expressions of JavaScript (with flag u), which are those of JSON Schema's `pattern`, also with a leading `(?i)` as
 * other languages write it. Parsed by regexpp; what no automaton can do (back references, look-around in the middle) is
 * refused by name.
 */
import { RegExpParser } from '@eslint-community/regexpp';
import type { AST } from '@eslint-community/regexpp';
import { raise, SQLSTATE } from '../../errors.ts';
import type { CharacterSet } from './character-sets.ts';
import type { Encoding } from './characters.ts';
import { bothCases, complement, LAST_CODE_POINT, normalise, propertySet } from './character-sets.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY } from './expression.ts';
import { combine } from './machine.ts';
import { brief } from '../../format/visible-text.ts';

/** Characters of a pattern; a person writes some dozens. */
const MAX_PATTERN_LENGTH = 10_000;

/** Groups within groups. */
const MAX_DEPTH = 200;

const ALL: CharacterSet = normalise([[0, LAST_CODE_POINT]]);
const LINE_ENDS = normalise([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);
const ESCAPED: Readonly<Record<'digit' | 'space' | 'word', CharacterSet>> = {
  digit: normalise([[0x30, 0x39]]),
  word: normalise([
    [0x30, 0x39],
    [0x41, 0x5a],
    [0x5f, 0x5f],
    [0x61, 0x7a],
  ]),
  space: normalise([
    [0x09, 0x0d],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ]),
};

/** What the pattern is compared with. */
export type Extent =
  /** the whole text */
  | 'whole'
  /** any part of the text, unless ^ and $ say otherwise */
  | 'part';

/** Texts that match a pattern. Throws invalidParameterValue for a wrong one and featureNotSupported by name. */
export function compilePattern(
  expressions: Expressions,
  pattern: string,
  encode: Encoding,
  extent: Extent,
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
  return new PatternCompiler(expressions, encode, ignoreCase).pattern(parsed, extent);
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

function splitFlags(pattern: string): { source: string; ignoreCase: boolean } {
  const ignoreCase = pattern.startsWith('(?i)');
  return { source: ignoreCase ? pattern.slice(4) : pattern, ignoreCase };
}

function unsupported(what: string): never {
  raise(SQLSTATE.featureNotSupported, `pattern has ${what}, which is not supported`);
}

class PatternCompiler {
  private depth = 0;
  private readonly anything: Expression;

  constructor(
    private readonly expressions: Expressions,
    private readonly encode: Encoding,
    private ignoreCase: boolean,
  ) {
    this.anything = expressions.repeat(encode(ALL), 0, Infinity);
  }

  pattern(parsed: AST.Pattern, extent: Extent): Expression {
    return this.expressions.any(parsed.alternatives.map(({ elements }) => this.alternative(elements, extent)));
  }

  /** One of the outermost alternatives, with what may stand around it. */
  private alternative(elements: readonly AST.Element[], extent: Extent): Expression {
    const { expressions, anything } = this;
    const around = extent === 'part' ? anything : EMPTY;
    const starts = isAssertion(elements[0], 'start');
    const ends = isAssertion(elements[elements.length - 1], 'end');
    const inner = elements.slice(starts ? 1 : 0, ends ? elements.length - 1 : elements.length);
    // A look-ahead at an anchor says something about the whole text.
    const ahead: AST.LookaheadAssertion[] = [];
    if (starts || extent === 'whole') {
      for (let first = inner[0]; first?.type === 'Assertion' && first.kind === 'lookahead'; first = inner[0]) {
        ahead.push(first);
        inner.shift();
      }
    }
    const main = this.joined(starts ? EMPTY : around, inner, ends ? EMPTY : around);
    if (ahead.length === 0) return main;
    const seen = (negate: boolean): Expression[] =>
      ahead
        .filter((each) => each.negate === negate)
        .map((each) => expressions.any(each.alternatives.map((one) => this.beginning(one.elements))));
    return combine(expressions, [main, ...seen(false)], seen(true));
  }

  /** Texts that begin so. */
  private beginning(elements: readonly AST.Element[]): Expression {
    const ends = isAssertion(elements[elements.length - 1], 'end');
    return this.joined(EMPTY, ends ? elements.slice(0, -1) : elements, ends ? EMPTY : this.anything);
  }

  /** Elements between `before` and `after`, cut at word boundaries: of the characters there one is of a word. */
  private joined(before: Expression, elements: readonly AST.Element[], after: Expression): Expression {
    const { expressions } = this;
    const last = elements.map((element) => element.type === 'Assertion' && element.kind === 'word').lastIndexOf(true);
    if (last < 0) return expressions.sequence(before, this.elements(elements), after);
    const left = this.joined(before, elements.slice(0, last), EMPTY);
    const right = expressions.sequence(this.elements(elements.slice(last + 1)), after);
    const word = this.encode(ESCAPED.word);
    const other = this.encode(complement(ESCAPED.word));
    const both = (a: Expression, b: Expression): Expression => combine(expressions, [a, b]);
    const leftWord = both(left, expressions.sequence(this.anything, word));
    const leftOther = both(left, expressions.optional(expressions.sequence(this.anything, other)));
    const rightWord = both(right, expressions.sequence(word, this.anything));
    const rightOther = both(right, expressions.optional(expressions.sequence(other, this.anything)));
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
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `pattern nests deeper than ${MAX_DEPTH} levels`);
    }
    const compiled = this.compile(element);
    this.depth--;
    return compiled;
  }

  private compile(element: AST.Element): Expression {
    switch (element.type) {
      case 'Character':
        return this.characters([[element.value, element.value]]);
      case 'CharacterSet':
        return this.encode(setOf(element));
      case 'CharacterClass': {
        const set = normalise(element.elements.flatMap((member) => classMember(member)));
        const cased = this.ignoreCase ? bothCases(set) : set;
        return this.encode(element.negate ? complement(cased) : cased);
      }
      case 'CapturingGroup':
        return this.group(element);
      case 'Group': {
        const outside = this.ignoreCase;
        if (element.modifiers?.add.multiline || element.modifiers?.add.dotAll)
          unsupported(`the modifiers ${element.modifiers.raw}`);
        if (element.modifiers?.add.ignoreCase) this.ignoreCase = true;
        if (element.modifiers?.remove?.ignoreCase) this.ignoreCase = false;
        const inside = this.group(element);
        this.ignoreCase = outside;
        return inside;
      }
      case 'Quantifier':
        return this.expressions.repeat(this.element(element.element), element.min, element.max);
      case 'Backreference':
        return unsupported('a back reference');
      case 'Assertion':
        return unsupported(
          element.kind === 'lookahead' || element.kind === 'lookbehind'
            ? `a ${element.kind}`
            : `${element.raw} in a place other than the ends of an outermost alternative`,
        );
      default:
        return unsupported(`a ${element.type}`);
    }
  }

  private group({ alternatives }: AST.Group | AST.CapturingGroup): Expression {
    return this.expressions.any(alternatives.map(({ elements }) => this.elements(elements)));
  }

  private characters(set: CharacterSet): Expression {
    const found = normalise(set);
    return this.encode(this.ignoreCase ? bothCases(found) : found);
  }
}

function isAssertion(element: AST.Element | undefined, kind: 'start' | 'end'): boolean {
  return element?.type === 'Assertion' && element.kind === kind;
}

function setOf(set: AST.CharacterSet): CharacterSet {
  if (set.kind === 'any') return complement(LINE_ENDS);
  if (set.kind === 'property') return propertySet(set.raw);
  const found = ESCAPED[set.kind];
  return set.negate ? complement(found) : found;
}

function classMember(
  member: AST.ClassRangesCharacterClassElement | AST.UnicodeSetsCharacterClassElement,
): CharacterSet {
  switch (member.type) {
    case 'Character':
      return [[member.value, member.value]];
    case 'CharacterClassRange':
      return [[member.min.value, member.max.value]];
    case 'CharacterSet':
      return setOf(member);
    default:
      return unsupported(`a ${member.type} in a class`);
  }
}
