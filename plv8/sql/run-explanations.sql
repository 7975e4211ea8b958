-- Explanations for BI tools: flat views with stable names over the private tables, each limited to runs the caller may
-- see. docs/explanations.md says what the numbers mean.

create or replace view hartonomous.explanations with (security_barrier) as
select e.run_id, e.step, r.caller, r.model_name as model, r.created_at as run_at, e.created_at as explained_at,
    e.token_id, e.token, e.logit, e.logprob, exp(greatest(e.logprob, -85))::real as model_probability, e.probability, e.entropy,
    e.runner_up_id, e.runner_up, e.runner_up_logit, e.runner_up_probability, e.logit - e.runner_up_logit as margin, e.draw,
    e.component_sum, e.residual, e.replay_difference, e.choice_reproduced, e.settled_layer,
    e.top_head_layer, e.top_head, e.top_head_contribution, e.top_head_position, e.top_head_weight,
    e.top_ffn_layer, e.top_ffn_contribution, e.similar_token, e.similarity, e.inputs, e.top_input, e.top_input_influence,
    e.deleted_count, e.deleted_top_lost, e.deleted_random_lost, e.summary,
    e.top_head_difference, e.top_head_cost, e.top_ffn_difference, e.top_ffn_cost
from hartonomous.runs r join hartonomous.explained_tokens e on e.run_id = r.id
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.explanations is 'explained tokens of the runs that the caller sees, one row each';
comment on column hartonomous.explanations.run_id is 'the run';
comment on column hartonomous.explanations.step is 'place among the tokens written, from 0';
comment on column hartonomous.explanations.caller is 'role whose run it is';
comment on column hartonomous.explanations.model is 'name of the model';
comment on column hartonomous.explanations.run_at is 'when it was written';
comment on column hartonomous.explanations.explained_at is 'when it was explained';
comment on column hartonomous.explanations.token_id is 'the token';
comment on column hartonomous.explanations.token is 'its text';
comment on column hartonomous.explanations.logit is 'its logit in the replay';
comment on column hartonomous.explanations.logprob is 'logarithm of the probability the model gave it';
comment on column hartonomous.explanations.model_probability is 'probability the model gave it';
comment on column hartonomous.explanations.probability is 'final probability, after penalties, filters and temperature';
comment on column hartonomous.explanations.entropy is 'entropy of the model''s distribution, in nats';
comment on column hartonomous.explanations.runner_up_id is 'the likeliest other token that the sampler might have taken, after penalties and constraint';
comment on column hartonomous.explanations.runner_up is 'its text';
comment on column hartonomous.explanations.runner_up_logit is 'its logit';
comment on column hartonomous.explanations.runner_up_probability is 'probability the model gave it';
comment on column hartonomous.explanations.margin is 'logit less that of the runner-up';
comment on column hartonomous.explanations.draw is 'random number that decided; null where the likeliest is taken';
comment on column hartonomous.explanations.component_sum is 'sum of the components';
comment on column hartonomous.explanations.residual is 'logit, before any soft cap, less the sum of the components';
comment on column hartonomous.explanations.replay_difference is 'replayed logit less the recorded one';
comment on column hartonomous.explanations.choice_reproduced is 'whether the sampler chose the same token in the replay';
comment on column hartonomous.explanations.settled_layer is 'layer from which the token stays first; -1 for the embedding, null for never';
comment on column hartonomous.explanations.top_head_layer is 'layer of the head without which the token loses most';
comment on column hartonomous.explanations.top_head is 'that head';
comment on column hartonomous.explanations.top_head_contribution is 'what it added to the logit';
comment on column hartonomous.explanations.top_head_position is 'position it looked at most';
comment on column hartonomous.explanations.top_head_weight is 'its attention weight there';
comment on column hartonomous.explanations.top_ffn_layer is 'layer of the feed-forward network without which the token loses most';
comment on column hartonomous.explanations.top_ffn_contribution is 'what it added to the logit';
comment on column hartonomous.explanations.similar_token is 'earlier token with the most similar embedding; similarity, not cause';
comment on column hartonomous.explanations.similarity is 'cosine of the two embeddings';
comment on column hartonomous.explanations.inputs is 'what was deleted one at a time: none, spans, words, sentences or tokens';
comment on column hartonomous.explanations.top_input is 'input whose deletion costs the token most';
comment on column hartonomous.explanations.top_input_influence is 'log-probability it costs';
comment on column hartonomous.explanations.deleted_count is 'inputs deleted together in the check';
comment on column hartonomous.explanations.deleted_top_lost is 'probability lost without the most influential inputs';
comment on column hartonomous.explanations.deleted_random_lost is 'mean probability lost without as many others';
comment on column hartonomous.explanations.summary is 'the short text a person reads';
comment on column hartonomous.explanations.top_head_difference is 'what that head added to the logit less what it added to the runner-up''s';
comment on column hartonomous.explanations.top_head_cost is 'log-probability that leaving it out costs at the position before the token';
comment on column hartonomous.explanations.top_ffn_difference is 'what that feed-forward network added to the logit less what it added to the runner-up''s';
comment on column hartonomous.explanations.top_ffn_cost is 'log-probability that leaving it out costs at the position before the token';

