/**
 * Calls of tools, taken out of an answer as it is written: what stands before them goes on as text, names and arguments come
 * in the pieces in which OpenAI streams them. The grammar of the answer (constraint/tool-grammar.ts) says what can stand there.
 */
import { parseJson } from '../format/ordered-json.ts';
import { isText } from './constraint/json-schema.ts';
import type { ToolGrammar } from './constraint/tool-grammar.ts';
import { beginningsOf, marksOf, withoutBlanks } from './constraint/tool-grammar.ts';
import { partialEnd } from './partial-end.ts';

/** A piece of a call, as OpenAI streams it: the first has id and name, all have more of the arguments' JSON text. */
export interface CallPiece {
  index: number;
  id?: string;
  type?: 'function';
  function: { name?: string; arguments: string };
}

/** A whole call, with its arguments as an object. */
export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: unknown };
}

interface CallText {
  text: string;
  calls: CallPiece[];
}

interface Open {
  id: string;
  name: string;
  /** the arguments' JSON text so far */
  arguments: string;
}

/** Up to the arguments, by the form of a call; the name is the group, in quotes where it stands in an object. */
const HEADS = {
  object: /[^{]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/y,
  named: /[^[]*\[TOOL_CALLS\]\s*([^[]+)(?:\[CALL_ID\]\w+)?\[ARGS\]\s*(?=\{)/y,
  python: /[[\]\s,)]*([^([\]\s,)]+)\(/y,
  tags: /[^]*?<function=([^>]+)>/y,
};

export class ToolCallSplitter {
  private held = '';
  private state: 'text' | 'calls' | 'answer' = 'text';
  /** Place in `held` up to which calls are taken. */
  private at = 0;
  private current: Open | null = null;
  private readonly done: Open[] = [];
  private readonly marks: readonly string[];
  private readonly end = new ObjectEnd();

  /** `idOf` names the calls by their places. */
  constructor(
    private readonly grammar: ToolGrammar,
    private readonly idOf: (index: number) => string,
  ) {
    this.marks = marksOf(grammar);
  }

  /** Whether a call has begun, in which text is no longer free. */
  get inCalls(): boolean {
    return this.state === 'calls';
  }

  /** Whether a token of this name is a mark, or part of one. */
  knows(name: string): boolean {
    return this.marks.some((mark) => mark.includes(name));
  }

  /** The calls that are complete. */
  get calls(): ToolCall[] {
    return this.done.map(({ id, name, arguments: text }) => ({
      id,
      type: 'function',
      function: { name, arguments: parseJson(text) },
    }));
  }

  push(piece: string): CallText {
    this.held += piece;
    let text = '';
    if (this.state === 'text') text = this.grammar.family.open === '' ? this.begin() : this.lookForMark();
    if (this.state === 'answer') {
      text += this.held;
      this.held = '';
    }
    return { text, calls: this.state === 'calls' ? this.take() : [] };
  }

  /** What was held back, at the end: text that turned out to be no call. */
  flush(): string {
    const began = this.current !== null || this.done.length > 0;
    const rest = began ? '' : this.held;
    this.held = '';
    return rest;
  }

  /** Calls that are the whole answer: at its beginning it is certain whether it is one. */
  private begin(): string {
    const start = withoutBlanks(this.held);
    const beginnings = beginningsOf(this.grammar);
    if (beginnings.some((beginning) => start.startsWith(beginning))) this.state = 'calls';
    else if (!beginnings.some((beginning) => beginning.startsWith(start))) this.state = 'answer';
    return '';
  }

  /** Text up to the mark; white space before it is no part of the text, so it waits as well. */
  private lookForMark(): string {
    const { open } = this.grammar.family;
    const found = this.held.indexOf(open);
    const most = found >= 0 ? found : this.held.length - partialEnd(this.held, open);
    const text = this.held.slice(0, most).trimEnd();
    this.held = this.held.slice(found >= 0 ? found : text.length);
    if (found >= 0) this.state = 'calls';
    return text;
  }

  /** Pieces of calls that are certain by now. */
  private take(): CallPiece[] {
    const pieces: CallPiece[] = [];
    for (;;) {
      if (this.current === null) {
        const head = HEADS[this.grammar.family.form];
        head.lastIndex = this.at;
        const found = head.exec(this.held);
        if (found === null) return pieces;
        this.at = head.lastIndex;
        const written = found[1]!;
        const name = this.grammar.family.form === 'object' ? (JSON.parse(written) as string) : written.trim();
        const index = this.done.length;
        this.current = { id: this.idOf(index), name, arguments: '' };
        pieces.push({ index, id: this.current.id, type: 'function', function: { name, arguments: '' } });
      }
      const more = this.moreArguments();
      if (more.text !== '') pieces.push({ index: this.done.length, function: { arguments: more.text } });
      this.current.arguments += more.text;
      if (!more.complete) return pieces;
      this.done.push(this.current);
      this.current = null;
    }
  }

  private moreArguments(): { text: string; complete: boolean } {
    const { form } = this.grammar.family;
    if (form === 'python' || form === 'tags') {
      const members = form === 'python' ? this.keywords() : this.parameters();
      if (members === null) return { text: '', complete: false };
      const text = members.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join(', ');
      return { text: `{${text}}`, complete: true };
    }
    const from = this.at;
    this.at = this.end.find(this.held, from);
    return { text: this.held.slice(from, this.at), complete: this.end.take() };
  }

  /** `name=value, ...)`, values in JSON; null where it is not complete. */
  private keywords(): [name: string, json: string][] | null {
    const members: [string, string][] = [];
    const key = /[\s,]*(?:(\))|([^\s=,]+)=)/y;
    for (let at = this.at; ;) {
      key.lastIndex = at;
      const found = key.exec(this.held);
      if (found === null) return null;
      at = key.lastIndex;
      if (found[1] !== undefined) {
        this.at = at;
        return members;
      }
      const end = valueEnd(this.held, at);
      if (end < 0) return null;
      members.push([found[2]!, this.held.slice(at, end)]);
      at = end;
    }
  }

  /** `<parameter=name>` and its value, up to `</function>`; null where it is not complete. */
  private parameters(): [name: string, json: string][] | null {
    const members: [string, string][] = [];
    const part = /\s*(?:(<\/function>)|<parameter=([^>]+)>\n([^]*?)\n<\/parameter>)/y;
    const tool = this.grammar.tools.find(({ name }) => name === this.current!.name);
    for (part.lastIndex = this.at; ;) {
      const found = part.exec(this.held);
      if (found === null) return null;
      if (found[1] !== undefined) {
        this.at = part.lastIndex;
        return members;
      }
      const [name, value] = [found[2]!, found[3]!];
      const schemas = (tool?.parameters.properties ?? {}) as Record<string, unknown>;
      members.push([name, isText(tool?.parameters, schemas[name]) ? JSON.stringify(value) : value]);
    }
  }
}

/** Finds where an object ends in a text that grows. */
class ObjectEnd {
  private depth = 0;
  private inText = false;
  private escaped = false;
  private complete = false;

  /** Place after the object, else the end of what is there; to be asked from there on. */
  find(text: string, from: number): number {
    for (let at = from; at < text.length; at++) {
      const character = text[at]!;
      if (this.inText) {
        if (this.escaped) this.escaped = false;
        else if (character === '\\') this.escaped = true;
        else if (character === '"') this.inText = false;
      } else if (character === '"') this.inText = true;
      else if (character === '{' || character === '[') this.depth++;
      else if ((character === '}' || character === ']') && --this.depth === 0) {
        this.complete = true;
        return at + 1;
      }
    }
    return text.length;
  }

  /** Whether the object is complete, after which another may be looked for. */
  take(): boolean {
    const { complete } = this;
    this.complete = false;
    return complete;
  }
}

/** Place after the JSON value at `from`; -1 where it is not complete. */
function valueEnd(text: string, from: number): number {
  if (text[from] === '{' || text[from] === '[') {
    const end = new ObjectEnd();
    const at = end.find(text, from);
    return end.take() ? at : -1;
  }
  const scalar = /"(?:[^"\\]|\\.)*"|[^\s",()[\]{}]+(?=[\s,)])/y;
  scalar.lastIndex = from;
  return scalar.test(text) ? scalar.lastIndex : -1;
}
