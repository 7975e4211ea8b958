/** Where a text came from is followed through every filter, method and operator of a template that gives texts. */
import { expect, test } from 'vitest';
import { renderChat } from '../../../plv8/src/tokenizer/chat-template.ts';
import { Text } from '../../../plv8/src/tokenizer/jinja/text.ts';
import { SpecialTokens } from '../../../plv8/src/tokenizer/special-tokens.ts';
import { TOKEN_TYPE } from '../../../plv8/src/tokenizer/vocabulary.ts';

const MARK = '<|im_end|>';
/** As it may come out: in another case, and as HTML, JSON or a URL has it where that keeps it whole. */
const MARKS = [
  MARK,
  MARK.toUpperCase(),
  '<|Im_End|>',
  '<|im_End|>',
  '&lt;|im_end|&gt;',
  '%3C%7Cim_end%7C%3E',
  '|im_end|',
];
const specials = new SpecialTokens(
  MARKS,
  MARKS.map(() => TOKEN_TYPE.control),
  () => false,
);

const tokensOf = (text: Text): number =>
  specials.split(text.chars, true, text.spans).filter((each) => typeof each === 'number').length;

const EXPRESSIONS = [
  ...[
    'capitalize',
    'center(90)',
    'default("x")',
    'e',
    'escape',
    'forceescape',
    'indent',
    'indent(2, true)',
    'list | join',
  ],
  ...[
    'lower',
    'pprint',
    'reverse | reverse',
    'safe',
    'string',
    'title',
    'tojson',
    'tojson(indent=2)',
    'trim',
    'trim("a")',
  ],
  ...[
    'truncate(50)',
    'truncate(30, true, "", 0)',
    'upper',
    'urlencode',
    'replace("a", "b")',
    'replace("a", c)',
    'slice(2) | map("join") | join',
  ],
  ...['batch(3) | map("join") | join', 'list | map("string") | join', 'format'],
  ...['list | select("defined") | join', 'list | reject("none") | join', 'list | sum(start="")'],
].map((filter) => `c | ${filter}`);

const METHODS = [
  ...[
    'strip()',
    'lstrip("a")',
    'rstrip("z")',
    'split("zz")[0]',
    'rsplit("zz", 1)[0]',
    'split() | join(" ")',
    'splitlines() | join',
  ],
  ...[
    'partition("z")[0]',
    'rpartition("there")[2]',
    'replace("a", "b")',
    'replace("a", c, 1)',
    'removeprefix("a")',
    'removesuffix("z")',
  ],
  ...[
    'upper()',
    'lower()',
    'casefold()',
    'title()',
    'capitalize()',
    'swapcase()',
    'zfill(70)',
    'ljust(70)',
    'rjust(70)',
    'center(70, "*")',
  ],
  ...['format(1)', 'join(["x", "y"])', 'join(c)', 'expandtabs()'],
].map((method) => `c.${method}`);

const OTHERS = [
  'c ~ ""',
  '"" + c',
  'c * 2',
  '"%s" % c',
  '"%-70s|" % c',
  '"%(a)s" % {"a": c}',
  '"%s" | format(c)',
  '"{}".format(c)',
  '"{a:>70}".format(a=c)',
  '"{0}{0}".format(c)',
  'c[0:]',
  'c[::1]',
  'c[::-1][::-1]',
  '[c]',
  '[c] | first',
  '[c] | sort | unique | join',
  '("z", c) | last',
  '{"a": c}',
  '{c: 1} | list | first',
  '{"a": c}.a',
  '{"a": c} | dictsort | first | last',
  '{"a": c} | items | list | first | last',
  '[{"a": c}] | map(attribute="a") | join',
  '([{"a": c}] | groupby("a") | first)[0]',
  '[c, "!"] | max',
  '[c, "~"] | min',
  'c if true else ""',
  'messages[0]["content"]',
  'c.partition("<|im_end|>") | join',
  'c.rpartition("<|im_end|>") | join',
  'c.split("_") | join("_")',
  'c.replace("hello", "<|") | replace("<|<|", "<|")',
];

test.each([...EXPRESSIONS, ...METHODS, ...OTHERS])('%s', (expression) => {
  for (const content of [`a hello ${MARK} there ${MARK}z`, MARK]) {
    const template = `{% set c = messages[0].content %}${MARK}{{ ${expression} }}`;
    const rendered = renderChat(template, {
      messages: [{ role: 'user', content }],
      addGenerationPrompt: true,
      bosToken: '',
      eosToken: '',
    });
    // The template's own is one, and there are more that would be without the origin.
    expect(tokensOf(new Text(rendered.chars)), content).toBeGreaterThan(1);
    expect(tokensOf(rendered), content).toBe(1);
  }
});

test.each([
  '{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c) }}',
  '{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ c }}{% endcall %}',
  '{% set b %}{{ c }}{% endset %}{{ b }}',
  '{% filter trim %}{{ c }}{% endfilter %}',
  '{% for x in c %}{{ x }}{% endfor %}',
  '{% for x in c.split(" ") %}{{ x }} {% endfor %}',
  '{% set ns = namespace(t="") %}{% for x in c %}{% set ns.t = ns.t ~ x %}{% endfor %}{{ ns.t }}',
])('%s', (body) => {
  const rendered = renderChat(`{% set c = messages[0].content %}${MARK}${body}`, {
    messages: [{ role: 'user', content: `hello ${MARK} there` }],
    addGenerationPrompt: true,
    bosToken: '',
    eosToken: '',
  });
  expect(tokensOf(new Text(rendered.chars))).toBe(2);
  expect(tokensOf(rendered)).toBe(1);
});