create or replace view hartonomous.explanation_components with (security_barrier) as
select c.run_id, c.step, r.caller, r.model_name as model, e.token, c.component::text as component, c.layer::integer as layer,
    c.head::integer as head, c.contribution, c.versus_contribution, c.contribution - c.versus_contribution as difference,
    e.logit, e.residual
from hartonomous.runs r
join hartonomous.explained_tokens e on e.run_id = r.id
join hartonomous.explained_components c on c.run_id = e.run_id and c.step = e.step
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.explanation_components is 'direct logit attribution: what each part of the network added to a token''s logit';
comment on column hartonomous.explanation_components.run_id is 'the run';
comment on column hartonomous.explanation_components.step is 'place among the tokens written, from 0';
comment on column hartonomous.explanation_components.caller is 'role whose run it is';
comment on column hartonomous.explanation_components.model is 'name of the model';
comment on column hartonomous.explanation_components.token is 'the token';
comment on column hartonomous.explanation_components.component is 'embedding, position, head, attention_bias, ffn, ffn_bias or norm_bias';
comment on column hartonomous.explanation_components.layer is 'layer, from 0; -1 before the first, the number of layers after the last';
comment on column hartonomous.explanation_components.head is 'head, from 0; -1 where there is none';
comment on column hartonomous.explanation_components.contribution is 'what it added to the logit';
comment on column hartonomous.explanation_components.versus_contribution is 'what it added to the runner-up''s';
comment on column hartonomous.explanation_components.difference is 'what it did for the token and against the runner-up';
comment on column hartonomous.explanation_components.logit is 'the logit';
comment on column hartonomous.explanation_components.residual is 'logit, before any soft cap, less the sum of all components';

create or replace view hartonomous.explanation_inputs with (security_barrier) as
select i.run_id, i.step, r.caller, r.model_name as model, e.token, i.unit, i.first_position, i.last_position,
    i.first_position < cardinality(r.prompt_ids) as is_prompt, i.input, i.leave_one_out, i.rollout, i.value_weighted, i.cosine,
    i.role, i.message, i.is_template, i.versus_leave_one_out
