/** Jinja's grammar, with the statements and extensions that transformers has: loop controls and `generation`. */
import type { None } from './values.ts';
import { Float, integer, NONE, TemplateError, text } from './values.ts';
import type { Token } from './lexer.ts';
import { tokenize } from './lexer.ts';
import type { CallArguments, Expression, Filter, Parameters, Statement, Target } from './syntax.ts';

/** Expressions and blocks within one another; the parser calls itself some ten times for each. */
const MAX_DEPTH = 200;

const CONSTANTS: Readonly<Record<string, None | boolean>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: NONE,
  None: NONE,
};
const COMPARISONS: readonly string[] = ['==', '!=', '<', '<=', '>', '>='];

/** What a template says. Throws TemplateError for what is no template. */
export function parse(source: string): Statement[] {
  return new Parser(tokenize(source)).template();
}

const noArguments = (): CallArguments => ({ positional: [], named: [], list: null, dict: null });

class Parser {
  private at = 0;
  private depth = 0;
  private loops = 0;

  constructor(private readonly tokens: readonly Token[]) {}

  template(): Statement[] {
    const body = this.statements([]);
    if (this.token.kind !== 'end') throw new TemplateError(`Encountered unknown tag '${this.token.value}'`);
    return body;
  }

  // Tokens

  private get token(): Token {
    return this.tokens[this.at]!;
  }

  private next(): Token {
    return this.tokens[this.at++] ?? this.fail();
  }

  private fail(expected?: string): never {
    const { kind, value } = this.token;
    if (kind === 'end') throw new TemplateError('it ends too soon');
    throw new TemplateError(
      `${expected === undefined ? 'unexpected' : `expected ${expected}, got`} ${JSON.stringify(value)}`,
    );
  }

  private isOperator(value: string): boolean {
    return this.token.kind === 'operator' && this.token.value === value;
  }

  private isName(...values: string[]): boolean {
    return this.token.kind === 'name' && values.includes(this.token.value);
  }

  private skipOperator(value: string): boolean {
    if (!this.isOperator(value)) return false;
    this.at++;
    return true;
  }

  private skipName(value: string): boolean {
    if (!this.isName(value)) return false;
    this.at++;
    return true;
  }

  private expectOperator(value: string): void {
    if (!this.skipOperator(value)) this.fail(JSON.stringify(value));
  }

  private expectName(): string {
    return this.token.kind === 'name' ? this.next().value : this.fail('a name');
  }

  private expectEnd(): void {
    if (this.token.kind !== 'blockEnd') this.fail('the end of the block');
    this.at++;
  }

  private nested<Result>(parse: () => Result): Result {
    if (++this.depth > MAX_DEPTH) throw new TemplateError(`it nests deeper than ${MAX_DEPTH} levels`);
    const result = parse();
    this.depth--;
    return result;
  }

  // Statements

  /** Statements up to a tag of a name in `ends`, which is left to be read. */
  private statements(ends: readonly string[]): Statement[] {
    return this.nested(() => {
      const out: Statement[] = [];
      for (;;) {
        const { kind, value } = this.token;
        if (kind === 'text') {
          this.at++;
          out.push({ type: 'text', text: text(value) });
        } else if (kind === 'outputBegin') {
          this.at++;
          out.push({ type: 'output', value: this.tuple() });
          if (this.token.kind !== 'outputEnd') this.fail('the end of the expression');
          this.at++;
        } else if (kind === 'blockBegin') {
          const tag = this.tokens[this.at + 1]!;
          if (tag.kind === 'name' && ends.includes(tag.value)) {
            this.at++;
            return out;
          }
          this.at++;
          out.push(this.statement());
        } else if (ends.length > 0) this.fail();
        else return out;
      }
    });
  }

  /** Statements of a block up to its end tag. */
  private body(end: string): Statement[] {
    this.expectEnd();
    const body = this.statements([end]);
    this.at++;
    this.expectEnd();
    return body;
  }

  private statement(): Statement {
    const tag = this.expectName();
    switch (tag) {
      case 'if':
        return this.if();
      case 'for':
        return this.for();
      case 'set':
        return this.set();
      case 'macro':
        return this.macro();
      case 'call':
        return this.callBlock();
      case 'filter': {
        const filters = this.filters();
        return { type: 'filterBlock', filters, body: this.body('endfilter') };
      }
      case 'with':
        return this.with();
      case 'generation':
        return { type: 'scope', body: this.body('endgeneration') };
      case 'block': {
        const name = this.expectName();
        this.skipName('scoped');
        this.skipName('required');
        this.expectEnd();
        const body = this.statements(['endblock']);
        this.at++;
        this.skipName(name);
        this.expectEnd();
        return { type: 'scope', body };
      }
      case 'print': {
        const value = this.tuple();
        this.expectEnd();
        return { type: 'output', value };
      }
      case 'break':
      case 'continue':
        if (this.loops === 0) throw new TemplateError(`'${tag}' outside of a loop`);
        this.expectEnd();
        return { type: tag };
      default:
        throw new TemplateError(`Encountered unknown tag '${tag}'`);
    }
  }

