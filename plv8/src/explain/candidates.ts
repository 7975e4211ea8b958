/** What the sampler did with the most likely tokens, by running it again on the replayed logits. */
import { Constraint } from '../sampling/constraint/constraint.ts';
import type { CandidateTrace, SamplerOptions } from '../sampling/sampler.ts';
import { Sampler } from '../sampling/sampler.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { distribution } from './distribution.ts';
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
 * the tokens `allowed` (null for all).
 */
export function sampleAgain(
  options: SamplerOptions,
  logits: Float32Array,
  history: readonly number[],
  step: number,
  chosen: number,
  allowed: Uint32Array | null,
): SampledStep {
  const sampler = new Sampler(options, logits.length);
  for (let drawn = 0; drawn < step; drawn++) sampler.skip();
  const sampled = sampler.sample(logits, history, { traceTop: TOP, ...(allowed === null ? {} : { allowed }) });
  const facts = distribution(logits, chosen, 0);
  // The trace holds the sampler's own choice; that of the run may be another.
  const trace = sampled.trace ?? [];
  const candidates = trace.map((candidate, i): Candidate => {
    const top = i < TOP;
    return {
      ...candidate,
      rank: top ? i + 1 : distribution(logits, candidate.id, 0).rank,
      modelProbability: Math.exp(candidate.logit - logits[chosen]! + facts.logprob),
      chosen: candidate.id === chosen,
    };
  });
  return {
    candidates,
    draw: sampled.draw,
    reproduced: sampled.id === chosen,
    entropy: facts.entropy,
    logprob: facts.logprob,
  };
}
