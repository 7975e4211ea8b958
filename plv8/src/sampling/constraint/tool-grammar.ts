/**
 * Answers that call tools, in the form of the model's family: names are those of the tools, arguments are valid against the
 * tool's schema. Where the model may also not call, everything before the family's mark is free, and the grammar begins there.
 */
import { HartonomousError, prefixed, raise, SQLSTATE } from '../../errors.ts';
import type { ThinkingFamily } from '../../format/thinking-families.ts';
import type { ToolFamily } from '../../format/tool-families.ts';
import { quoted } from '../../format/visible-text.ts';
import { byteText } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY } from './expression.ts';
import type { CompiledMember } from './json-schema.ts';
import { compileMembers, compileSchema } from './json-schema.ts';
import { combine } from './machine.ts';

export interface Tool {
  name: string;
  /** JSON Schema of an object */
  parameters: Record<string, unknown>;
}

export interface ToolGrammar {
  kind: 'tool_call';
  family: ToolFamily;
  tools: readonly Tool[];
  /** whether the answer has to be a call */
  required: boolean;
  /** whether there may be several */
  parallel: boolean;
  /** what may be thought before, `begun` where the prompt ends with its opening mark */
  thinking: (ThinkingFamily & { begun: boolean }) | null;
}

/** Calls in one answer. */
const MAX_CALLS = 16;

/** Blanks and line ends between the parts of a call. */
const MAX_BLANKS = 2;

/** Bytes that may stand before a call that is the whole answer. */
const isBlank = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/** A text from its first character on that may not stand before such a call. */
export function withoutBlanks(text: string): string {
  let at = 0;
  while (isBlank(text.charCodeAt(at))) at++;
  return text.slice(at);
}

/** Texts before which, blanks apart, the answer of a family without an opening mark is a call. */
export function beginningsOf({ family, tools }: ToolGrammar): string[] {
  return family.form === 'python' ? tools.map(({ name }) => `[${name}(`) : ['{"name"'];
}

/** Texts whose control tokens are part of the answer. */
export function marksOf({ family, thinking }: ToolGrammar): string[] {
  const thought = thinking === null ? [] : [thinking.open, thinking.close, ...(thinking.around ?? [])];
  return [family.open, family.close, ...(family.form === 'named' ? ['[CALL_ID]', '[ARGS]'] : []), ...thought];
}

/** `otherwise` is what the answer is where it calls nothing; any text where it is null. */
export function compileToolCalls(
  expressions: Expressions,
  grammar: ToolGrammar,
  otherwise: Expression | null,
): { expression: Expression; ignored: string[] } {
  const compiler = new ToolCompiler(expressions, grammar);
  return { expression: compiler.answer(otherwise), ignored: compiler.ignored };
}

class ToolCompiler {
  readonly ignored: string[] = [];
  private readonly anything: Expression;
  private readonly blanks: Expression;

  constructor(
    private readonly expressions: Expressions,
    private readonly grammar: ToolGrammar,
  ) {
    this.anything = expressions.repeat(
      expressions.bytes(() => true),
      0,
      Infinity,
    );
    this.blanks = expressions.repeat(
      expressions.bytes((byte) => byte === 0x20 || byte === 0x0a),
      0,
      MAX_BLANKS,
    );
  }

  answer(otherwise: Expression | null): Expression {
    const { required } = this.grammar;
    const answer = required ? this.sequence(this.blanks, this.calls()) : this.mayCall(otherwise);
    return this.afterThinking(answer, !required);
  }

  /** The answer after what is thought before it, which may be all where `mayEnd` says so. */
  private afterThinking(answer: Expression, mayEnd: boolean): Expression {
    const { expressions } = this;
    const { thinking } = this.grammar;
    if (thinking === null) return answer;
    const around = (thinking.around ?? []).map((mark) => this.literal(mark));
    const further = this.sequence(
      this.literal(thinking.close),
      expressions.repeat(expressions.any([this.blanks, ...around]), 0, 4),
      answer,
    );
    const thought = this.sequence(this.without(thinking.close), mayEnd ? expressions.optional(further) : further);
    if (thinking.begun) return thought;
    return expressions.any([this.sequence(this.blanks, this.literal(thinking.open), thought), answer]);
  }

  private mayCall(otherwise: Expression | null): Expression {
    const { expressions } = this;
    const { family, thinking } = this.grammar;
    const { open } = family;
    if (otherwise !== null) return expressions.any([otherwise, this.sequence(this.blanks, this.calls())]);
    if (open !== '') return this.sequence(this.without(open), expressions.optional(this.calls()));
    // What is thought comes before, and not in the words of the answer.
    const thought = thinking === null || thinking.begun ? [] : [thinking.open];
    const space = expressions.repeat(expressions.bytes(isBlank), 0, Infinity);
    const beginnings = [...beginningsOf(this.grammar), ...thought].map((text) =>
      this.sequence(space, this.literal(text), this.anything),
    );
    return expressions.any([
      combine(expressions, [this.anything], beginnings),
      this.sequence(this.blanks, this.calls()),
    ]);
  }

