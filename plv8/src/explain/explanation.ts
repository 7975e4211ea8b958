/** An explained token, as it is computed, stored and reported. */
import type { Component } from './components.ts';
import type { LensRow } from './lens.ts';
import type { InputMode } from './units.ts';

export interface CandidateRow {
  rank: number;
  token_id: number;
  token: string;
  logit: number;
  penalised_logit: number;
  scaled_logit: number | null;
  cut_by: string | null;
  model_probability: number;
  probability: number;
  chosen: boolean;
}

export interface ComponentRow {
  component: Component['kind'];
  layer: number;
  head: number;
  contribution: number;
  versus_contribution: number;
}

export interface LensTableRow {
  layer: number;
  rank: number;
  probability: number;
  top_token_ids: LensRow['topIds'];
  top_tokens: string[];
  top_probabilities: LensRow['topProbabilities'];
  stays_first: boolean;
}

export interface InputRow {
  /** `token`, or `span`, `word`, `sentence`. */
  unit: string;
  first_position: number;
  last_position: number;
  input: string;
  leave_one_out: number | null;
  /** The same of the token it is compared with. */
  versus_leave_one_out: number | null;
  rollout: number | null;
  value_weighted: number;
  cosine: number | null;
  /** Of the message whose words they are; null for the template's. */
  role: string | null;
  message: number | null;
  is_template: boolean;
}

/** Columns of explained_tokens. */
export interface ExplainedToken {
  run_id: number;
  step: number;
  token_id: number;
  token: string;
  logit: number;
  logprob: number;
  probability: number;
  entropy: number;
  runner_up_id: number;
  runner_up: string;
  runner_up_logit: number;
  runner_up_probability: number;
  draw: number | null;
  component_sum: number;
  residual: number;
  replay_difference: number | null;
  choice_reproduced: boolean;
  settled_layer: number | null;
  top_head_layer: number;
  top_head: number;
  top_head_contribution: number;
  top_head_position: number;
  top_head_weight: number;
  /** What it and the network below did for the token and against the runner-up, and what leaving each out costs. */
  top_head_difference: number;
  top_head_cost: number;
  top_ffn_layer: number;
  top_ffn_contribution: number;
  top_ffn_difference: number;
  top_ffn_cost: number;
  similar_token: string | null;
  similarity: number | null;
  inputs: InputMode;
  top_input: string | null;
  top_input_influence: number | null;
  deleted_count: number | null;
  deleted_top_lost: number | null;
  deleted_random_lost: number | null;
  summary: string;
}

export interface Explanation {
  token: ExplainedToken;
  candidates: CandidateRow[];
  components: ComponentRow[];
  lens: LensTableRow[];
  inputs: InputRow[];
  /** Attention of the heads that moved the logit most; not stored. */
  edges: Edge[];
}

/** One attention weight: head `head` of layer `layer` looks at `position`. */
export interface Edge {
  layer: number;
  head: number;
  position: number;
  weight: number;
}
