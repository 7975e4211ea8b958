import { SingleBar } from 'cli-progress';
import { tell } from '../output.ts';

/** Progress on stderr: bars on a terminal, else one line a phase. */
export class ProgressReport {
  private phase: string | null = null;
  private bar: SingleBar | null = null;

  show(phase: string, done: number, total: number): void {
    if (phase !== this.phase) {
      this.stop();
      this.phase = phase;
      if (!process.stderr.isTTY) tell(`${phase}\n`);
      else {
        this.bar = new SingleBar({
          format: `${phase.padEnd(14)} {bar} {percentage}%`,
          stream: process.stderr,
          hideCursor: true,
        });
        this.bar.start(total, done);
      }
    }
    this.bar?.update(done);
  }

  stop(): void {
    this.bar?.stop();
    this.bar = null;
  }
}