from hartonomous.runs r
join hartonomous.explained_tokens e on e.run_id = r.id
join hartonomous.explained_inputs i on i.run_id = e.run_id and i.step = e.step
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.explanation_inputs is 'influence of what stood before a token: of every token, and of spans of the prompt';
comment on column hartonomous.explanation_inputs.run_id is 'the run';
comment on column hartonomous.explanation_inputs.step is 'place among the tokens written, from 0';
comment on column hartonomous.explanation_inputs.caller is 'role whose run it is';
comment on column hartonomous.explanation_inputs.model is 'name of the model';
comment on column hartonomous.explanation_inputs.token is 'the token';
comment on column hartonomous.explanation_inputs.unit is 'token, word, sentence or span; count one kind at a time';
comment on column hartonomous.explanation_inputs.first_position is 'its first position';
comment on column hartonomous.explanation_inputs.last_position is 'its last position';
comment on column hartonomous.explanation_inputs.is_prompt is 'whether it stands in the prompt';
comment on column hartonomous.explanation_inputs.input is 'its text';
comment on column hartonomous.explanation_inputs.leave_one_out is 'log-probability with it less that without it: positive where it spoke for the token; null where it was not deleted';
comment on column hartonomous.explanation_inputs.rollout is 'share by attention rollout';
comment on column hartonomous.explanation_inputs.value_weighted is 'share of attention weighted by the norm of what it carries';
comment on column hartonomous.explanation_inputs.cosine is 'cosine of the embeddings; similarity, not cause';
comment on column hartonomous.explanation_inputs.role is 'role of the message whose words they are; null for the template''s and for the answer''s';
comment on column hartonomous.explanation_inputs.message is 'place of that message among the caller''s, from 0; -1 for option system';
comment on column hartonomous.explanation_inputs.is_template is 'whether the template wrote it, or it is the model''s own system message';
comment on column hartonomous.explanation_inputs.versus_leave_one_out is 'the same of the runner-up''s log-probability: what the input did for the token and against the runner-up is the difference';

create or replace view hartonomous.explanation_lens with (security_barrier) as
select l.run_id, l.step, r.caller, r.model_name as model, e.token, l.layer, l.rank, l.probability,
    l.top_tokens[1] as first_token, l.top_probabilities[1] as first_probability, l.top_tokens, l.top_probabilities,
    l.top_token_ids, l.stays_first
from hartonomous.runs r
join hartonomous.explained_tokens e on e.run_id = r.id
join hartonomous.explained_lens l on l.run_id = e.run_id and l.step = e.step
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.explanation_lens is 'logit lens: what the model would have answered after each layer';
comment on column hartonomous.explanation_lens.run_id is 'the run';
comment on column hartonomous.explanation_lens.step is 'place among the tokens written, from 0';
comment on column hartonomous.explanation_lens.caller is 'role whose run it is';
comment on column hartonomous.explanation_lens.model is 'name of the model';
comment on column hartonomous.explanation_lens.token is 'the token';
comment on column hartonomous.explanation_lens.layer is 'after this layer, from 0; -1 for the embedding';
comment on column hartonomous.explanation_lens.rank is 'place of the token there, from 1';
comment on column hartonomous.explanation_lens.probability is 'its probability there';
comment on column hartonomous.explanation_lens.first_token is 'the likeliest token there';
comment on column hartonomous.explanation_lens.first_probability is 'its probability';
comment on column hartonomous.explanation_lens.top_tokens is 'the five likeliest tokens';
comment on column hartonomous.explanation_lens.top_probabilities is 'their probabilities';
comment on column hartonomous.explanation_lens.top_token_ids is 'their ids';
comment on column hartonomous.explanation_lens.stays_first is 'whether the token is first here and in every later layer';

create or replace view hartonomous.top_candidates with (security_barrier) as
select c.run_id, c.step, r.caller, r.model_name as model, c.rank, c.token_id, c.token, c.logit, c.penalised_logit,
    c.scaled_logit, c.cut_by, c.model_probability, c.probability, c.chosen
from hartonomous.runs r join hartonomous.explained_candidates c on c.run_id = r.id
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.top_candidates is 'tokens that could have been chosen, and what the sampler did with each';
comment on column hartonomous.top_candidates.run_id is 'the run';
comment on column hartonomous.top_candidates.step is 'place among the tokens written, from 0';
comment on column hartonomous.top_candidates.caller is 'role whose run it is';
comment on column hartonomous.top_candidates.model is 'name of the model';
comment on column hartonomous.top_candidates.rank is 'place among the model''s logits, from 1';
comment on column hartonomous.top_candidates.token_id is 'the candidate';
comment on column hartonomous.top_candidates.token is 'its text';
comment on column hartonomous.top_candidates.logit is 'logit of the model';
comment on column hartonomous.top_candidates.penalised_logit is 'after bias and penalties';
comment on column hartonomous.top_candidates.scaled_logit is 'after temperature; null when it was cut before';
comment on column hartonomous.top_candidates.cut_by is 'what cut it: constraint (what the answer had to be), top_k, typical_p, top_p or min_p; null when kept';
comment on column hartonomous.top_candidates.model_probability is 'probability the model gave it';
comment on column hartonomous.top_candidates.probability is 'final probability';
comment on column hartonomous.top_candidates.chosen is 'whether it was written';