  private if(): Statement {
    const branches: [Expression, Statement[]][] = [];
    let otherwise: Statement[] = [];
    for (;;) {
      const test = this.tuple({ condition: false });
      this.expectEnd();
      branches.push([test, this.statements(['elif', 'else', 'endif'])]);
      const tag = this.next().value;
      if (tag === 'elif') continue;
      if (tag === 'else') {
        this.expectEnd();
        otherwise = this.statements(['endif']);
        this.at++;
      }
      this.expectEnd();
      return { type: 'if', branches, otherwise };
    }
  }

  private for(): Statement {
    const target = this.targets((): boolean => this.isName('in'));
    if (!this.skipName('in')) this.fail('in');
    const over = this.tuple({ condition: false, end: () => this.isName('recursive') });
    const test = this.skipName('if') ? this.expression() : null;
    const recursive = this.skipName('recursive');
    this.expectEnd();
    this.loops++;
    const body = this.statements(['endfor', 'else']);
    this.loops--;
    let otherwise: Statement[] = [];
    if (this.next().value === 'else') {
      this.expectEnd();
      otherwise = this.statements(['endfor']);
      this.at++;
    }
    this.expectEnd();
    return { type: 'for', target, over, test, recursive, body, otherwise };
  }

  private set(): Statement {
    const target = this.targets(() => false, true);
    if (this.skipOperator('=')) {
      const value = this.tuple();
      this.expectEnd();
      return { type: 'set', target, value };
    }
    const filters = this.isOperator('|') ? this.filters(true) : [];
    return { type: 'setBlock', target, filters, body: this.body('endset') };
  }

  private macro(): Statement {
    const name = this.expectName();
    const parameters = this.parameters();
    const loops = this.loops;
    this.loops = 0;
    const body = this.body('endmacro');
    this.loops = loops;
    return { type: 'macro', name, parameters, body };
  }

  private callBlock(): Statement {
    const parameters = this.isOperator('(') ? this.parameters() : { names: [], defaults: [] };
    const call = this.expression();
    if (call.type !== 'call') throw new TemplateError('expected call');
    const loops = this.loops;
    this.loops = 0;
    const body = this.body('endcall');
    this.loops = loops;
    return { type: 'callBlock', call, parameters, body };
  }

  private with(): Statement {
    const values: [Target, Expression][] = [];
    while (this.token.kind !== 'blockEnd') {
      if (values.length > 0) this.expectOperator(',');
      const target = this.target();
      this.expectOperator('=');
      values.push([target, this.expression()]);
    }
    return { type: 'with', values, body: this.body('endwith') };
  }

  private parameters(): Parameters {
    const names: string[] = [];
    const defaults: Expression[] = [];
    this.expectOperator('(');
    while (!this.isOperator(')')) {
      if (names.length > 0) this.expectOperator(',');
      names.push(this.assignable());
      if (this.skipOperator('=')) defaults.push(this.expression());
      else if (defaults.length > 0) throw new TemplateError('non-default argument follows default argument');
    }
    this.at++;
    return { names, defaults };
  }

  private assignable(): string {
    const name = this.expectName();
    if (CONSTANTS[name] !== undefined) throw new TemplateError(`can't assign to '${name}'`);
    return name;
  }

  private target(fields = false): Target {
    if (this.skipOperator('(')) {
      const inner = this.targets(() => this.isOperator(')'));
      this.expectOperator(')');
      return inner;
    }
    const name = this.assignable();
    if (fields && this.skipOperator('.')) return { type: 'field', of: name, name: this.expectName() };
    return { type: 'name', name };
  }

  private targets(isEnd: () => boolean, fields = false): Target {
    const items = [this.target(fields)];
    let several = false;
    while (this.skipOperator(',')) {
      several = true;
      if (isEnd() || this.isOperator('=') || this.token.kind === 'blockEnd') break;
      items.push(this.target());
    }
    return several ? { type: 'targets', items } : items[0]!;
  }

  // Expressions, from the loosest to the tightest

