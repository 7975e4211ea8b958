/** Lines from the person at the terminal, or from a pipe; Ctrl-C while an answer is being written. */
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import { visible } from '../../plv8/src/format/visible-text.ts';

const HISTORY_LINES = 1000;
const PRIVATE_FILE = 0o600;
const PRIVATE_FOLDER = 0o700;

/** What reading a line came to: a line, Ctrl-C at the prompt, or the end of input. */
export type Input = { line: string } | 'interrupt' | 'end';

export class Terminal {
  /** Whether a person types here. */
  readonly interactive = process.stdin.isTTY === true;
  saveHistory = true;
  private readonly lines: Interface;
  /** Prompts go where the person looks: not into a file that takes the answers. */
  private readonly screen: NodeJS.WriteStream | undefined;
  private readonly queue: Input[] = [];
  private waiting: ((input: Input) => void) | null = null;
  private ended = false;

  constructor(private readonly historyFile: string) {
    const { stdin, stdout, stderr } = process;
    this.screen = this.interactive ? (stdout.isTTY ? stdout : stderr) : undefined;
    this.lines = createInterface({
      input: stdin,
      ...(this.screen === undefined ? {} : { output: this.screen }),
      terminal: this.interactive && this.screen?.isTTY === true,
      historySize: HISTORY_LINES,
      history: this.interactive ? this.readHistory() : [],
    });
    this.lines.on('line', (line) => this.deliver({ line }));
    this.lines.on('SIGINT', () => {
      this.lines.write(null, { ctrl: true, name: 'e' });
      this.lines.write(null, { ctrl: true, name: 'u' });
      this.tell('\n');
      this.deliver('interrupt');
    });
    this.lines.on('close', () => {
      this.ended = true;
      this.deliver('end');
    });
    this.lines.pause();
  }

  /** The next line, after showing `prompt`. Lines that were pasted or piped in together come one after another. */
  async read(prompt: string): Promise<Input> {
    const next = this.queue.shift();
    if (next !== undefined) return next;
    if (this.ended) return 'end';
    if (this.interactive) {
      this.lines.setPrompt(prompt);
      this.lines.prompt();
    } else {
      this.lines.resume();
    }
    const input = await new Promise<Input>((resolve) => (this.waiting = resolve));
    if (!this.ended) this.lines.pause();
    if (typeof input === 'object') this.remember(input.line);
    return input;
  }

  /**
   * Run `body` with a signal that Ctrl-C aborts. The terminal leaves raw mode meanwhile, so that Ctrl-C is a signal
   * and what is typed waits for the next prompt.
   */
  async interruptible<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const onInterrupt = (): void => controller.abort();
    process.on('SIGINT', onInterrupt);
    this.rawMode(false);
    try {
      return await body(controller.signal);
    } finally {
      this.rawMode(true);
      process.off('SIGINT', onInterrupt);
    }
  }

  /** Write to the person, not to what collects the answers. */
  tell(text: string): void {
    (this.screen ?? process.stderr).write(visible(text));
  }

  close(): void {
    this.ended = true;
    this.lines.close();
  }

  private rawMode(on: boolean): void {
    if (this.lines.terminal && !this.ended) process.stdin.setRawMode(on);
  }

  private deliver(input: Input): void {
    const { waiting } = this;
    this.waiting = null;
    if (waiting === null) this.queue.push(input);
    else waiting(input);
  }

  /** Latest line first, as readline wants it. */
  private readHistory(): string[] {
    try {
      return readFileSync(this.historyFile, 'utf8').split('\n').filter(Boolean).slice(-HISTORY_LINES).reverse();
    } catch {
      return [];
    }
  }

  private remember(line: string): void {
    if (!this.interactive || !this.saveHistory || line.trim() === '') return;
    try {
      mkdirSync(dirname(this.historyFile), { recursive: true, mode: PRIVATE_FOLDER });
      appendFileSync(this.historyFile, `${line}\n`, { mode: PRIVATE_FILE });
    } catch {
      // A home that cannot be written to keeps nobody from chatting.
      this.saveHistory = false;
    }
  }
}
