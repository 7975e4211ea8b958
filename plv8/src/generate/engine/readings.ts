/**
 * Texts that an engine reads, and does not answer or not yet. They are computed in pieces between the
 * passes of answers, one request after the other, those of different roles by turns.
 */
import type { EngineHost } from '../../db.ts';
import { TookTooLong } from '../../db.ts';
import type { Model } from '../../model/model.ts';
import type { EngineFacts } from './facts.ts';
import { failure } from './messages.ts';
import type { PieceJob } from './piece-job.ts';
import { Turns } from './turns.ts';

/** Characters of all texts that wait or are read. */
const MAX_LENGTH = 4_000_000;

/** The requests of an engine that are read. */
export class Readings {
  /** Whose turn is next first; the first one may stand within its texts. */
  private waiting: PieceJob[] = [];
  private isWithin = false;
  private readonly turns = new Turns();

  constructor(private readonly facts: EngineFacts) {}

  get size(): number {
    return this.waiting.length;
  }

  uses(model: Model): boolean {
    return this.waiting.some(({ used }) => used.entry.model === model);
  }

  /** Throws TookTooLong where there is so much that its turn would come late. */
  add(job: PieceJob): void {
    const length = this.waiting.reduce((sum, other) => sum + other.length, job.length);
    if (length > MAX_LENGTH) throw new TookTooLong('too many texts wait');
    this.waiting.push(job);
  }

  /** Let go of requests that nobody waits for any more; those are told nothing. */
  letGo(host: EngineHost): void {
    for (const job of this.waiting.filter(({ id }) => host.gone(id))) {
      this.leave(job);
      host.finish(job.id);
    }
  }

  /** Compute pieces until this time, one at least where there is any. */
  run(until: number): void {
    do {
      if (this.waiting.length === 0) return;
      if (!this.isWithin) this.turn();
      this.step(this.waiting[0]!);
    } while (Date.now() < until);
  }

  /** Bring the one whose turn it is to the front. */
  private turn(): void {
    this.waiting.unshift(this.turns.take(this.waiting, ({ client }) => client));
  }

  private step(job: PieceJob): void {
    const { client } = job;
    try {
      const came = job.next();
      if (came === null) {
        this.leave(job);
        return;
      }
      if (typeof came !== 'string') {
        this.leave(job);
        this.facts.answers++;
        client.reply(came);
        return;
      }
      this.isWithin = came === 'within';
      if (!this.isWithin && this.waiting.length > 1) this.waiting.push(this.waiting.shift()!);
    } catch (error) {
      this.leave(job);
      client.reply(failure(error));
    }
  }

  private leave(job: PieceJob): void {
    if (this.waiting[0] === job) this.isWithin = false;
    this.waiting = this.waiting.filter((other) => other !== job);
    job.close();
  }
}
