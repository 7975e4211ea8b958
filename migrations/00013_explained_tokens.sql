set local role hartonomous_owner;
-- Explanations get private tables; the names explanations and explanation_* belong to the views that BI tools read.
-- Nothing has ever been written into the tables that go.
drop table hartonomous.explanation_candidates, hartonomous.explanation_components, hartonomous.explanation_lens,
    hartonomous.explanation_inputs, hartonomous.explanations;

create table hartonomous.explained_tokens (
    run_id bigint not null references hartonomous.runs on delete cascade,
    step integer not null,
    created_at timestamptz not null default now(),
    token_id integer not null,
    token text not null,
    logit real not null,
    logprob real not null,
    probability real not null,
    entropy real not null,
    runner_up_id integer not null,
    runner_up text not null,
    runner_up_logit real not null,
    runner_up_probability real not null,
    draw double precision,
    component_sum real not null,
    residual real not null,
    replay_difference real,
    choice_reproduced boolean not null,
    settled_layer integer,
    top_head_layer integer not null,
    top_head integer not null,
    top_head_contribution real not null,
    top_head_position integer not null,
    top_head_weight real not null,
    top_ffn_layer integer not null,
    top_ffn_contribution real not null,
    similar_token text,
    similarity real,
    inputs text not null,
    top_input text,
    top_input_influence real,
    deleted_count integer,
    deleted_top_lost real,
    deleted_random_lost real,
    attention_stored boolean not null default false,
    summary text not null,
    primary key (run_id, step)
);
comment on table hartonomous.explained_tokens is 'explained tokens; columns are described at the view explanations';
create index explained_tokens_unsure on hartonomous.explained_tokens (logprob) where logprob < -0.693;

create table hartonomous.explained_candidates (
    run_id bigint not null,
    step integer not null,
    rank integer not null,
    token_id integer not null,
    token text not null,
    logit real not null,
    penalised_logit real not null,
    scaled_logit real,
    cut_by text,
    model_probability real not null,
    probability real not null,
    chosen boolean not null,
    primary key (run_id, step, rank),
    foreign key (run_id, step) references hartonomous.explained_tokens on delete cascade
);
comment on table hartonomous.explained_candidates is 'tokens that could have been chosen; see the view top_candidates';

create type hartonomous.component_kind as enum ('embedding', 'position', 'head', 'attention_bias', 'ffn', 'ffn_bias', 'norm_bias');
comment on type hartonomous.component_kind is 'part of the network that writes into the residual stream';

create table hartonomous.explained_components (
    run_id bigint not null,
    step integer not null,
    layer smallint not null,
    head smallint not null,
    component hartonomous.component_kind not null,
    contribution real not null,
    versus_contribution real not null,
    primary key (run_id, step, component, layer, head),
    foreign key (run_id, step) references hartonomous.explained_tokens on delete cascade
);
comment on table hartonomous.explained_components is 'direct logit attribution; see the view explanation_components';

create table hartonomous.explained_lens (
    run_id bigint not null,
    step integer not null,
    layer integer not null,
    rank integer not null,
    probability real not null,
    top_token_ids integer[] not null,
    top_tokens text[] not null,
    top_probabilities real[] not null,
    stays_first boolean not null,
    primary key (run_id, step, layer),
    foreign key (run_id, step) references hartonomous.explained_tokens on delete cascade
);
comment on table hartonomous.explained_lens is 'what each layer would have answered; see the view explanation_lens';

create table hartonomous.explained_inputs (
    run_id bigint not null,
    step integer not null,
    unit text not null,
    first_position integer not null,
    last_position integer not null,
    input text not null,
    leave_one_out real,
    rollout real,
    value_weighted real not null,
    cosine real,
    primary key (run_id, step, unit, first_position),
    foreign key (run_id, step) references hartonomous.explained_tokens on delete cascade
);
comment on table hartonomous.explained_inputs is 'influence of each input; see the view explanation_inputs';

create table hartonomous.component_rollups (
    run_id bigint not null references hartonomous.runs on delete cascade,
    component hartonomous.component_kind not null,
    layer smallint not null,
    head smallint not null,
    tokens integer not null,
    total double precision not null,
    total_absolute double precision not null,
    total_contrast double precision not null,
    strongest real not null,
    primary key (run_id, component, layer, head)
);
comment on table hartonomous.component_rollups is 'contributions added up as tokens are explained; see the views head_influence and layer_influence';
reset role;
