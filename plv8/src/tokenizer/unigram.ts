/**
 * SentencePiece's unigram model (Kudo, 2018): of all ways to cut a text into pieces the one with the highest sum of
 * scores, found from left to right.
 */
import { PieceTrie } from './piece-trie.ts';

/** How much worse than the worst piece a character is that no piece covers. */
const UNKNOWN_PENALTY = 10;

/** Characters between two polls. */
const POLL_STRIDE = 4096;

export class UnigramEncoder {
  private readonly trie = new PieceTrie();
  private readonly unknownScore: number;

  /** Pieces whose score is NaN are none; ones that are always taken (user-defined) have 0. */
  constructor(
    tokens: readonly string[],
    private readonly scores: ArrayLike<number>,
    private readonly unknownId: number,
  ) {
    let worst = Infinity;
    tokens.forEach((text, id) => {
      const score = scores[id]!;
      if (Number.isNaN(score)) return;
      this.trie.add(text, id);
      if (score !== 0) worst = Math.min(worst, score);
    });
    this.unknownScore = Math.fround((worst === Infinity ? 0 : worst) - UNKNOWN_PENALTY);
  }

  /** Append the ids of `text`, which is normalised and has its spaces marked; no lone surrogates. */
  encode(text: string, out: number[], poll: () => void): void {
    const n = text.length;
    const best = new Float64Array(n + 1).fill(-Infinity); // best sum of scores up to each place
    const starts = new Int32Array(n + 1); // where the last piece of that way begins
    const ids = new Int32Array(n + 1);
    best[0] = 0;
    let steps = 0;
    for (let at = 0; at < n;) {
      if (++steps % POLL_STRIDE === 0) poll();
      const size = text.codePointAt(at)! > 0xffff ? 2 : 1;
      const here = best[at]!;
      let whole = false;
      const offer = (id: number, end: number, score: number): void => {
        if (here + score <= best[end]!) return;
        best[end] = here + score;
        starts[end] = at;
        ids[end] = id;
      };
      this.trie.eachPiece(text, at, (id, end) => {
        if (end === at + size) whole = true;
        offer(id, end, this.scores[id]!);
      });
      if (!whole) offer(this.unknownId, at + size, this.unknownScore);
      at += size;
    }
    const found: number[] = [];
    for (let end = n; end > 0; end = starts[end]!) {
      // Neighbouring unknown characters are one unknown token.
      if (ids[end] === this.unknownId && found[found.length - 1] === this.unknownId) continue;
      found.push(ids[end]!);
    }
    for (let i = found.length - 1; i >= 0; i--) out.push(found[i]!);
  }
}
