/**
 * Runs a parsed template as Jinja's immutable sandbox does: names, attributes and calls of Python, nothing that changes
 * what was given, and nothing whose name begins with an underscore.
 */
import { bind } from './arguments.ts';
import type { Budget } from './budget.ts';
import type { FilterContext } from './filters.ts';
import { callFilter, isFilter } from './filters.ts';
import { attributeOf, itemOf, onlyAttributeOf, SliceKey } from './lookup.ts';
import { LoopState, loopValue } from './loop.ts';
import { arithmetic, isCompared, negate } from './operators.ts';
import { show } from './show.ts';
import type { CallArguments, Expression, Filter, Parameters, Statement, Target } from './syntax.ts';
import { callTest, isTest } from './tests.ts';
import { joinTexts, Text } from './text.ts';
import type { Arguments, Value } from './values.ts';
import {
  Callable,
  Dict,
  isTrue,
  iterate,
  List,
  Namespace,
  needDefined,
  NONE,
  TemplateError,
  text,
  Tuple,
  typeName,
  Undefined,
} from './values.ts';

export class Scope {
  private readonly names = new Map<string, Value>();

  constructor(private readonly parent: Scope | null = null) {}

  get(name: string): Value | undefined {
    return this.names.get(name) ?? this.parent?.get(name);
  }

  set(name: string, value: Value): void {
    this.names.set(name, value);
  }
}

/** How a block ended. */
type Outcome = 'end' | 'break' | 'continue';

export class Interpreter {
  private readonly context: FilterContext;

  constructor(private readonly budget: Budget) {
    this.context = {
      budget,
      attribute: (of, name) => onlyAttributeOf(of, name, budget),
      item: (of, key) => itemOf(of, key, budget),
      filter: (name, value, args) => callFilter(this.context, name, value, args),
      test: (name, value, args) => this.isSo(name, value, args),
    };
  }

  /** Text of a template whose names are in `globals`. */
  run(template: readonly Statement[], globals: Scope): Text {
    return this.render(template, new Scope(globals));
  }

  private render(body: readonly Statement[], scope: Scope): Text {
    const out: Text[] = [];
    this.block(body, scope, out);
    return this.join(out);
  }

  private join(parts: readonly Text[]): Text {
    this.budget.make(parts.reduce((size, part) => size + part.length, 0));
    return joinTexts(parts);
  }

  private block(body: readonly Statement[], scope: Scope, out: Text[]): Outcome {
    for (const statement of body) {
      this.budget.enter();
      const outcome = this.statement(statement, scope, out);
      this.budget.leave();
      if (outcome !== 'end') return outcome;
    }
    return 'end';
  }

  private statement(node: Statement, scope: Scope, out: Text[]): Outcome {
    switch (node.type) {
      case 'text':
        out.push(node.text);
        break;
      case 'output':
        out.push(show(this.value(node.value, scope), this.budget));
        break;
      case 'if': {
        const taken = node.branches.find(([test]) => isTrue(this.value(test, scope)));
        return this.block(taken?.[1] ?? node.otherwise, scope, out);
      }
      case 'for':
        this.loop(node, this.value(node.over, scope), scope, out, 0);
        break;
      case 'set':
        this.assign(node.target, this.value(node.value, scope), scope);
        break;
      case 'setBlock':
        this.assign(node.target, this.filtered(node.filters, this.render(node.body, new Scope(scope)), scope), scope);
        break;
      case 'filterBlock':
        out.push(show(this.filtered(node.filters, this.render(node.body, new Scope(scope)), scope), this.budget));
        break;
      case 'with': {
        const inner = new Scope(scope);
        const values = node.values.map(([target, value]) => [target, this.value(value, scope)] as const);
        for (const [target, value] of values) this.assign(target, value, inner);
        return this.block(node.body, inner, out);
      }
      case 'scope':
        return this.block(node.body, new Scope(scope), out);
      case 'macro':
        scope.set(node.name, this.macro(node.name, node.parameters, node.body, scope));
        break;
      case 'callBlock': {
        const caller = this.macro('caller', node.parameters, node.body, scope);
        if (node.call.type !== 'call') break;
        const args = this.arguments(node.call.args, scope);
        const named = new Map([...args.named, ['caller', caller] as const]);
        out.push(show(this.call(this.value(node.call.callee, scope), { ...args, named }), this.budget));
        break;
      }
      default:
        return node.type;
    }
    return 'end';
  }

