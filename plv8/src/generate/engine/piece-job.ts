/** What an engine computes in pieces between the passes of answers. */
import type { UsedModel } from '../../backend/registry.ts';
import { evaluatedTokens } from '../../backend/registry.ts';
import type { Pause } from '../../model/pause.ts';
import { newRequestFacts } from './facts.ts';
import type { LastMessage } from './messages.ts';
import type { Client } from './serving.ts';

export abstract class PieceJob {
  /** Null at its end where something else follows. */
  protected abstract readonly pieces: Generator<Pause, LastMessage | null>;
  /** Tokens that were evaluated so far. */
  protected rows = 0;

  /** `length` is about as many characters as it holds. */
  constructor(
    readonly id: number,
    readonly client: Omit<Client, 'request'>,
    readonly used: UsedModel,
    readonly length: number,
  ) {}

  /** Compute a piece; its last message, or how it pauses. */
  next(): LastMessage | Pause | null {
    const before = evaluatedTokens();
    const { value } = this.pieces.next();
    const rows = evaluatedTokens() - before;
    if (rows > 0) {
      this.rows += rows;
      this.client.send({ rows });
      this.client.note(Object.assign(newRequestFacts(), { place: 1, promptTokens: this.rows }));
    }
    return value;
  }

  close(): void {
    this.pieces.return(null);
  }
}