  private expression(condition = true): Expression {
    return this.nested(() => (condition ? this.condition() : this.or()));
  }

  /** One expression, or several with commas between them. */
  private tuple(rules: { condition?: boolean; end?: () => boolean; brackets?: boolean } = {}): Expression {
    const items: Expression[] = [];
    let several = false;
    for (;;) {
      if (items.length > 0) this.expectOperator(',');
      const { kind } = this.token;
      if (kind === 'outputEnd' || kind === 'blockEnd' || this.isOperator(')') || rules.end?.() === true) break;
      items.push(this.expression(rules.condition ?? true));
      if (!this.isOperator(',')) break;
      several = true;
    }
    if (!several && items.length === 1) return items[0]!;
    if (items.length === 0 && rules.brackets !== true) this.fail('an expression');
    return { type: 'tuple', items };
  }

  private condition(): Expression {
    let left = this.or();
    while (this.skipName('if')) {
      const test = this.or();
      const no = this.skipName('else') ? this.nested(() => this.condition()) : null;
      left = { type: 'condition', test, yes: left, no };
    }
    return left;
  }

  private or(): Expression {
    let left = this.and();
    while (this.skipName('or')) left = { type: 'binary', operator: 'or', left, right: this.and() };
    return left;
  }

  private and(): Expression {
    let left = this.not();
    while (this.skipName('and')) left = { type: 'binary', operator: 'and', left, right: this.not() };
    return left;
  }

  private not(): Expression {
    if (!this.skipName('not')) return this.compare();
    return this.nested(() => ({ type: 'unary', operator: 'not', of: this.not() }));
  }

