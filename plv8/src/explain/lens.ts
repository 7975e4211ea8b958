/**
 * Logit lens: the residual stream after each layer, read through the final norm and the output matrix as if the model
 * ended there (nostalgebraist 2020, "interpreting GPT: the logit lens").
 */
import type { Model } from '../model/model.ts';
import type { Captured } from './capture.ts';
import { distribution } from './distribution.ts';

const TOP = 5;

export interface LensRow {
  /** After this layer, from 0; -1 for the embedding. */
  layer: number;
  /** Place of the token, from 1. */
  rank: number;
  probability: number;
  /** The first five tokens and their probabilities. */
  topIds: number[];
  topProbabilities: number[];
  /** The token is first here and in every layer above. */
  staysFirst: boolean;
}

export function lensOf(model: Model, captured: Captured, id: number, poll: () => void): LensRow[] {
  const rows: LensRow[] = [];
  model.unembedEach(captured.residuals, poll, (i, logits) => {
    const found = distribution(logits, id, TOP);
    rows.push({
      layer: i - 1,
      rank: found.rank,
      probability: Math.exp(found.logprob),
      topIds: found.top.map((one) => one.id),
      topProbabilities: found.top.map((one) => one.probability),
      staysFirst: false,
    });
    poll();
  });
  for (let i = rows.length - 1; i >= 0 && rows[i]!.rank === 1; i--) rows[i]!.staysFirst = true;
  return rows;
}
