/** The jsonb that `explain` returns. */
import type { ExplainedToken } from './explanation.ts';
import type { RecordedRun } from './recorded-run.ts';

export function describeExplained(run: RecordedRun, token: ExplainedToken): Record<string, unknown> {
  const {
    deleted_count: count,
    deleted_top_lost: topLost,
    deleted_random_lost: randomLost,
    top_input: input,
    similar_token: similar,
  } = token;
  return {
    run_id: run.id,
    step: token.step,
    position: run.promptIds.length + token.step,
    model: run.modelName,
    digest: run.digest,
    token_id: token.token_id,
    token: token.token,
    summary: token.summary,
    logit: token.logit,
    logprob: token.logprob,
    model_probability: Math.exp(token.logprob),
    probability: token.probability,
    entropy: token.entropy,
    draw: token.draw,
    versus: {
      token_id: token.runner_up_id,
      token: token.runner_up,
      logit: token.runner_up_logit,
      model_probability: token.runner_up_probability,
      logit_difference: token.logit - token.runner_up_logit,
    },
    settled_layer: token.settled_layer,
    top_head: {
      layer: token.top_head_layer,
      head: token.top_head,
      contribution: token.top_head_contribution,
      position: token.top_head_position,
      weight: token.top_head_weight,
      difference: token.top_head_difference,
      cost: token.top_head_cost,
    },
    top_ffn: {
      layer: token.top_ffn_layer,
      contribution: token.top_ffn_contribution,
      difference: token.top_ffn_difference,
      cost: token.top_ffn_cost,
    },
    similar_embedding:
      similar === null ? null : { token: similar, cosine: token.similarity, meaning: 'similarity, not cause' },
    inputs: token.inputs,
    top_input: input === null ? null : { input, influence: token.top_input_influence },
    checks: {
      replay_difference: token.replay_difference,
      choice_reproduced: token.choice_reproduced,
      component_sum: token.component_sum,
      residual: token.residual,
      deletion:
        count === null || topLost === null || randomLost === null
          ? null
          : {
              inputs_deleted: count,
              probability_lost: topLost,
              probability_lost_at_random: randomLost,
              ratio: randomLost > 0 ? topLost / randomLost : null,
            },
    },
  };
}
