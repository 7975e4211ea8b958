/**
 * Regular expressions of JavaScript (with flag u), which are those of JSON Schema's `pattern`. Parsed by regexpp; what
 * no automaton can do (look-around, back references) is refused by name.
 */
import { RegExpParser } from '@eslint-community/regexpp';
import type { AST } from '@eslint-community/regexpp';
import { raise, SQLSTATE } from '../../errors.ts';
import type { CharacterSet, Encoding } from './characters.ts';
import { complement, LAST_CODE_POINT, normalise } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY } from './expression.ts';

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
  let parsed: AST.Pattern;
  try {
    parsed = new RegExpParser({ ecmaVersion: 2018 }).parsePattern(pattern, 0, pattern.length, true);
  } catch (error) {
    const message = error instanceof RangeError ? 'it nests too deep' : (error as Error).message;
    raise(SQLSTATE.invalidParameterValue, `pattern is not valid: ${message.slice(0, 300)}`);
  }
  return new PatternCompiler(expressions, encode).pattern(parsed, extent);
}

function unsupported(what: string): never {
  raise(SQLSTATE.featureNotSupported, `pattern has ${what}, which is not supported`);
}

class PatternCompiler {
  private depth = 0;

  constructor(
    private readonly expressions: Expressions,
    private readonly encode: Encoding,
  ) {}

  pattern(parsed: AST.Pattern, extent: Extent): Expression {
    const anything = this.expressions.repeat(this.encode(ALL), 0, Infinity);
    const around = extent === 'part' ? anything : EMPTY;
    return this.expressions.any(
      parsed.alternatives.map(({ elements }) => {
        const starts = isAssertion(elements[0], 'start');
        const ends = isAssertion(elements[elements.length - 1], 'end');
        const inner = elements.slice(starts ? 1 : 0, ends ? elements.length - 1 : elements.length);
        return this.expressions.sequence(starts ? EMPTY : around, this.elements(inner), ends ? EMPTY : around);
      }),
    );
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
        return this.encode(normalise([[element.value, element.value]]));
      case 'CharacterSet':
        return this.encode(setOf(element));
      case 'CharacterClass': {
        const set = normalise(element.elements.flatMap((member) => classMember(member)));
        return this.encode(element.negate ? complement(set) : set);
      }
      case 'Group':
      case 'CapturingGroup':
        return this.expressions.any(element.alternatives.map((alternative) => this.elements(alternative.elements)));
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
}

function isAssertion(element: AST.Element | undefined, kind: 'start' | 'end'): boolean {
  return element?.type === 'Assertion' && element.kind === kind;
}

function setOf(set: AST.CharacterSet): CharacterSet {
  if (set.kind === 'any') return complement(LINE_ENDS);
  if (set.kind === 'property') return unsupported(`the character property ${set.raw}`);
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