create or replace view hartonomous.attention_edges with (security_barrier) as
-- run_id is that of runs, so that a filter on it tells the planner how many runs there are, and it remembers their tokens.
select r.id as run_id, c.step, r.caller, r.model_name as model, c.layer, c.head, c.from_position, c.to_position,
    f.token as from_token, t.token as to_token, c.weight
from hartonomous.runs r
join hartonomous.connections c on c.run_id = r.id
-- Every position has a token; outer joins are left out where nobody asks for it.
left join hartonomous.run_tokens f on f.run_id = r.id and f.position = c.from_position
left join hartonomous.run_tokens t on t.run_id = r.id and t.position = c.to_position
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.attention_edges is 'attention of each head where explain_attention was asked, weights from 0.01 on; empty where it never was';
comment on column hartonomous.attention_edges.run_id is 'the run';
comment on column hartonomous.attention_edges.step is 'place among the tokens written, from 0';
comment on column hartonomous.attention_edges.caller is 'role whose run it is';
comment on column hartonomous.attention_edges.model is 'name of the model';
comment on column hartonomous.attention_edges.layer is 'layer, from 0';
comment on column hartonomous.attention_edges.head is 'head, from 0';
comment on column hartonomous.attention_edges.from_position is 'position that looks: the one before the token written';
comment on column hartonomous.attention_edges.to_position is 'position looked at';
comment on column hartonomous.attention_edges.from_token is 'token that looks';
comment on column hartonomous.attention_edges.to_token is 'token looked at';
comment on column hartonomous.attention_edges.weight is 'attention weight';

create or replace view hartonomous.head_influence with (security_barrier) as
select p.run_id, r.caller, r.model_name as model, p.layer::integer as layer, p.head::integer as head, p.tokens, p.total,
    p.total_absolute, p.total_contrast, p.total / p.tokens as mean, p.total_absolute / p.tokens as mean_absolute, p.strongest
from hartonomous.runs r join hartonomous.component_rollups p on p.run_id = r.id
where p.component = 'head' and array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.head_influence is 'what each attention head did over a run''s explained tokens; over several runs divide sum(total) by sum(tokens)';
comment on column hartonomous.head_influence.run_id is 'the run';
comment on column hartonomous.head_influence.caller is 'role whose run it is';
comment on column hartonomous.head_influence.model is 'name of the model';
comment on column hartonomous.head_influence.layer is 'layer, from 0';
comment on column hartonomous.head_influence.head is 'head, from 0';
comment on column hartonomous.head_influence.tokens is 'explained tokens';
comment on column hartonomous.head_influence.total is 'sum of contributions to the logits';
comment on column hartonomous.head_influence.total_absolute is 'sum of their absolute values';
comment on column hartonomous.head_influence.total_contrast is 'sum of contributions less those to the runners-up';
comment on column hartonomous.head_influence.mean is 'mean contribution';
comment on column hartonomous.head_influence.mean_absolute is 'mean absolute contribution';
comment on column hartonomous.head_influence.strongest is 'contribution of the largest absolute value';

create or replace view hartonomous.layer_influence with (security_barrier) as
select p.run_id, r.caller, r.model_name as model, p.layer::integer as layer,
    case when p.component in ('head', 'attention_bias') then 'attention' when p.component in ('ffn', 'ffn_bias') then 'ffn'
        else p.component::text end as part,
    max(p.tokens) as tokens, sum(p.total) as total, sum(p.total_absolute) as total_absolute,
    sum(p.total_contrast) as total_contrast, sum(p.total) / max(p.tokens) as mean
