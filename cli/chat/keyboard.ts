/** The keys of a person at a terminal, on their way to readline: during an answer they wait, and Ctrl-C stops it. */
import { PassThrough } from 'node:stream';
import type { ReadStream } from 'node:tty';

const CTRL_C = 0x03;

/** What else is to be done where the terminal is left to others for a while, and when it is back. */
export interface Neighbour {
  leave(): void;
  back(): void;
}

/** Keys that come together and are handed on one by one, which takes a time that is quadratic in a line's length. */
const MOST_ONE_BY_ONE = 4096;
/** What a terminal that is not raw makes of these keys. */
const SIGNALS: ReadonlyMap<number, NodeJS.Signals> = new Map([
  [0x1a, 'SIGTSTP'],
  [0x1c, 'SIGQUIT'],
]);

export class Keyboard {
  /** What readline reads. */
  readonly stream = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (on: boolean) => void this.terminal.setRawMode(on),
  });
  private onInterrupt: (() => void) | null = null;
  private waiting: Buffer[] = [];

  constructor(
    private readonly terminal: ReadStream,
    private readonly neighbour: Neighbour,
  ) {
    terminal.on('data', (keys: Buffer) => this.take(keys));
    process.on('SIGCONT', this.back);
    for (const end of ['end', 'error']) terminal.once(end, () => this.stream.end());
  }

  /** From here on keys wait and are not shown; Ctrl-C is none of them. */
  hold(onInterrupt: () => void): void {
    this.onInterrupt = onInterrupt;
  }

  /** Hand over what was typed meanwhile. */
  release(): void {
    this.onInterrupt = null;
    for (const keys of this.waiting.splice(0)) this.give(keys);
  }

  close(): void {
    process.off('SIGCONT', this.back);
    this.terminal.pause();
  }

  /** End or pause the program as the terminal would, which is raw again when the program goes on. */
  leave(signal: NodeJS.Signals): void {
    this.neighbour.leave();
    this.terminal.setRawMode(false);
    process.kill(process.pid, signal);
  }

  private take(keys: Buffer): void {
    if (this.onInterrupt === null) {
      this.give(keys);
      return;
    }
    if (keys.includes(CTRL_C)) this.onInterrupt();
    for (const [key, signal] of SIGNALS) if (keys.includes(key)) this.leave(signal);
    this.waiting.push(keys.filter((key) => key !== CTRL_C && !SIGNALS.has(key)) as Buffer);
  }

  /** One by one: of several at once readline does not count the rows they take, and shows a long line twice. */
  private give(keys: Buffer): void {
    if (keys.length > MOST_ONE_BY_ONE) this.stream.write(keys);
    else for (const key of keys) this.stream.write(Buffer.of(key));
  }

  /** The shell had the terminal and made of it what it wanted. */
  private readonly back = (): void => {
    this.terminal.setRawMode(false);
    this.terminal.setRawMode(true);
    this.neighbour.back();
  };
}
