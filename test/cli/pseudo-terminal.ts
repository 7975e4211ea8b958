/** The built program under a real pseudo-terminal, and a terminal emulator that shows what a person would see. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import xterm from '@xterm/headless';
import { packageRoot } from '../../cli/package-root.ts';

const DRIVER = join(dirname(fileURLToPath(import.meta.url)), 'pseudo-terminal.py');
const PROGRAM = join(packageRoot(), 'dist/cli/main.js');
/** Hang guard for what a test waits for. */
const TIMEOUT_MS = 60_000;

export const CTRL_C = '\x03';
export const CTRL_D = '\x04';
export const CTRL_Z = '\x1a';
export const UP = '\x1b[A';
export const ENTER = '\r';

export interface PseudoTerminalOptions {
  url: string;
  env?: Record<string, string>;
  columns?: number;
  rows?: number;
  /** Shell text that runs the program, which is "$@" there: `exec "$@" > FILE`. */
  shell?: string;
}

export class PseudoTerminal {
  /** Everything the program wrote, escape sequences and all. */
  raw = '';
  private readonly emulator: xterm.Terminal;
  private readonly driver: ChildProcess;
  private readonly ended: Promise<unknown>;

  constructor(args: string[], options: PseudoTerminalOptions) {
    const { columns = 80, rows = 24 } = options;
    this.emulator = new xterm.Terminal({ cols: columns, rows, scrollback: 10_000, allowProposedApi: true });
    const words = [process.execPath, PROGRAM, ...args];
    const command = options.shell === undefined ? words : ['sh', '-c', options.shell, 'sh', ...words];
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      TERM: 'xterm-256color',
      ...options.env,
      DATABASE_URL: options.url,
    };
    for (const name of ['NO_COLOR', 'FORCE_COLOR', 'CI']) if (options.env?.[name] === undefined) delete env[name];
    this.driver = spawn('python3', [DRIVER, String(columns), String(rows), ...command], {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.driver.stdin!.on('error', () => undefined);
    this.driver.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.raw += text;
      this.emulator.write(text);
    });
    this.ended = once(this.driver, 'close');
  }

  /** Type a text. */
  type(text: string): void {
    this.send({ write: text });
  }

  resize(columns: number, rows: number): void {
    // A window of 0 columns is one whose size nobody knows.
    if (columns > 0) this.emulator.resize(columns, rows);
    this.send({ resize: [columns, rows] });
  }

  /** Have the program ended by SIGTERM. */
  kill(): void {
    this.send({ kill: 15 });
  }

  /** Lines on screen and above it, without the blanks at their ends. */
  lines(): string[] {
    const buffer = this.emulator.buffer.active;
    const lines = Array.from({ length: buffer.length }, (_, y) => buffer.getLine(y)!.translateToString(true));
    while (lines.at(-1) === '') lines.pop();
    return lines;
  }

  screen(): string {
    return this.lines().join('\n');
  }

  /** Escape sequences that set a colour or a style. */
  colours(): string[] {
    return this.raw.split('\x1b[').filter((rest) => /^[\d;]*m/.test(rest));
  }

  /** Wait until the screen holds `expected`; throws with the screen when it never does. */
  async see(expected: string | RegExp): Promise<void> {
    const until = Date.now() + TIMEOUT_MS;
    for (;;) {
      const screen = this.screen();
      if (typeof expected === 'string' ? screen.includes(expected) : expected.test(screen)) return;
      if (Date.now() > until || this.driver.exitCode !== null) {
        throw new Error(`never saw ${String(expected)} on this screen:\n${screen}`);
      }
      await sleep(10);
    }
  }

  /** Type a line and wait for the prompt after it; the lines in between. */
  async ask(line: string): Promise<string> {
    const before = this.lines().length;
    const prompts = this.prompts();
    this.type(line + ENTER);
    await this.prompt(prompts + 1);
    return this.lines().slice(before, -1).join('\n').trim();
  }

  /** Wait until the prompt stands there for the nth time, ready for input. */
  async prompt(nth = 1): Promise<void> {
    const until = Date.now() + TIMEOUT_MS;
    while (this.prompts() < nth || !/^>>> ?$/.test(this.lines().at(-1) ?? '')) {
      if (Date.now() > until || this.driver.exitCode !== null) {
        throw new Error(`prompt ${nth} never came on this screen:\n${this.screen()}`);
      }
      await sleep(10);
    }
  }

  prompts(): number {
    return this.lines().filter((line) => line.startsWith('>>>')).length;
  }

  /** Wait for the program's end; its exit code. */
  async end(): Promise<number | null> {
    const guard = setTimeout(() => this.driver.kill('SIGTERM'), TIMEOUT_MS);
    await this.ended;
    clearTimeout(guard);
    return this.driver.exitCode;
  }

  private send(job: object): void {
    this.driver.stdin!.write(`${JSON.stringify(job)}\n`);
  }
}