  private compare(): Expression {
    const first = this.sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      const { kind, value } = this.token;
      if (kind === 'operator' && COMPARISONS.includes(value)) {
        this.at++;
        rest.push([value, this.sum()]);
      } else if (this.skipName('in')) rest.push(['in', this.sum()]);
      else if (
        this.isName('not') &&
        this.tokens[this.at + 1]!.kind === 'name' &&
        this.tokens[this.at + 1]!.value === 'in'
      ) {
        this.at += 2;
        rest.push(['not in', this.sum()]);
      } else return rest.length === 0 ? first : { type: 'compare', first, rest };
    }
  }

  private leftToRight(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (this.token.kind === 'operator' && operators.includes(this.token.value))
      left = { type: 'binary', operator: this.next().value, left, right: operand() };
    return left;
  }

  private sum(): Expression {
    return this.leftToRight(['+', '-'], () => this.concat());
  }

  private concat(): Expression {
    const parts = [this.product()];
    while (this.skipOperator('~')) parts.push(this.product());
    return parts.length === 1 ? parts[0]! : { type: 'concat', parts };
  }

  private product(): Expression {
    return this.leftToRight(['*', '/', '//', '%'], () => this.power());
  }

  private power(): Expression {
    return this.leftToRight(['**'], () => this.unary());
  }

  private unary(filtered = true): Expression {
    let node: Expression;
    if (this.isOperator('-') || this.isOperator('+')) {
      const operator = this.next().value as '-' | '+';
      node = this.nested(() => ({ type: 'unary', operator, of: this.unary(false) }));
    } else node = this.primary();
    node = this.postfix(node);
    return filtered ? this.filtered(node) : node;
  }

  private primary(): Expression {
    const { kind, value } = this.token;
    if (kind === 'name') {
      this.at++;
      const constant = CONSTANTS[value];
      return constant === undefined ? { type: 'name', name: value } : { type: 'constant', value: constant };
    }
    if (kind === 'string') {
      let whole = '';
      while (this.token.kind === 'string') whole += this.next().value;
      return { type: 'constant', value: text(whole) };
    }
    if (kind === 'integer') {
      this.at++;
      return { type: 'constant', value: integer(BigInt(value)) };
    }
    if (kind === 'float') {
      this.at++;
      return { type: 'constant', value: new Float(Number(value)) };
    }
    if (this.skipOperator('(')) {
      const inner = this.tuple({ brackets: true });
      this.expectOperator(')');
      return inner;
    }
    if (this.skipOperator('[')) {
      const items: Expression[] = [];
      while (!this.isOperator(']')) {
        if (items.length > 0) this.expectOperator(',');
        if (this.isOperator(']')) break;
        items.push(this.expression());
      }
      this.at++;
      return { type: 'list', items };
    }
    if (this.skipOperator('{')) {
      const items: [Expression, Expression][] = [];
      while (!this.isOperator('}')) {
        if (items.length > 0) this.expectOperator(',');
        if (this.isOperator('}')) break;
        const key = this.expression();
        this.expectOperator(':');
        items.push([key, this.expression()]);
      }
      this.at++;
      return { type: 'dict', items };
    }
    return this.fail();
  }

  private postfix(node: Expression): Expression {
    let left = node;
    for (;;) {
      if (this.skipOperator('.')) left = this.member(left);
      else if (this.skipOperator('[')) left = this.subscript(left);
      else if (this.isOperator('(')) left = { type: 'call', callee: left, args: this.arguments() };
      else return left;
    }
  }

  private member(of: Expression): Expression {
    const { kind, value } = this.next();
    if (kind === 'name') return { type: 'attribute', of, name: value };
    if (kind !== 'integer') throw new TemplateError('expected name or number');
    return { type: 'item', of, key: { type: 'constant', value: integer(BigInt(value)) } };
  }

  private subscript(of: Expression): Expression {
    const keys: Expression[] = [];
    while (!this.isOperator(']')) {
      if (keys.length > 0) this.expectOperator(',');
      keys.push(this.subscribed());
    }
    this.at++;
    if (keys.length === 0) throw new TemplateError('expected a subscript');
    return { type: 'item', of, key: keys.length === 1 ? keys[0]! : { type: 'tuple', items: keys } };
  }

  private subscribed(): Expression {
    const part = (): Expression | null =>
      this.isOperator(':') || this.isOperator(']') || this.isOperator(',') ? null : this.expression();
    const start = part();
    if (!this.skipOperator(':')) return start ?? this.fail();
    const stop = part();
    return { type: 'slice', start, stop, step: this.skipOperator(':') ? part() : null };
  }

  private filtered(node: Expression): Expression {
    let left = node;
    for (;;) {
      if (this.skipOperator('|')) left = { type: 'filter', of: left, ...this.filter() };
      else if (this.skipName('is')) left = this.test(left);
      else if (this.isOperator('(')) left = { type: 'call', callee: left, args: this.arguments() };
      else return left;
    }
  }

  private dottedName(): string {
    let name = this.expectName();
    while (this.skipOperator('.')) name += `.${this.expectName()}`;
    return name;
  }

  private filter(): Filter {
    const name = this.dottedName();
    return { name, args: this.isOperator('(') ? this.arguments() : noArguments() };
  }

  /** The filters of a block; `begun` where the sign before the first has still to be read. */
  private filters(begun = false): Filter[] {
    if (begun) this.expectOperator('|');
    const filters = [this.filter()];
    while (this.skipOperator('|')) filters.push(this.filter());
    return filters;
  }

  private test(of: Expression): Expression {
    const negated = this.skipName('not');
    const name = this.dottedName();
    let args = noArguments();
    const { kind, value } = this.token;
    if (this.isOperator('(')) args = this.arguments();
    else if (
      kind === 'string' ||
      kind === 'integer' ||
      kind === 'float' ||
      (kind === 'name' && !['else', 'or', 'and'].includes(value)) ||
      this.isOperator('[') ||
      this.isOperator('{')
    ) {
      if (this.isName('is')) throw new TemplateError('You cannot chain multiple tests with is');
      args = { ...args, positional: [this.postfix(this.primary())] };
    }
    const node: Expression = { type: 'test', of, name, args };
    return negated ? { type: 'unary', operator: 'not', of: node } : node;
  }

  private arguments(): CallArguments {
    const args = noArguments();
    this.expectOperator('(');
    for (let first = true; !this.isOperator(')'); first = false) {
      if (!first) {
        this.expectOperator(',');
        if (this.isOperator(')')) break;
      }
      if (this.skipOperator('*')) {
        if (args.list !== null || args.dict !== null)
          throw new TemplateError('invalid syntax for function call expression');
        args.list = this.expression();
      } else if (this.skipOperator('**')) {
        if (args.dict !== null) throw new TemplateError('invalid syntax for function call expression');
        args.dict = this.expression();
      } else if (
        this.token.kind === 'name' &&
        this.tokens[this.at + 1]!.value === '=' &&
        this.tokens[this.at + 1]!.kind === 'operator'
      ) {
        if (args.dict !== null) throw new TemplateError('invalid syntax for function call expression');
        const name = this.next().value;
        this.at++;
        args.named.push([name, this.expression()]);
      } else {
        if (args.list !== null || args.dict !== null || args.named.length > 0)
          throw new TemplateError('invalid syntax for function call expression');
        args.positional.push(this.expression());
      }
    }
    this.at++;
    return args;
  }
}
