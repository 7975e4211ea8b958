/** Lines from the person at the terminal, or from a pipe; Ctrl-C while an answer is being written. */
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Interface, Key } from 'node:readline';
import { visible } from '../../plv8/src/format/visible-text.ts';
import { Keyboard } from './keyboard.ts';

const HISTORY_LINES = 1000;
const PRIVATE_FILE = 0o600;
const PRIVATE_FOLDER = 0o700;

/** Have the terminal mark what is pasted (xterm's bracketed paste), and no longer. */
const MARK_PASTES = '\x1b[?2004h';
const LEAVE_PASTES = '\x1b[?2004l';

/** Stands in the file of history for a line's end within a prompt; readline ends a line at it, so that no prompt has one. */
const LINE_WITHIN = '\u2028';

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
  /** Ctrl-C since the latest line, before anything was there to be stopped. */
  private interrupted = false;
  /** Where lines are edited: keys come one by one. */
  private readonly keyboard: Keyboard | null;
  /** Lines so far of what is pasted; it is one prompt. */
  private pasted: string[] = [];
  private pasting = false;
  private readonly marksPastes: boolean;
  /** Prompts of before, latest first, and readline's list of them. */
  private past: string[];
  private listed: string[] = [];

  constructor(private readonly historyFile: string) {
    const { stdin, stdout, stderr } = process;
    this.screen = this.interactive ? (stdout.isTTY ? stdout : stderr) : undefined;
    this.keyboard =
      this.screen?.isTTY === true ? new Keyboard(stdin, { leave: () => this.leave(), back: () => this.back() }) : null;
    this.marksPastes = this.keyboard !== null && process.env.TERM !== 'dumb';
    this.past = this.interactive ? this.readHistory() : [];
    this.lines = createInterface({
      input: this.keyboard?.stream ?? stdin,
      ...(this.screen === undefined ? {} : { output: this.screen }),
      terminal: this.keyboard !== null,
      historySize: HISTORY_LINES,
      history: [...this.past],
    });
    if (this.marksPastes) this.markPastes(this.keyboard!);
    if (this.keyboard !== null) this.lines.on('SIGTSTP', () => this.keyboard!.leave('SIGTSTP'));
    this.lines.on('history', (history) => this.list(history));
    this.lines.on('line', (line) => this.take(line));
    this.lines.on('SIGINT', () => {
      this.pasted = [];
      // Nobody waits where the line before has just ended: it is what Ctrl-C is to stop, and no prompt is due yet.
      this.interrupted = this.waiting === null;
      if (this.interrupted) this.lines.setPrompt('');
      this.lines.write(null, { ctrl: true, name: 'e' });
      this.lines.write(null, { ctrl: true, name: 'u' });
      if (this.interrupted) return;
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
    this.interrupted = false;
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

  /** Run `body` with a signal that Ctrl-C aborts. What is typed meanwhile waits for the next prompt. */
  async interruptible<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const onInterrupt = (): void => controller.abort();
    if (this.interrupted) onInterrupt();
    process.on('SIGINT', onInterrupt);
    this.keyboard?.hold(onInterrupt);
    try {
      return await body(controller.signal);
    } finally {
      this.keyboard?.release();
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
    this.keyboard?.close();
  }

  private markPastes({ stream }: Keyboard): void {
    this.screen?.write(MARK_PASTES);
    process.once('exit', () => this.leave());
    process.once('SIGTERM', (signal) => {
      this.leave();
      process.kill(process.pid, signal);
    });
    stream.on('keypress', (_text, { name }: Key) => {
      if (name === 'paste-start' || name === 'paste-end') this.pasting = name === 'paste-start';
    });
  }

  /** Leave the terminal to others as it was. */
  private leave(): void {
    if (this.marksPastes) this.screen?.write(LEAVE_PASTES);
  }

  /** Show the line again, below what others wrote meanwhile. */
  private back(): void {
    if (this.marksPastes) this.screen?.write(MARK_PASTES);
    if (this.waiting === null) return;
    this.screen?.write('\n'.repeat(this.lines.getCursorPos().rows));
    this.lines.prompt(true);
  }

  /** readline has put a line in front of its list: one of a paste is none of its own there. */
  private list(history: string[]): void {
    this.listed = history;
    if (this.pasting || this.pasted.length > 0) history.splice(0, history.length, ...this.past);
    else this.past = [...history];
  }

  /** A line has ended; within what is pasted it is a part of one. */
  private take(line: string): void {
    this.pasted.push(line);
    if (this.pasting) {
      this.lines.setPrompt('... ');
      this.lines.prompt();
      return;
    }
    const lines = this.pasted.splice(0);
    const several = lines.length > 1;
    // What is pasted often ends with a line's end.
    if (several && lines.at(-1) === '') lines.pop();
    const prompt = lines.join('\n');
    if (several && prompt.trim() !== '') {
      this.past = [prompt, ...this.past].slice(0, HISTORY_LINES);
      this.listed.splice(0, this.listed.length, ...this.past);
    }
    this.deliver({ line: prompt });
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
      const lines = readFileSync(this.historyFile, 'utf8').split('\n').filter(Boolean).slice(-HISTORY_LINES);
      return lines.reverse().map((line) => line.replaceAll(LINE_WITHIN, '\n'));
    } catch {
      return [];
    }
  }

  private remember(line: string): void {
    if (!this.interactive || !this.saveHistory || line.trim() === '') return;
    try {
      mkdirSync(dirname(this.historyFile), { recursive: true, mode: PRIVATE_FOLDER });
      appendFileSync(this.historyFile, `${line.replaceAll('\n', LINE_WITHIN)}\n`, { mode: PRIVATE_FILE });
    } catch {
      // A home that cannot be written to keeps nobody from chatting.
      this.saveHistory = false;
    }
  }
}
