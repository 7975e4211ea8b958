/**
 * Chat templates: the model's own Jinja text, rendered as transformers' apply_chat_template does. A template comes from
 * a file somebody downloaded, so its size, its output and its steps are bounded.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import { utf8Length } from '../format/utf8.ts';
import { formatDate } from './format-date.ts';

/** Bytes of a template; the longest published ones have about 20 kB. */
const MAX_TEMPLATE_BYTES = 256 * 1024;

/** Characters of any text a template makes. */
const MAX_OUTPUT_LENGTH = 4 * 1024 * 1024;

/** Elements of one range(). */
const MAX_RANGE = 100_000;

/**
 * Evaluated nodes, plus what they made, STEP_SIZE characters or list elements a step. A long conversation takes some ten
 * thousand; a step takes up to five microseconds.
 */
const MAX_STEPS = 250_000;
const STEP_SIZE = 64;

/** Calls within calls; V8's stack ends far beyond. */
const MAX_DEPTH = 400;

/** Steps between two polls. */
const POLL_STRIDE = 1024;

/** Parsed templates remembered; forgotten all together when full. */
const MAX_CACHED = 8;

export interface ChatMessage {
  role: string;
  content: string;
  /** everything else the caller gave, which a template may read: name, tool_calls ... */
  [field: string]: unknown;
}

export interface ChatInput {
  messages: readonly ChatMessage[];
  /** end with the beginning of an assistant turn */
  addGenerationPrompt: boolean;
  bosToken: string;
  eosToken: string;
  tools?: unknown[];
  now?: Date;
  /** called often; may throw to cancel */
  poll?: () => void;
}

type Program = ReturnType<typeof parse>;

const parsed = new Map<string, Program>();

/** Text of a conversation. Throws invalidParameterValue with the template's own words when it refuses the messages. */
export function renderChat(template: string, input: ChatInput): string {
  const program = parseTemplate(template);
  const environment = new Environment();
  const define = (name: string, value: unknown): void => {
    environment.set(name, value);
  };
  for (const name of ['true', 'True']) define(name, true);
  for (const name of ['false', 'False']) define(name, false);
  for (const name of ['none', 'None']) define(name, null);
  define('raise_exception', (message: unknown) =>
    raise(SQLSTATE.invalidParameterValue, `chat template refuses the messages: ${oneLine(message)}`),
  );
  define('range', boundedRange);
  define('strftime_now', (format: unknown) => formatDate(input.now ?? new Date(), String(format)));
  define('messages', input.messages);
  define('add_generation_prompt', input.addGenerationPrompt);
  define('bos_token', input.bosToken);
  define('eos_token', input.eosToken);
  // As transformers has it: there, and none where none were given.
  define('tools', input.tools ?? null);
  define('documents', null);
  try {
    const result = new BoundedInterpreter(environment, input.poll ?? ((): void => undefined)).run(program);
    return String(result.value);
  } catch (error) {
    // Only what the template itself did is reported as the template's fault; a cancel goes on as it is.
    if (error instanceof HartonomousError || !(error instanceof Error) || 'sqlerrcode' in error) throw error;
    if (error instanceof PollError) throw error.cause;
    raise(SQLSTATE.invalidParameterValue, `chat template failed: ${oneLine(error.message)}`, { cause: error });
  }
}

/** What poll() threw, carried through the interpreter untouched. */
class PollError extends Error {}

class BoundedInterpreter extends Interpreter {
  private steps = 0;
  private pollAt = POLL_STRIDE;
  private depth = 0;

  constructor(
    environment: Environment,
    private readonly poll: () => void,
  ) {
    super(environment);
  }

  override evaluate(...args: Parameters<Interpreter['evaluate']>): ReturnType<Interpreter['evaluate']> {
    this.charge(1);
    giveBody(args[0]);
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `chat template nests deeper than ${MAX_DEPTH} levels`);
    }
    const result = super.evaluate(...args);
    this.depth--;
    const { value } = result as { value: unknown };
    const size = typeof value === 'string' || Array.isArray(value) ? value.length : 0;
    if (size > MAX_OUTPUT_LENGTH) {
      raise(SQLSTATE.programLimitExceeded, `chat template makes more than ${MAX_OUTPUT_LENGTH} characters`);
    }
    this.charge(size / STEP_SIZE);
    return result;
  }

  private charge(steps: number): void {
    this.steps += steps;
    if (this.steps < this.pollAt) return;
    this.pollAt = this.steps + POLL_STRIDE;
    if (this.steps > MAX_STEPS)
      raise(SQLSTATE.programLimitExceeded, `chat template takes more than ${MAX_STEPS} steps`);
    this.interrupt();
  }

  private interrupt(): void {
    try {
      this.poll();
    } catch (error) {
      throw new PollError('cancelled', { cause: error });
    }
  }
}

/** A loop without a body would run without a step that counts, so it gets an empty text. */
function giveBody(node: Parameters<Interpreter['evaluate']>[0]): void {
  if (node?.type !== 'For') return;
  const { body } = node as unknown as { body: { type: string; value?: string }[] };
  if (body.length === 0) body.push({ type: 'StringLiteral', value: '' });
}

function parseTemplate(template: string): Program {
  const known = parsed.get(template);
  if (known !== undefined) return known;
  const bytes = utf8Length(template);
  if (bytes > MAX_TEMPLATE_BYTES) {
    raise(SQLSTATE.programLimitExceeded, `chat template has ${bytes} bytes, at most ${MAX_TEMPLATE_BYTES} are read`);
  }
  let program: Program;
  try {
    // As transformers sets Jinja up: the line break after a block and the blanks before it are not part of the text.
    program = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }));
  } catch (error) {
    // The parser reads beyond the last token of a template that is cut off.
    const words =
      error instanceof TypeError ? 'it ends too soon' : error instanceof Error ? error.message : String(error);
    raise(SQLSTATE.invalidParameterValue, `chat template is not valid: ${oneLine(words)}`, { cause: error });
  }
  if (parsed.size >= MAX_CACHED) parsed.clear();
  parsed.set(template, program);
  return program;
}

function boundedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = typeof stop === 'number' ? [start, stop] : [0, start];
  if (step === 0) raise(SQLSTATE.invalidParameterValue, 'chat template calls range with step 0');
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= MAX_RANGE)) {
    raise(SQLSTATE.programLimitExceeded, `chat template asks for a range of ${count}, at most ${MAX_RANGE} are made`);
  }
  return Array.from({ length: count }, (_, i) => from + i * step);
}

/** First line of a message, cut to what an error line can hold. */
function oneLine(message: unknown): string {
  return String(message).replace(/\s+/g, ' ').trim().slice(0, 300);
}
