/** Grammars in llama.cpp's notation: which texts they accept, and what is said of wrong ones. */
import { describe, expect, it } from 'vitest';
import { Expressions, NEVER } from '../../../../plv8/src/sampling/constraint/expression.ts';
import { compileGbnf } from '../../../../plv8/src/sampling/constraint/gbnf.ts';

function accepts(grammar: string, text: string): boolean {
  const expressions = new Expressions();
  let state = compileGbnf(expressions, grammar);
  expressions.close();
  for (const byte of Buffer.from(text)) {
    state = expressions.derive(state, byte);
    if (state === NEVER) return false;
  }
  return expressions.acceptsEmpty(state);
}

/** A grammar of JSON in the way llama.cpp's own is written, with a rule that may be empty and leads to itself. */
const JSON_GRAMMAR = String.raw`
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= ([ \t\n] ws)?
`;

describe('a grammar', () => {
  it.each<[string, string, string[], string[]]>([
    ['a text', 'root ::= "yes" | "no"', ['yes', 'no'], ['', 'ye', 'yesno']],
    ['alternatives on lines of their own', 'root ::= "a"\n  | "b"\n  | ""\n', ['a', 'b', ''], ['ab']],
    ['counts', 'root ::= "a"{2} "b"{1,} "c"{0,2} .?', ['aab', 'aabbccx'], ['ab', 'aa', 'aabcccx']],
    ['escapes', String.raw`root ::= "\x41\u00e9\U0001F388\n" [\]\-a-c^]+`, ['Aé🎈\n]-b^'], ['Aé🎈\nd', 'A']],
    ['classes that deny', 'root ::= [^a-z]+', ['É1 🎈'], ['a', '']],
    ['rules within rules', 'root ::= pair\npair ::= "(" pair? ")"', ['()', '((()))'], ['', '(()', ')(']],
    [
      'rules that may be empty and lead to themselves',
      'root ::= ws "x" ws\nws ::= (" " ws)?',
      ['x', '   x '],
      [' ', 'x x'],
    ],
    [
      'options within options',
      `root ::= ${'("a"? '.repeat(150)}"b"${')?'.repeat(150)}`,
      ['', 'ab', 'aaab', 'b'],
      ['ba'],
    ],
    ['many lines', `root ::= x${'\n | x'.repeat(50_000)}\nx ::= "a"`, ['a'], ['', 'aa']],
    [
      'JSON',
      JSON_GRAMMAR,
      ['{}', '{"a": [1, -2.5e3, {"b": null}], "c\\n": "é"} \n'],
      ['{', '[1]', '{"a" 1}', '{"a": 01}'],
    ],
  ])('accepts what it says: %s', (_, grammar, good, bad) => {
    expect(good.filter((text) => !accepts(grammar, text))).toEqual([]);
    expect(bad.filter((text) => accepts(grammar, text))).toEqual([]);
  });

  it.each<[string, RegExp]>([
    ['', /^grammar has no rule root$/],
    ['root ::= other', /^grammar line 1: there is no rule other$/],
    ['root ::= "a"\nroot ::= "b"', /^grammar line 2: rule root is there already$/],
    ['root = "a"', /^grammar line 1: expected ::= after root, got "= \\"a\\""$/],
    ['root ::= "a', /^grammar line 1: expected " before the end of the line$/],
    ['root ::= ("a"', /^grammar line 1: expected \) got the end$/],
    ['root ::= "a" )', /^grammar line 1: unexpected "\)"$/],
    ['root ::= "\\q"', /^grammar line 1: unknown escape "\\\\q\\""$/],
    ['root ::= [b-a]', /^grammar line 1: class from b to a$/],
    ['root ::= "a"{3,2}', /^grammar line 1: repetition of at least 3 and at most 2$/],
    ['root ::= root "a" | "b"', /^grammar rule root begins with itself, which is not supported$/],
    ['root ::= x? root\nx ::= "a"', /^grammar rule root begins with itself/],
    ['root ::= <think>', /^grammar line 1: tokens as "<think>" are not supported$/],
    ['root ::= a\na ::= b "x"\nb ::= a "y" | "z"', /^grammar rule a begins with itself/],
    [`root ::= ${'('.repeat(5000)}`, /^grammar nests deeper than 200 levels$/],
  ])('is refused: %s', (grammar, message) => {
    expect(() => accepts(grammar, '')).toThrow(message);
  });

  it.each<[string, string, RegExp]>([
    ['parts that may be left out', `root ::= ${'"a"? '.repeat(20_000)}`, /needs more than 300000 states$/],
    [
      'a chain of rules',
      `root ::= r0\n${Array.from({ length: 15_000 }, (_, i) => `r${i} ::= r${i + 1}`).join('\n')}\nr15000 ::= "a"`,
      /nests deeper than 200 levels$|call stack/,
    ],
  ])('that is large ends in one line: many of %s', (_, grammar, message) => {
    expect(() => accepts(grammar, 'aaaa')).toThrow(message);
  });
});