  private loop(node: Extract<Statement, { type: 'for' }>, over: Value, outer: Scope, out: Text[], depth: number): void {
    let values = iterate(over);
    this.budget.makeList(values.length);
    if (node.test !== null) {
      const { test } = node;
      values = values.filter((value) => {
        const inner = new Scope(outer);
        this.assign(node.target, value, inner);
        return isTrue(this.value(test, inner));
      });
    }
    const state = new LoopState(values, depth);
    const recurse = node.recursive
      ? ({ positional }: Arguments): Value => {
          const parts: Text[] = [];
          this.budget.enter();
          this.loop(node, positional[0] ?? NONE, outer, parts, depth + 1);
          this.budget.leave();
          return this.join(parts);
        }
      : null;
    const loop = loopValue(state, recurse, this.budget);
    for (const value of values) {
      this.budget.charge(1);
      const inner = new Scope(outer);
      inner.set('loop', loop);
      this.assign(node.target, value, inner);
      if (this.block(node.body, inner, out) === 'break') return;
      state.index++;
    }
    if (values.length === 0) this.block(node.otherwise, new Scope(outer), out);
  }

  private assign(target: Target, value: Value, scope: Scope): void {
    if (target.type === 'name') scope.set(target.name, value);
    else if (target.type === 'field') {
      const of = scope.get(target.of);
      if (!(of instanceof Namespace)) throw new TemplateError('cannot assign attribute on non-namespace object');
      if (target.name.startsWith('_')) throw new TemplateError(`cannot store ${target.name} on a namespace`);
      of.fields.set(target.name, value);
    } else {
      const values = iterate(value);
      const wanted = target.items.length;
      if (values.length > wanted) throw new TemplateError(`too many values to unpack (expected ${wanted})`);
      if (values.length < wanted)
        throw new TemplateError(`not enough values to unpack (expected ${wanted}, got ${values.length})`);
      target.items.forEach((each, i) => this.assign(each, values[i]!, scope));
    }
  }

  private filtered(filters: readonly Filter[], value: Value, scope: Scope): Value {
    return filters.reduce(
      (each, { name, args }) => callFilter(this.context, name, each, this.arguments(args, scope)),
      value,
    );
  }

  private macro(name: string, parameters: Parameters, body: readonly Statement[], scope: Scope): Callable {
    const { names, defaults } = parameters;
    const uses = usedNames(body);
    return new Callable(
      `macro ${name}`,
      ({ positional, named }) => {
        const inner = new Scope(scope);
        const rest = new Map(named);
        const caller = rest.get('caller');
        if (!names.includes('caller')) rest.delete('caller');
        if (positional.length > names.length && !uses.has('varargs'))
          throw new TemplateError(`macro '${name}' takes not more than ${names.length} argument(s)`);
        names.forEach((parameter, i) => {
          const given = positional[i] ?? rest.get(parameter);
          rest.delete(parameter);
          const otherwise = defaults[i - names.length + defaults.length];
          const missing = new Undefined(`parameter '${parameter}' was not provided`);
          inner.set(parameter, given ?? (otherwise === undefined ? missing : this.value(otherwise, inner)));
        });
        if (rest.size > 0 && !uses.has('kwargs'))
          throw new TemplateError(`macro '${name}' takes no keyword argument '${[...rest.keys()][0]}'`);
        inner.set('varargs', new Tuple(positional.slice(names.length)));
        const kwargs = new Dict();
        for (const [key, value] of rest) kwargs.set(text(key), value);
        inner.set('kwargs', kwargs);
        if (!names.includes('caller')) inner.set('caller', caller ?? new Undefined('No caller defined'));
        this.budget.enter();
        const result = this.render(body, inner);
        this.budget.leave();
        return result;
      },
      (field) => (field === 'name' ? text(name) : field === 'arguments' ? new Tuple(names.map(text)) : undefined),
    );
  }

  private call(callee: Value, args: Arguments): Value {
    needDefined(callee);
    if (!(callee instanceof Callable)) throw new TemplateError(`'${typeName(callee)}' object is not callable`);
    return callee.call(args);
  }

