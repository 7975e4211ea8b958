/**
 * Cuts a template into text and the tokens of its blocks, as Jinja does with trim_blocks and lstrip_blocks, which
 * transformers sets: https://jinja.palletsprojects.com/en/stable/templates/#whitespace-control
 */
import { TemplateError } from './values.ts';

export type TokenKind =
  | 'text'
  | 'blockBegin'
  | 'blockEnd'
  | 'outputBegin'
  | 'outputEnd'
  | 'name'
  | 'string'
  | 'integer'
  | 'float'
  | 'operator'
  | 'end';

export interface Token {
  kind: TokenKind;
  value: string;
}

/** White space as Python's str.isspace has it; unlike JavaScript's it has U+001C to U+001F and U+0085, and not U+FEFF. */
export const SPACES = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const TRAILING_SPACE = new RegExp(`[${SPACES}]+$`);
const ONLY_SPACE = new RegExp(`^[${SPACES}]+$`);
const SPACE_HERE = new RegExp(`[${SPACES}]+`, 'y');
const RAW_BEGIN = new RegExp(`\\{%([-+]?)[${SPACES}]*raw[${SPACES}]*(?:-%\\}[${SPACES}]*|%\\})`, 'y');
const RAW_END = new RegExp(`\\{%([-+]?)[${SPACES}]*endraw[${SPACES}]*(?:\\+%\\}|-%\\}[${SPACES}]*|%\\}\\n?)`, 'g');
const COMMENT_END = new RegExp(`\\+#\\}|-#\\}[${SPACES}]*|#\\}\\n?`, 'g');
const BLOCK_END = new RegExp(`\\+%\\}|-%\\}[${SPACES}]*|%\\}\\n?`, 'y');
const OUTPUT_END = new RegExp(`-\\}\\}[${SPACES}]*|\\}\\}`, 'y');
const FLOAT = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*/uy;
const STRING = /'([^'\\]*(?:\\[^][^'\\]*)*)'|"([^"\\]*(?:\\[^][^"\\]*)*)"/y;
const OPERATOR = /\/\/|\*\*|==|!=|<=|>=|[-+/*%~[\](){}<>=.:|,;]/y;

const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

const ESCAPES: Readonly<Record<string, string>> = {
  '\n': '',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  "'": "'",
  '"': '"',
  '\\': '\\',
};

/** Throws TemplateError for what is no template. */
export function tokenize(source: string): Token[] {
  return new Lexer(source.replace(/\r\n?/g, '\n').replace(/\n$/, '')).tokens();
}

class Lexer {
  private readonly out: Token[] = [];
  private at = 0;
  /** whether what stands at `at` begins a line */
  private lineStarts = true;

  constructor(private readonly source: string) {}

  tokens(): Token[] {
    const begins = /\{[%{#]/g;
    for (;;) {
      begins.lastIndex = this.at;
      const found = begins.exec(this.source);
      if (found === null) break;
      this.tag(found.index, found[0]);
    }
    this.text(this.source.slice(this.at));
    this.out.push({ kind: 'end', value: '' });
    return this.out;
  }

  /** Take the expression at `at`; null where there is none. */
  private match(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.at;
    const found = expression.exec(this.source);
    if (found !== null) this.moveTo(expression.lastIndex);
    return found;
  }

  private moveTo(end: number): void {
    if (end > this.at) this.lineStarts = this.source[end - 1] === '\n';
    this.at = end;
  }

  private text(value: string): void {
    if (value !== '') this.out.push({ kind: 'text', value });
  }

  /** Text before a tag, with the blanks gone that the tag takes. */
  private before(end: number, sign: string, isOutput: boolean): void {
    const text = this.source.slice(this.at, end);
    this.text(strip(text, sign, isOutput, this.lineStarts));
    this.moveTo(end);
  }

  private tag(begin: number, opening: string): void {
    const sign = this.source[begin + 2] ?? '';
    if (opening === '{#') {
      this.before(begin, sign, false);
      this.at += 2;
      COMMENT_END.lastIndex = this.at;
      if (COMMENT_END.exec(this.source) === null) throw new TemplateError('Missing end of comment tag');
      this.moveTo(COMMENT_END.lastIndex);
      return;
    }
    const isOutput = opening === '{{';
    RAW_BEGIN.lastIndex = begin;
    const raw = isOutput ? null : RAW_BEGIN.exec(this.source);
    this.before(begin, sign, isOutput);
    if (raw !== null) {
      this.moveTo(begin + raw[0].length);
      RAW_END.lastIndex = this.at;
      const end = RAW_END.exec(this.source);
      if (end === null) throw new TemplateError('Missing end of raw directive');
      this.before(end.index, end[1]!, false);
      this.moveTo(RAW_END.lastIndex);
      return;
    }
    this.at += 2;
    if (sign === '-' || sign === '+') this.at++;
    this.out.push({ kind: isOutput ? 'outputBegin' : 'blockBegin', value: opening });
    this.inside(isOutput);
  }

  private inside(isOutput: boolean): void {
    const open: string[] = [];
    for (;;) {
      if (open.length === 0 && this.match(isOutput ? OUTPUT_END : BLOCK_END) !== null) {
        this.out.push({ kind: isOutput ? 'outputEnd' : 'blockEnd', value: isOutput ? '}}' : '%}' });
        return;
      }
      if (this.at >= this.source.length) throw new TemplateError('it ends too soon');
      if (this.match(SPACE_HERE) !== null) continue;
      this.token(open);
    }
  }

  private token(open: string[]): void {
    const float = this.source[this.at - 1] === '.' ? null : this.match(FLOAT);
    if (float !== null) {
      this.out.push({ kind: 'float', value: float[0].replaceAll('_', '') });
      return;
    }
    const integer = this.match(INTEGER);
    if (integer !== null) {
      this.out.push({ kind: 'integer', value: integer[0].replaceAll('_', '') });
      return;
    }
    const name = this.match(NAME);
    if (name !== null) {
      this.out.push({ kind: 'name', value: name[0] });
      return;
    }
    const string = this.match(STRING);
    if (string !== null) {
      this.out.push({ kind: 'string', value: unescape((string[1] ?? string[2])!) });
      return;
    }
    const operator = this.match(OPERATOR)?.[0];
    if (operator === undefined)
      throw new TemplateError(
        `unexpected char ${JSON.stringify(String.fromCodePoint(this.source.codePointAt(this.at)!))}`,
      );
    if (CLOSING[operator] !== undefined) open.push(CLOSING[operator]);
    else if (')]}'.includes(operator) && open.pop() !== operator) throw new TemplateError(`unexpected '${operator}'`);
    this.out.push({ kind: 'operator', value: operator });
  }
}

function strip(text: string, sign: string, isOutput: boolean, lineStarts: boolean): string {
  if (sign === '-') return text.replace(TRAILING_SPACE, '');
  if (sign === '+' || isOutput) return text;
  const line = text.lastIndexOf('\n') + 1;
  return (line > 0 || lineStarts) && ONLY_SPACE.test(text.slice(line)) ? text.slice(0, line) : text;
}

/** A string literal's characters; as in Python, an escape that is none stays as it is. */
function unescape(literal: string): string {
  return literal.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([^]))/g,
    (all, x?: string, u?: string, long?: string, octal?: string, one?: string) => {
      const hex = x ?? u ?? long;
      if (hex !== undefined) {
        const code = parseInt(hex, 16);
        if (code > 0x10ffff) throw new TemplateError(`illegal Unicode character ${all}`);
        return String.fromCodePoint(code);
      }
      if (octal !== undefined) return String.fromCodePoint(parseInt(octal, 8));
      if ('xuUN'.includes(one!)) throw new TemplateError(`truncated escape ${all}`);
      return ESCAPES[one!] ?? all;
    },
  );
}
