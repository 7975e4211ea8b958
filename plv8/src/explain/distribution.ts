/** Facts of a distribution given by logits, in double precision. */

export interface Distribution {
  /** Natural logarithm of the token's probability. */
  logprob: number;
  /** Place of the token, from 1; the lower id first among equals. */
  rank: number;
  /** Entropy in nats. */
  entropy: number;
  /** The most probable tokens, best first. */
  top: { id: number; probability: number }[];
}

/** Natural logarithm of a token's probability under logits (vocabSize). */
export function logprobOf(logits: Float32Array, id: number): number {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > most) most = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - most);
  return logits[id]! - most - Math.log(sum);
}

/** Of logits (vocabSize): where token `id` stands, and the first `topCount` tokens. */
export function distribution(logits: Float32Array, id: number, topCount: number): Distribution {
  let most = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > most) most = logits[i]!;
  let sum = 0;
  let weighted = 0;
  let rank = 1;
  const own = logits[id]!;
  const best: number[] = [];
  // What it takes to come among the best.
  let least = topCount > 0 ? -Infinity : Infinity;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    const weight = Math.exp(logit - most);
    sum += weight;
    weighted += weight * (logit - most);
    if (logit > own || (logit === own && i < id)) rank++;
    if (logit > least || best.length < topCount) {
      let at = best.length;
      while (at > 0 && logits[best[at - 1]!]! < logit) at--;
      best.splice(at, 0, i);
      if (best.length > topCount) best.pop();
      if (best.length === topCount) least = logits[best[topCount - 1]!]!;
    }
  }
  const logSum = Math.log(sum);
  return {
    logprob: own - most - logSum,
    rank,
    entropy: logSum - weighted / sum,
    top: best.map((i) => ({ id: i, probability: Math.exp(logits[i]! - most) / sum })),
  };
}
