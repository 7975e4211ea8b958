/** What follows a prompt, token after token: sampling, the rules that end it, and the text that may go out. */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Automaton } from './constraint/automaton.ts';
import type { Keeping } from './constraint/constraint.ts';
import { Constraint } from './constraint/constraint.ts';
import type { GenerateOptions } from './options.ts';
import { Random } from './random.ts';
import type { TokenLogprob } from './sampler.ts';
import { Sampler } from './sampler.ts';
import { StopMatcher } from './stop.ts';
import type { ThinkingFamily } from '../format/thinking-families.ts';
import type { SplitText } from './thinking.ts';
import { thinkingBegun, ThinkingSplitter } from './thinking.ts';
import type { CallPiece, ToolCall } from './tool-calls.ts';
import { ToolCallSplitter } from './tool-calls.ts';
import { Utf8Stream } from './utf8-stream.ts';

/** `cancelled` is the end of a session that was closed before its answer was complete. */
export type DoneReason = 'stop' | 'length' | 'cancelled';

export interface GeneratedToken {
  id: number;
  /** Natural logarithm of the probability the model gave it, before penalties and temperature; null when not wanted. */
  logprob: number | null;
  /** Logit the model gave it. */
  logit: number;
  /** The likeliest tokens of this step, best first, as many as option top_logprobs says. */
  topLogprobs: TokenLogprob[];
}

export interface Step {
  /** null when the model ended its answer, which takes no token */
  token: GeneratedToken | null;
  /** Text that became certain with this step: no half character, no beginning of a stop string. */
  text: string;
  /** The same of what the model thinks before it answers. */
  thinking: string;
  /** Pieces of the calls of tools that the answer makes. */
  calls: CallPiece[];
  doneReason: DoneReason | null;
}

export interface ContinuationInput {
  tokenizer: Tokenizer;
  options: GenerateOptions;
  vocabSize: number;
  promptIds: readonly number[];
  /** tokens that the context holds, prompt included */
  context: number;
  /** compute every token's log-probability */
  logprobs: boolean;
  /** markers between which the model thinks; null where nothing is taken out of the answer */
  thinking: ThinkingFamily | null;
  /** called often; may throw to cancel */
  poll: () => void;
  /** where its compiled grammar is kept, the backend's own place where nothing is said */
  keeping?: Keeping | undefined;
}

function splitterOf({ thinking, promptIds, tokenizer }: ContinuationInput): ThinkingSplitter | null {
  return thinking === null ? null : new ThinkingSplitter(thinking, thinkingBegun(tokenizer, promptIds, thinking));
}

/** Letters and digits of a call's id: as many as Mistral's templates ask for. */
const ID_LENGTH = 9;

function callSplitterOf({ options, promptIds }: ContinuationInput): ToolCallSplitter | null {
  const { constraint, sampler } = options;
  if (constraint?.kind !== 'tool_call') return null;
  // The same for an answer that is gone through again, others in the next turn of its conversation.
  const random = new Random(BigInt(sampler.seed) + (BigInt(promptIds.length) << 32n));
  const ids: string[] = [];
  return new ToolCallSplitter(constraint, (index) => {
    while (ids.length <= index)
      ids.push(random.next().toString(36).slice(2).padEnd(ID_LENGTH, '0').slice(0, ID_LENGTH));
    return ids[index]!;
  });
}

export class Continuation {
  /** Ids of prompt and answer so far. */
  readonly history: number[];
  readonly tokens: GeneratedToken[] = [];
  /** The text that went out so far. */
  text = '';
  thinking = '';
  doneReason: DoneReason | null = null;
  /** The token by which the model ended its answer. */
  ended: GeneratedToken | null = null;
  /** Tokens that may be written in all. */
  readonly budget: number;
  private readonly sampler: Sampler;
  private readonly stops: StopMatcher;
  private readonly utf8 = new Utf8Stream();
  private readonly constraint: Constraint | null;
  private readonly splitter: ThinkingSplitter | null;
  private readonly callSplitter: ToolCallSplitter | null;

  /** Throws when the answer is constrained and cannot be that short. */
  constructor(private readonly input: ContinuationInput) {
    const { constraint } = input.options;
    this.history = input.promptIds.slice();
    this.sampler = new Sampler(input.options.sampler, input.vocabSize);
    // An answer that has to be a call has no text that a stop string could end.
    this.stops = new StopMatcher(constraint?.kind === 'tool_call' && constraint.required ? [] : input.options.stop);
    this.budget = this.left;
    this.splitter = splitterOf(input);
    this.callSplitter = callSplitterOf(input);
    const { tokenizer, poll, keeping } = input;
    this.constraint = constraint === null ? null : new Constraint(tokenizer, constraint, this.budget, poll, keeping);
  }

