/** Facts of a distribution given by logits (vocabSize), in double precision. */
import { logTotal, selectTop } from '../sampling/logits.ts';

export interface Distribution {
  /** Natural logarithm of the token's probability. */
  logprob: number;
  /** Place of the token, from 1; the lower id first among equals. */
  rank: number;
  /** The most probable tokens, best first. */
  top: { id: number; probability: number }[];
}

/** Natural logarithm of a token's probability. */
export function logprobOf(logits: Float32Array, id: number): number {
  return logits[id]! - logTotal(logits);
}

/** Place of a token, from 1; the lower id first among equals. */
export function rankOf(logits: Float32Array, id: number): number {
  const own = logits[id]!;
  let rank = 1;
  for (let i = 0; i < id; i++) if (logits[i]! >= own) rank++;
  for (let i = id + 1; i < logits.length; i++) if (logits[i]! > own) rank++;
  return rank;
}

/** In nats. */
export function entropyOf(logits: Float32Array): number {
  const total = logTotal(logits);
  let entropy = 0;
  for (let i = 0; i < logits.length; i++) {
    const logprob = logits[i]! - total;
    // A token without any probability adds nothing.
    if (logprob > -Infinity) entropy -= Math.exp(logprob) * logprob;
  }
  return entropy;
}

/** Where token `id` stands, and the first `topCount` tokens. */
export function distribution(logits: Float32Array, id: number, topCount: number): Distribution {
  const total = logTotal(logits);
  const top = new Int32Array(Math.min(topCount, logits.length));
  if (top.length > 0) selectTop(logits, top.length, top);
  return {
    logprob: logits[id]! - total,
    rank: rankOf(logits, id),
    top: Array.from(top, (each) => ({ id: each, probability: Math.exp(logits[each]! - total) })),
  };
}