  private arguments(node: CallArguments, scope: Scope): Arguments {
    const positional = node.positional.map((each) => this.value(each, scope));
    const named = new Map(node.named.map(([name, each]) => [name, this.value(each, scope)]));
    if (node.list !== null) positional.push(...iterate(this.value(node.list, scope)));
    if (node.dict !== null) {
      const dict = this.value(node.dict, scope);
      if (!(dict instanceof Dict))
        throw new TemplateError(`argument after ** must be a mapping, not ${typeName(dict)}`);
      for (const [key, value] of dict.entries.values()) {
        if (!(key instanceof Text)) throw new TemplateError('keywords must be strings');
        if (named.has(key.chars)) throw new TemplateError(`got multiple values for keyword argument '${key.chars}'`);
        named.set(key.chars, value);
      }
    }
    return { positional, named };
  }

  private value(node: Expression, scope: Scope): Value {
    this.budget.enter();
    const value = this.expression(node, scope);
    this.budget.leave();
    return value;
  }

  private expression(node: Expression, scope: Scope): Value {
    switch (node.type) {
      case 'constant':
        return node.value;
      case 'name':
        return scope.get(node.name) ?? new Undefined(`'${node.name}' is undefined`);
      case 'list':
        return new List(node.items.map((item) => this.value(item, scope)));
      case 'tuple':
        return new Tuple(node.items.map((item) => this.value(item, scope)));
      case 'dict': {
        const dict = new Dict();
        for (const [key, value] of node.items) dict.set(this.value(key, scope), this.value(value, scope));
        return dict;
      }
      case 'attribute':
        return attributeOf(this.value(node.of, scope), node.name, this.budget);
      case 'item':
        return this.item(node, scope);
      case 'slice':
        throw new TemplateError('a slice stands in brackets only');
      case 'call':
        return this.call(this.value(node.callee, scope), this.arguments(node.args, scope));
      case 'filter':
        return callFilter(this.context, node.name, this.value(node.of, scope), this.arguments(node.args, scope));
      case 'test':
        return this.isSo(node.name, this.value(node.of, scope), this.arguments(node.args, scope));
      case 'unary': {
        const value = this.value(node.of, scope);
        return node.operator === 'not' ? !isTrue(value) : negate(value, node.operator);
      }
      case 'binary': {
        const left = this.value(node.left, scope);
        if (node.operator === 'and') return isTrue(left) ? this.value(node.right, scope) : left;
        if (node.operator === 'or') return isTrue(left) ? left : this.value(node.right, scope);
        return arithmetic(node.operator, left, this.value(node.right, scope), this.budget);
      }
      case 'concat':
        return this.join(node.parts.map((part) => show(this.value(part, scope), this.budget)));
      case 'compare':
        return this.comparison(node, scope);
      case 'condition':
        if (isTrue(this.value(node.test, scope))) return this.value(node.yes, scope);
        return node.no === null
          ? new Undefined('the inline if-expression evaluated to false and no else section was defined.')
          : this.value(node.no, scope);
    }
  }

  private comparison(node: Extract<Expression, { type: 'compare' }>, scope: Scope): boolean {
    let left = this.value(node.first, scope);
    for (const [operator, operand] of node.rest) {
      const right = this.value(operand, scope);
      if (!isCompared(operator, left, right, this.budget)) return false;
      left = right;
    }
    return true;
  }

  private item(node: Extract<Expression, { type: 'item' }>, scope: Scope): Value {
    const of = this.value(node.of, scope);
    if (node.key.type !== 'slice') return itemOf(of, this.value(node.key, scope), this.budget);
    const { start, stop, step } = node.key;
    const part = (each: Expression | null): Value => (each === null ? NONE : this.value(each, scope));
    return itemOf(of, new SliceKey(part(start), part(stop), part(step)), this.budget);
  }

  private isSo(name: string, value: Value, args: Arguments): boolean {
    if (name === 'filter' || name === 'test') {
      bind(name, args, []);
      return name === 'filter'
        ? isFilter(value)
        : isTest(value) || (value instanceof Text && /^(filter|test)$/.test(value.chars));
    }
    return callTest(name, value, args, this.budget);
  }
}

/** Names that a macro's body asks for and that a call may fill: varargs and kwargs. */
function usedNames(body: readonly Statement[]): ReadonlySet<string> {
  const found = new Set<string>();
  JSON.stringify(body, (_key, value: unknown) => {
    if (typeof value === 'bigint') return null;
    if (typeof value === 'object' && value !== null && (value as Partial<Expression>).type === 'name')
      found.add((value as { name: string }).name);
    return value;
  });
  return found;
}