  /** Texts in which `mark` does not stand. */
  private without(mark: string): Expression {
    const containing = this.sequence(this.anything, this.literal(mark), this.anything);
    return combine(this.expressions, [this.anything], [containing]);
  }

  private calls(): Expression {
    const { expressions } = this;
    const { family, tools } = this.grammar;
    const { open, close, form } = family;
    const call = expressions.any(tools.map((tool) => this.placed(tool)));
    if (form === 'python') return this.list(call, EMPTY);
    if (open === '') return call;
    const body = form === 'object' ? expressions.any([call, this.list(call, this.blanks)]) : call;
    const marked = this.sequence(
      this.literal(open),
      this.blanks,
      body,
      close === '' ? EMPTY : this.sequence(this.blanks, this.literal(close)),
    );
    // A list says by itself where it ends.
    const repeats = this.grammar.parallel && (close !== '' || form === 'named');
    return repeats
      ? this.sequence(marked, expressions.repeat(this.sequence(this.blanks, marked), 0, MAX_CALLS - 1))
      : marked;
  }

  private list(call: Expression, blanks: Expression): Expression {
    const further = this.sequence(this.literal(','), this.blanks, call);
    const most = this.grammar.parallel ? MAX_CALLS - 1 : 0;
    return this.sequence(
      this.literal('['),
      blanks,
      call,
      this.expressions.repeat(further, 0, most),
      blanks,
      this.literal(']'),
    );
  }

  /** A call of one tool; what is wrong with its schema names the tool. */
  private placed(tool: Tool): Expression {
    try {
      return this.call(tool);
    } catch (error) {
      if (!(error instanceof HartonomousError)) throw error;
      throw prefixed(`tool ${tool.name}`, error);
    }
  }

  private call(tool: Tool): Expression {
    const { family } = this.grammar;
    const space = this.expressions.optional(this.literal(' '));
    switch (family.form) {
      case 'object':
        return this.sequence(
          this.literal('{"name":'),
          space,
          this.literal(`${JSON.stringify(tool.name)},`),
          space,
          this.literal(`"${family.member}":`),
          space,
          this.object(tool),
          this.literal('}'),
        );
      case 'named': {
        const id = this.expressions.repeat(
          this.expressions.bytes((byte) => /[A-Za-z0-9]/.test(String.fromCharCode(byte))),
          9,
          9,
        );
        const withId = this.sequence(this.literal('[CALL_ID]'), id);
        return this.sequence(
          this.literal(tool.name),
          this.expressions.optional(withId),
          this.literal('[ARGS]'),
          this.blanks,
          this.object(tool),
        );
      }
      case 'python': {
        const members = this.members(tool, false);
        const written = this.chain(members, this.sequence(this.literal(','), space), ({ name, value }) =>
          this.sequence(this.literal(`${name}=`), value),
        );
        return this.sequence(this.literal(`${tool.name}(`), written, this.literal(')'));
      }
      case 'tags': {
        const written = this.chain(this.members(tool, true), EMPTY, ({ name, value, raw }) =>
          this.sequence(
            this.literal(`<parameter=${name}>\n`),
            raw ? this.untagged(value) : value,
            this.literal('\n</parameter>\n'),
          ),
        );
        return this.sequence(this.literal(`<function=${tool.name}>\n`), written, this.literal('</function>'));
      }
    }
  }

  private object({ name, parameters }: Tool): Expression {
    const { expression, ignored } = compileSchema(this.expressions, parameters);
    this.ignored.push(...ignored.map((keyword) => `${keyword} of tool ${name}`));
    return expression;
  }

  private members({ name, parameters }: Tool, rawTexts: boolean): readonly CompiledMember[] {
    const { members, ignored } = compileMembers(this.expressions, parameters, rawTexts);
    const unwritable = members.find((member) => !(rawTexts ? /^[^>\n]+$/ : /^[^\s=,)][^\s=,]*$/).test(member.name));
    if (unwritable !== undefined) {
      raise(
        SQLSTATE.featureNotSupported,
        `member ${quoted(unwritable.name, 60)} has a name that this model cannot write in a call`,
      );
    }
    this.ignored.push(...ignored.map((keyword) => `${keyword} of tool ${name}`));
    return members;
  }

  private untagged(value: Expression): Expression {
    const containing = this.sequence(this.anything, this.literal('</parameter>'), this.anything);
    return combine(this.expressions, [value], [containing]);
  }

  /** Members in their order, those that are not required perhaps left out. */
  private chain(
    members: readonly CompiledMember[],
    separator: Expression,
    write: (member: CompiledMember) => Expression,
  ): Expression {
    const { expressions } = this;
    /** From the last member on: what may follow where none stands before, and where one does. */
    const none = { first: EMPTY, later: EMPTY };
    return members.reduceRight(({ first, later }, member) => {
      const here = this.sequence(write(member), later);
      const next = this.sequence(separator, here);
      return {
        first: member.required ? here : expressions.any([here, first]),
        later: member.required ? next : expressions.any([next, later]),
      };
    }, none).first;
  }

  private literal(text: string): Expression {
    return this.expressions.literal(byteText(text));
  }

  private sequence(...parts: Expression[]): Expression {
    return this.expressions.sequence(...parts);
  }
}
