-- Explanations of recorded tokens

create or replace function hartonomous.explain(
    run_id bigint, step integer, versus text default null, inputs text default null, refresh boolean default false)
returns jsonb
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explain(run_id, step, versus, inputs, refresh)}} $$;
comment on function hartonomous.explain(bigint, integer, text, text, boolean) is
    'why a recorded run wrote its token of this step: summary, figures and checks; against the runner-up, or versus another token; inputs none, spans, words, sentences or tokens are deleted one by one';

create or replace function hartonomous.explain_candidates(
    run_id bigint, step integer,
    out rank integer, out token_id integer, out token text, out logit real, out penalised_logit real, out scaled_logit real,
    out cut_by text, out model_probability real, out probability real, out chosen boolean)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 20 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainCandidates(run_id, step)}} $$;
comment on function hartonomous.explain_candidates(bigint, integer) is
    'the most likely tokens of a step and what the sampler did with each';

create or replace function hartonomous.explain_components(
    run_id bigint, step integer, versus text default null,
    out component text, out layer integer, out head integer, out contribution real, out versus_contribution real,
    out difference real, out residual real)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 300 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainComponents(run_id, step, versus)}} $$;
comment on function hartonomous.explain_components(bigint, integer, text) is
    'what each part of the network added to the logit of a step''s token; contributions and residual sum to the logit';

create or replace function hartonomous.explain_lens(
    run_id bigint, step integer,
    out layer integer, out rank integer, out probability real, out top_token_ids integer[], out top_tokens text[],
    out top_probabilities real[], out stays_first boolean)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 30 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainLens(run_id, step)}} $$;
comment on function hartonomous.explain_lens(bigint, integer) is
    'what each layer would have answered at a step, the embedding as layer -1';

create or replace function hartonomous.explain_inputs(
    run_id bigint, step integer, inputs text default null, template boolean default false, versus text default null,
    out unit text, out first_position integer, out last_position integer, out input text, out leave_one_out real,
    out rollout real, out value_weighted real, out cosine real, out role text, out message integer, out is_template boolean,
    out versus_leave_one_out real, out difference real)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainInputs(run_id, step, inputs, template, versus)}} $$;
comment on function hartonomous.explain_inputs(bigint, integer, text, boolean, text) is
    'influence of each input on a step''s token: change of log-probability without it, of the runner-up''s or versus another''s, attention, and similarity, which is no cause; what the template wrote where that is asked for';

create or replace function hartonomous.explain_attention(
    run_id bigint, step integer, min_weight real default 0.01,
    out layer integer, out head integer, out from_position integer, out to_position integer, out from_token text,
    out to_token text, out weight real)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainAttention(run_id, step, min_weight)}} $$;
comment on function hartonomous.explain_attention(bigint, integer, real) is
    'attention of every head at a step, weights of at least min_weight; written into connections from 0.01 on';

create or replace function hartonomous._explain_page(run_id bigint, inputs text default null)
returns jsonb
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainPage(run_id, inputs)}} $$;
comment on function hartonomous._explain_page(bigint, text) is 'every token of a run explained, for the page of the command line';

revoke all on function
    hartonomous.explain(bigint, integer, text, text, boolean), hartonomous.explain_candidates(bigint, integer),
    hartonomous.explain_components(bigint, integer, text), hartonomous.explain_lens(bigint, integer),
    hartonomous.explain_inputs(bigint, integer, text, boolean, text), hartonomous.explain_attention(bigint, integer, real),
    hartonomous._explain_page(bigint, text)
from public;
grant execute on function
    hartonomous.explain(bigint, integer, text, text, boolean), hartonomous.explain_candidates(bigint, integer),
    hartonomous.explain_components(bigint, integer, text), hartonomous.explain_lens(bigint, integer),
    hartonomous.explain_inputs(bigint, integer, text, boolean, text), hartonomous.explain_attention(bigint, integer, real),
    hartonomous._explain_page(bigint, text)
to hartonomous_user;
