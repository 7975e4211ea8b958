import progress from 'cli-progress';
import { formatBytes, formatTime, tell } from '../output.ts';

/** Milliseconds between two lines where no terminal is. */
const LINE_MS = 10_000;
/** Columns of a bar, where the terminal is wide enough. */
const BAR_COLUMNS = 40;

/** How far a phase is, in bytes on stderr with their rate and the time left: a bar on a terminal, else a line now and then. */
export class ProgressReport {
  private phase: string | null = null;
  private bar: progress.SingleBar | null = null;
  private done = 0;
  private total = 0;
  private startedAt = 0;
  /** What was done when the phase began. */
  private from = 0;
  private toldAt = 0;

  show(phase: string, done: number, total: number): void {
    // One that goes back, or beyond its end, has begun with another file.
    const begins = phase !== this.phase || done < this.done || (total !== this.total && this.done === this.total);
    if (begins) this.begin(phase, done, total);
    this.done = done;
    this.total = total;
    if (this.bar !== null) {
      this.bar.setTotal(total);
      this.bar.update(done);
    } else if (!process.stderr.isTTY && (begins || performance.now() - this.toldAt >= LINE_MS)) {
      this.toldAt = performance.now();
      tell(`${phase}: ${this.text(done, total)}\n`);
    }
  }

  stop(): void {
    this.bar?.stop();
    this.bar = null;
    this.phase = null;
  }

  private begin(phase: string, done: number, total: number): void {
    this.stop();
    this.phase = phase;
    this.from = done;
    this.startedAt = performance.now();
    if (!process.stderr.isTTY) return;
    this.bar = new progress.SingleBar({
      format: (options, { progress: share, value, total: all }) => {
        const text = `${Math.floor(share * 100)} %  ${this.text(value, all)}`;
        const room = process.stderr.columns - phase.length - text.length - 4;
        const bar = progress.Format.BarFormat(share, { ...options, barsize: Math.max(0, Math.min(BAR_COLUMNS, room)) });
        return [phase, ...(bar === '' ? [] : [bar]), text].join(' ');
      },
      stream: process.stderr,
      hideCursor: true,
    });
    this.bar.start(total, done);
  }

  /** 58.3 MB of 138.5 MB, 12.1 MB/s, 7 s left */
  private text(done: number, total: number): string {
    const seconds = (performance.now() - this.startedAt) / 1000;
    const rate = (done - this.from) / seconds;
    const parts = [`${formatBytes(Math.round(done))} of ${formatBytes(total)}`];
    if (rate > 0) parts.push(`${formatBytes(Math.round(rate))}/s`, `${formatTime((total - done) / rate)} left`);
    return parts.join(', ');
  }
}
