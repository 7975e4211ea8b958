/** What the sampler did with the most likely tokens, by running it again on the replayed logits. */
import { Constraint } from '../sampling/constraint/constraint.ts';
import type { CandidateTrace, SamplerOptions } from '../sampling/sampler.ts';
import { Sampler } from '../sampling/sampler.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { entropyOf, logprobOf, rankOf } from './distribution.ts';
import type { RecordedRun } from './recorded-run.ts';

/** Candidates shown. */
const TOP = 20;

export interface Candidate extends CandidateTrace {
  /** Place among the logits of the model, from 1. */
  rank: number;
  /** Probability that the model gave it, before the sampler. */
  modelProbability: number;
  chosen: boolean;
}

export interface SampledStep {
  candidates: Candidate[];
  /** The uniform number that decided; null at temperature 0. */
  draw: number | null;
  /** The sampler chooses the recorded token again. */
  reproduced: boolean;
  /** Of the model's distribution, in nats. */
  entropy: number;
  logprob: number;
  choice: Choice;
  /** Logits (vocabSize) after bias and penalties. */
  penalised: Float32Array;
}

/** Tokens that stand before the chosen one for one reason, and the likeliest of them. */
export interface Ahead {
  count: number;
  first: number | null;
}

/** How the chosen token came before the others. */
export interface Choice {
  /** The other token with the highest logit after bias and penalties among the allowed ones; null where no other was. */
  runnerUp: number | null;
  /** Tokens that the constraint allowed, the chosen one included; null where there was none. */
  allowed: number | null;
  /** Those that would be ahead of it but that the constraint forbade them. */
  forbidden: Ahead;
  /** Those that the model found likelier, and that bias or penalties put behind it. */
  overtaken: Ahead;
  /** Those that are ahead of it all the same: the draw did not fall on them. */
  passedOver: Ahead;
}

/** Of logits (vocabSize) and what bias and penalties made of them. */
function choiceOf(logits: Float32Array, penalised: Float32Array, chosen: number, allowed: Uint32Array | null): Choice {
  const own = penalised[chosen]!;
  const forbidden: Ahead = { count: 0, first: null };
  const overtaken: Ahead = { count: 0, first: null };
  const passedOver: Ahead = { count: 0, first: null };
  const count = (ahead: Ahead, id: number): void => {
    ahead.count++;
    if (ahead.first === null || logits[id]! > logits[ahead.first]!) ahead.first = id;
  };
  let runnerUp: number | null = null;
  let others = 0;
  for (let id = 0; id < logits.length; id++) {
    if (id === chosen) continue;
    if (allowed !== null && (((allowed[id >>> 5] ?? 0) >>> (id & 31)) & 1) === 0) {
      if (penalised[id]! > own) count(forbidden, id);
      continue;
    }
    others++;
    if (runnerUp === null || penalised[id]! > penalised[runnerUp]!) runnerUp = id;
    if (penalised[id]! > own) count(passedOver, id);
    else if (logits[id]! > logits[chosen]!) count(overtaken, id);
  }
  return {
    runnerUp,
    allowed: allowed === null ? null : others + 1,
    forbidden,
    overtaken,
    passedOver,
  };
}

/** Which tokens a recorded run was allowed to write, step by step. */
export class AllowedTokens {
  private readonly constraint: Constraint | null;
  /** Output tokens that the constraint has seen. */
  private seen = 0;

  constructor(
    private readonly run: RecordedRun,
    tokenizer: Tokenizer,
    poll: () => void,
  ) {
    const { constraint } = run;
    this.constraint =
      constraint === null ? null : new Constraint(tokenizer, constraint.grammar, constraint.budget, poll);
  }

  /** Bits of the tokens allowed at a step, as the sampler takes them; null for all. Steps are asked for in ascending order. */
  at(step: number): Uint32Array | null {
    const { constraint, run } = this;
    if (constraint === null) return null;
    while (this.seen < step) constraint.advance(run.outputIds[this.seen++]!);
    return constraint.allowed(run.constraint!.budget - step);
  }
}

/**
 * Sample step `step` again after `history` (prompt and output before it), with the draw that the recorded run had, among
 * the tokens `allowed` (null for all). Where nothing `draws`, the token was chosen by other means.
 */
export function sampleAgain(
  options: SamplerOptions,
  logits: Float32Array,
  history: readonly number[],
  step: number,
  chosen: number,
  allowed: Uint32Array | null,
  draws = true,
): SampledStep {
  const sampler = new Sampler(options, logits.length);
  for (let drawn = 0; drawn < step; drawn++) sampler.skip();
  const sampled = sampler.sample(logits, history, {
    traceTop: TOP,
    traceAlso: chosen,
    ...(allowed === null ? {} : { allowed }),
  });
  const logprob = logprobOf(logits, chosen);
  const penalised = sampled.penalised!;
  const candidates = sampled.trace!.map((candidate, i): Candidate => {
    const top = i < TOP;
    return {
      ...candidate,
      rank: top ? i + 1 : rankOf(logits, candidate.id),
      modelProbability: Math.exp(candidate.logit - logits[chosen]! + logprob),
      chosen: candidate.id === chosen,
    };
  });
  return {
    candidates,
    draw: draws ? sampled.draw : null,
    reproduced: !draws || sampled.id === chosen,
    entropy: entropyOf(logits),
    logprob,
    choice: choiceOf(logits, penalised, chosen, allowed),
    penalised,
  };
}
