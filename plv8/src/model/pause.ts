/** Work that is done in pieces, between which others may compute. */

/** What may be computed while hidden states are being computed in pieces: see Model.hiddenStatesInPieces. */
export type Pause = 'within' | 'between';

/** What such work comes to where nobody waits in its pauses. */
export function whole<Result>(pieces: Generator<unknown, Result>): Result {
  for (;;) {
    const { done, value } = pieces.next();
    if (done === true) return value;
  }
}