  /** Keywords of the schema that nobody defines, with their places; they were ignored. */
  get ignoredKeywords(): readonly string[] {
    return this.constraint?.ignored ?? [];
  }

  /** What its answer is constrained by. */
  get automaton(): Automaton | null {
    return this.constraint?.automaton ?? null;
  }

  /** The calls of tools that are complete. */
  get calls(): ToolCall[] {
    return this.callSplitter?.calls ?? [];
  }

  private get writesJson(): boolean {
    const { constraint } = this.input.options;
    return constraint?.kind === 'json_object' || constraint?.kind === 'json_schema';
  }

  /** Tokens that may still be written. The last one needs no place in the context: nothing is computed after it. */
  private get left(): number {
    const { options, context } = this.input;
    const room = context + 1 - this.history.length;
    return options.numPredict < 0 ? room : Math.min(room, options.numPredict - this.tokens.length);
  }

  /** Choose the next token from the logits (vocabSize) after `history`. Not to be called once there is a doneReason. */
  next(logits: Float32Array): Step {
    const { options, tokenizer, logprobs } = this.input;
    const sampled = this.sampler.sample(logits, this.history, {
      logprob: logprobs,
      topLogprobs: options.topLogprobs,
      ...(this.constraint === null ? {} : { allowed: this.constraint.allowed(this.left) }),
    });
    const token = {
      id: sampled.id,
      logprob: sampled.logprob,
      logit: logits[sampled.id]!,
      topLogprobs: sampled.topLogprobs,
    };
    return tokenizer.isEndOfGeneration(sampled.id) ? this.endAt(token) : this.take(token);
  }

  /** Go through tokens chosen before, or elsewhere, to where `next` left off after them; their steps. */
  replay(tokens: readonly GeneratedToken[]): Step[] {
    return tokens.map((token) => {
      this.sampler.skip();
      return this.take(token);
    });
  }

  /** The model ends its answer with this token. */
  endAt(token: GeneratedToken): Step {
    this.ended = token;
    return this.end('stop', null, '');
  }

  private take(token: GeneratedToken): Step {
    this.history.push(token.id);
    this.tokens.push(token);
    const piece = this.textOf(token.id);
    // A stop string is one of the text, and none of a call's arguments.
    const text = this.callSplitter?.inCalls === true ? this.stops.flush() + piece : this.stops.push(piece);
    if (this.stops.stopped) return this.end('stop', token, text);
    if (this.constraint !== null) {
      this.constraint.advance(token.id);
      if (this.constraint.isComplete) return this.end('stop', token, text);
    }
    if (this.left <= 0) return this.end(this.constraint?.acceptsEnd === true ? 'stop' : 'length', token, text);
    return this.step(token, text);
  }

  /** Text of a token; that of a control token where it marks thinking or calls. */
  private textOf(id: number): string {
    const { tokenizer } = this.input;
    if ((this.splitter ?? this.callSplitter) !== null && tokenizer.isControl(id)) {
      const name = tokenizer.tokenText(id);
      const known = this.splitter?.waitsFor(name) === true || this.callSplitter?.knows(name) === true;
      if (known) return this.utf8.flush() + name;
    }
    return this.utf8.push(tokenizer.tokenBytes(id));
  }

  private end(reason: DoneReason, token: GeneratedToken | null, text: string): Step {
    this.doneReason = reason;
    let rest = '';
    if (!this.stops.stopped) rest = this.stops.push(this.utf8.flush());
    if (!this.stops.stopped) rest += this.stops.flush();
    return this.step(token, text + rest);
  }

  private step(token: GeneratedToken | null, text: string): Step {
    // PostgreSQL's text and jsonb hold no NUL.
    let shown = text.replaceAll('\0', '\uFFFD');
    // The space that models like to begin with is no part of JSON.
    if (this.text === '' && this.writesJson && shown.startsWith(' ')) shown = shown.slice(1);
    const split = this.split(shown);
    const { text: answer, calls } = this.takeCalls(split.text);
    this.text += answer;
    this.thinking += split.thinking;
    return { token, text: answer, thinking: split.thinking, calls, doneReason: this.doneReason };
  }

  private takeCalls(text: string): { text: string; calls: CallPiece[] } {
    if (this.callSplitter === null) return { text, calls: [] };
    const taken = this.callSplitter.push(text);
    return this.doneReason === null ? taken : { ...taken, text: taken.text + this.callSplitter.flush() };
  }

  private split(text: string): SplitText {
    if (this.splitter === null) return { thinking: '', text };
    const first = this.splitter.push(text);
    if (this.doneReason === null) return first;
    const rest = this.splitter.flush();
    return { thinking: first.thinking + rest.thinking, text: first.text + rest.text };
  }
}
