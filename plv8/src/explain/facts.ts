/** What the summary of a token may say: put together from what was computed of it. */
import { StopMatcher } from '../sampling/stop.ts';
import type { SamplerOptions } from '../sampling/sampler.ts';
import type { Ahead, SampledStep } from './candidates.ts';
import type { ExplainedToken } from './explanation.ts';
import type { RecordedRun } from './recorded-run.ts';
import type { NamedAhead, SummaryFacts } from './summary.ts';
import { LEAST_COST } from './summary.ts';
import type { TokenTexts } from './token-texts.ts';
import { textOf } from './token-texts.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** What the sampler did to a token, in words: all of it that needs the logits. */
export type SamplerFacts = Pick<SummaryFacts, 'constraint' | 'overtaken' | 'passedOver' | 'other'>;

/** `logits` (vocabSize) are the model's; `other` is what the token is compared with, named by the caller where it is `versus`. */
export function samplerFacts(
  run: RecordedRun,
  tokenizer: Tokenizer,
  sampled: SampledStep,
  logits: Float32Array,
  { chosen, other, versus }: { chosen: number; other: number; versus: boolean },
): SamplerFacts {
  const { choice, penalised, reproduced } = sampled;
  const named = ({ count, first }: Ahead): NamedAhead | null =>
    first === null ? null : { count, first: { token: textOf(tokenizer, first), probability: probabilityOf(first) } };
  const probabilityOf = (id: number): number => Math.exp(logits[id]! - logits[chosen]! + sampled.logprob);
  const overtaken = reproduced ? named(choice.overtaken) : null;
  const trace = sampled.candidates.find(({ id }) => id === other);
  return {
    constraint:
      run.constraint === null
        ? null
        : {
            name: run.constraint.grammar.kind.replace('_', ' '),
            allowed: choice.allowed!,
            forbidden: named(choice.forbidden),
          },
    overtaken:
      overtaken === null
        ? null
        : { ...overtaken, ...movedBy(run.sampler, chosen, choice.overtaken.first!, logits, penalised) },
    passedOver: reproduced ? named(choice.passedOver) : null,
    other: {
      token: textOf(tokenizer, other),
      probability: probabilityOf(other),
      versus,
      allowed: choice.runnerUp !== null || versus,
      final: trace?.probability ?? null,
      cutBy: trace?.cutBy ?? null,
      behind: penalised[chosen]! - penalised[other]!,
      penalised: [chosen, other].some((id) => penalised[id] !== logits[id]),
    },
  };
}

export function factsOf(
  run: RecordedRun,
  texts: TokenTexts,
  token: ExplainedToken,
  bySampler: SamplerFacts,
  lastLayer: number,
): SummaryFacts {
  const position = run.promptIds.length + token.step;
  return {
    ...bySampler,
    token: texts.of(position),
    part: texts.partOf(position),
    endsAnswer: token.step === run.written,
    probability: token.probability,
    modelProbability: Math.exp(token.logprob),
    labels: run.labels === null ? null : { ...likeliest(run.labels), count: run.labels.length },
    greedy: run.sampler.temperature === 0,
    reproduced: token.choice_reproduced,
    draw: token.draw,
    input:
      token.top_input !== null && token.top_input_influence! >= LEAST_COST
        ? { text: token.top_input, cost: token.top_input_influence! }
        : null,
    head:
      token.top_head_cost < LEAST_COST
        ? null
        : {
            layer: token.top_head_layer,
            head: token.top_head,
            position: token.top_head_position,
            attended: texts.of(token.top_head_position),
            weight: token.top_head_weight,
            cost: token.top_head_cost,
          },
    ffn:
      token.top_ffn_cost < LEAST_COST
        ? null
        : { layer: token.top_ffn_layer, difference: token.top_ffn_difference, cost: token.top_ffn_cost },
    settled: token.settled_layer === null ? null : { layer: token.settled_layer, last: lastLayer },
    ...endingOf(run, texts, token.step),
  };
}

function likeliest(labels: NonNullable<RecordedRun['labels']>): { label: string; probability: number } {
  return labels.reduce((best, one) => (one.probability > best.probability ? one : best));
}

/** Which settings put a token behind the chosen one, and whose logit they moved. */
function movedBy(
  { logitBias, repeatLastN, repeatPenalty, presencePenalty, frequencyPenalty }: SamplerOptions,
  chosen: number,
  other: number,
  logits: Float32Array,
  penalised: Float32Array,
): { by: string; raised: boolean; from: number; to: number } {
  const looksBack = repeatLastN !== 0;
  const by = [
    ...(looksBack && repeatPenalty !== 1 ? ['repeat penalty'] : []),
    ...(looksBack && presencePenalty !== 0 ? ['presence penalty'] : []),
    ...(looksBack && frequencyPenalty !== 0 ? ['frequency penalty'] : []),
    ...(logitBias.has(chosen) || logitBias.has(other) ? ['logit bias'] : []),
  ].join(' and ');
  // Both may have moved: what moved further did it.
  const raised = penalised[chosen]! - logits[chosen]! > logits[other]! - penalised[other]!;
  const moved = raised ? chosen : other;
  return { by, raised, from: logits[moved]!, to: penalised[moved]! };
}

/** How the answer ended with a token, and what the caller got of it where a stop string cut it. */
function endingOf(run: RecordedRun, texts: TokenTexts, step: number): Pick<SummaryFacts, 'ending' | 'shown'> {
  const { written, stops, promptIds } = run;
  const begin = promptIds.length;
  const isEnded = run.outputIds.length > written;
  const whole = { ending: null, shown: null };
  if (isEnded || step >= written) return whole;
  const isLast = step === written - 1;
  if (run.doneReason === 'length') {
    return isLast ? { ...whole, ending: 'no more tokens were allowed' } : whole;
  }
  if (run.doneReason !== 'stop') return whole;
  if (run.constraint !== null) {
    return isLast ? { ...whole, ending: 'the constraint asked for no more' } : whole;
  }
  if (stops.length === 0) return whole;
  const all = texts.of(begin, begin + written);
  const shown = new StopMatcher(stops).push(all).length;
  const [start, end] = [step, step + 1].map((to) => (to === 0 ? 0 : texts.of(begin, begin + to).length));
  const stop = stops.find((each) => all.startsWith(each, shown));
  return {
    ending: isLast && stop !== undefined ? `stop string ${JSON.stringify(stop)}` : null,
    shown: end! > shown ? all.slice(start, Math.max(start!, shown)) : null,
  };
}