from hartonomous.runs r join hartonomous.component_rollups p on p.run_id = r.id
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()))
group by 1, 2, 3, 4, 5;
comment on view hartonomous.layer_influence is 'what attention and feed-forward network of each layer did over a run''s explained tokens; over several runs divide sum(total) by sum(tokens), part by part';
comment on column hartonomous.layer_influence.run_id is 'the run';
comment on column hartonomous.layer_influence.caller is 'role whose run it is';
comment on column hartonomous.layer_influence.model is 'name of the model';
comment on column hartonomous.layer_influence.layer is 'layer, from 0; -1 before the first, the number of layers after the last';
comment on column hartonomous.layer_influence.part is 'attention, ffn, embedding, position or norm_bias';
comment on column hartonomous.layer_influence.tokens is 'explained tokens';
comment on column hartonomous.layer_influence.total is 'sum of contributions to the logits';
comment on column hartonomous.layer_influence.total_absolute is 'sum of absolute values, head by head';
comment on column hartonomous.layer_influence.total_contrast is 'sum of contributions less those to the runners-up';
comment on column hartonomous.layer_influence.mean is 'mean contribution';

create or replace view hartonomous.uncertain_tokens with (security_barrier) as
select e.run_id, e.step, r.caller, r.model_name as model, e.token, exp(greatest(e.logprob, -85))::real as model_probability, e.probability,
    e.entropy, e.runner_up, e.runner_up_probability, e.logit - e.runner_up_logit as margin, e.settled_layer, e.top_input
from hartonomous.runs r join hartonomous.explained_tokens e on e.run_id = r.id
where e.logprob < -0.693 and array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.uncertain_tokens is 'explained tokens to which the model gave less than one half, of the runs that the caller sees';
comment on column hartonomous.uncertain_tokens.run_id is 'the run';
comment on column hartonomous.uncertain_tokens.step is 'place among the tokens written, from 0';
comment on column hartonomous.uncertain_tokens.caller is 'role whose run it is';
comment on column hartonomous.uncertain_tokens.model is 'name of the model';
comment on column hartonomous.uncertain_tokens.token is 'the token';
comment on column hartonomous.uncertain_tokens.model_probability is 'probability the model gave it';
comment on column hartonomous.uncertain_tokens.probability is 'final probability, after penalties, filters and temperature';
comment on column hartonomous.uncertain_tokens.entropy is 'entropy of the model''s distribution, in nats';
comment on column hartonomous.uncertain_tokens.runner_up is 'the likeliest other token';
comment on column hartonomous.uncertain_tokens.runner_up_probability is 'probability the model gave that';
comment on column hartonomous.uncertain_tokens.margin is 'logit less that of the runner-up';
comment on column hartonomous.uncertain_tokens.settled_layer is 'layer from which the token stays first; -1 for the embedding, null for never';
comment on column hartonomous.uncertain_tokens.top_input is 'input whose deletion costs the token most';

-- A column of a table says what the view's column of that name says.
do $$
declare
    described record;
begin
    for described in
        select pairs.stored, own.attname as name, col_description(shown.attrelid, shown.attnum) as says
        from (values ('explained_tokens', 'explanations'), ('explained_components', 'explanation_components'),
            ('explained_inputs', 'explanation_inputs'), ('explained_lens', 'explanation_lens'),
            ('explained_candidates', 'top_candidates'), ('component_rollups', 'head_influence')) as pairs (stored, view)
        join pg_attribute own on own.attrelid = format('hartonomous.%I', pairs.stored)::regclass and own.attnum > 0
        join pg_attribute shown on shown.attrelid = format('hartonomous.%I', pairs.view)::regclass and shown.attname = own.attname
        where not own.attisdropped
    loop
        execute format('comment on column hartonomous.%I.%I is %L', described.stored, described.name, described.says);
    end loop;
end
$$;
comment on column hartonomous.explained_tokens.created_at is 'when it was explained';
comment on column hartonomous.component_rollups.component is 'embedding, position, head, attention_bias, ffn, ffn_bias or norm_bias';

grant select on hartonomous.explanations, hartonomous.explanation_components, hartonomous.explanation_inputs,
    hartonomous.explanation_lens, hartonomous.top_candidates, hartonomous.attention_edges, hartonomous.head_influence,
    hartonomous.layer_influence, hartonomous.uncertain_tokens to hartonomous_user, hartonomous_reader;
