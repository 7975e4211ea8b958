set local role hartonomous_owner;
create table hartonomous.runs (
    id bigint generated always as identity primary key,
    created_at timestamptz not null default now(),
    caller text not null,
    kind text not null,
    model_id bigint references hartonomous.models on delete set null,
    model_name text not null,
    model_digest bytea not null,
    options jsonb not null,
    seed bigint not null,
    prompt_ids integer[] not null,
    output_ids integer[] not null,
    done_reason text not null,
    prompt_eval_count integer not null,
    eval_count integer not null,
    load_ns bigint not null,
    prompt_eval_ns bigint not null,
    eval_ns bigint not null,
    total_ns bigint not null
);
comment on table hartonomous.runs is 'recorded generations';
comment on column hartonomous.runs.id is 'number of the run';
comment on column hartonomous.runs.created_at is 'when';
comment on column hartonomous.runs.caller is 'role that asked';
comment on column hartonomous.runs.kind is 'generate, complete, chat or stream';
comment on column hartonomous.runs.model_id is 'the model; null once it is removed';
comment on column hartonomous.runs.model_name is 'its name then';
comment on column hartonomous.runs.model_digest is 'SHA-256 of its file';
comment on column hartonomous.runs.options is 'options as the caller gave them';
comment on column hartonomous.runs.seed is 'seed of the draws';
comment on column hartonomous.runs.prompt_ids is 'tokens of the prompt';
comment on column hartonomous.runs.output_ids is 'tokens written';
comment on column hartonomous.runs.done_reason is 'stop or length';
comment on column hartonomous.runs.prompt_eval_count is 'prompt tokens computed, the rest was cached';
comment on column hartonomous.runs.eval_count is 'number of tokens written';
comment on column hartonomous.runs.load_ns is 'nanoseconds of loading';
comment on column hartonomous.runs.prompt_eval_ns is 'nanoseconds over the prompt';
comment on column hartonomous.runs.eval_ns is 'nanoseconds of writing';
comment on column hartonomous.runs.total_ns is 'nanoseconds of the call';
create index runs_caller on hartonomous.runs (caller, id);
create index runs_model on hartonomous.runs (model_id);

create table hartonomous.run_tokens (
    run_id bigint not null references hartonomous.runs on delete cascade,
    position integer not null,
    token_id integer not null,
    token text not null,
    is_prompt boolean not null,
    logprob real,
    primary key (run_id, position)
);
comment on table hartonomous.run_tokens is 'tokens of recorded generations';
comment on column hartonomous.run_tokens.run_id is 'the run';
comment on column hartonomous.run_tokens.position is 'place in the sequence, from 0';
comment on column hartonomous.run_tokens.token_id is 'the token';
comment on column hartonomous.run_tokens.token is 'its text';
comment on column hartonomous.run_tokens.is_prompt is 'whether it belongs to the prompt';
comment on column hartonomous.run_tokens.logprob is 'log-probability when it was chosen; null in the prompt';

create table hartonomous.connections (
    run_id bigint not null references hartonomous.runs on delete cascade,
    step integer not null,
    layer integer not null,
    head integer not null,
    from_position integer not null,
    to_position integer not null,
    from_id bigint not null,
    to_id bigint not null,
    weight real not null,
    primary key (run_id, step, layer, head, from_position, to_position)
);
comment on table hartonomous.connections is 'observed attention of explained runs';
comment on column hartonomous.connections.run_id is 'the run';
comment on column hartonomous.connections.step is 'token written, from 0';
comment on column hartonomous.connections.layer is 'layer';
comment on column hartonomous.connections.head is 'head';
comment on column hartonomous.connections.from_position is 'position that attends';
comment on column hartonomous.connections.to_position is 'position attended to';
comment on column hartonomous.connections.from_id is 'token atom that attends';
comment on column hartonomous.connections.to_id is 'token atom attended to';
comment on column hartonomous.connections.weight is 'attention weight';

create table hartonomous.explanations (
    run_id bigint not null references hartonomous.runs on delete cascade,
    step integer not null,
    created_at timestamptz not null default now(),
    token_id integer not null,
    token text not null,
    logit real not null,
    probability real not null,
    entropy real not null,
    residual real not null,
    summary text not null,
    primary key (run_id, step)
);
comment on table hartonomous.explanations is 'explained tokens';
comment on column hartonomous.explanations.run_id is 'the run';
comment on column hartonomous.explanations.step is 'token written, from 0';
comment on column hartonomous.explanations.created_at is 'when it was explained';
comment on column hartonomous.explanations.token_id is 'the chosen token';
comment on column hartonomous.explanations.token is 'its text';
comment on column hartonomous.explanations.logit is 'its logit, as replayed';
comment on column hartonomous.explanations.probability is 'its final probability';
comment on column hartonomous.explanations.entropy is 'entropy of the distribution, in nats';
comment on column hartonomous.explanations.residual is 'logit less the sum of components';
comment on column hartonomous.explanations.summary is 'the short text a person reads';

create table hartonomous.explanation_candidates (
    run_id bigint not null,
    step integer not null,
    rank integer not null,
    token_id integer not null,
    token text not null,
    raw_logit real not null,
    penalised_logit real not null,
    scaled_logit real not null,
    filter text,
    probability real not null,
    chosen boolean not null,
    primary key (run_id, step, rank),
    foreign key (run_id, step) references hartonomous.explanations on delete cascade
);
comment on table hartonomous.explanation_candidates is 'tokens that could have been chosen';
comment on column hartonomous.explanation_candidates.run_id is 'the run';
comment on column hartonomous.explanation_candidates.step is 'token written, from 0';
comment on column hartonomous.explanation_candidates.rank is '1 for the highest logit';
comment on column hartonomous.explanation_candidates.token_id is 'the candidate';
comment on column hartonomous.explanation_candidates.token is 'its text';
comment on column hartonomous.explanation_candidates.raw_logit is 'logit of the model';
comment on column hartonomous.explanation_candidates.penalised_logit is 'after bias and penalties';
comment on column hartonomous.explanation_candidates.scaled_logit is 'after temperature';
comment on column hartonomous.explanation_candidates.filter is 'filter that cut it; null when kept';
comment on column hartonomous.explanation_candidates.probability is 'final probability';
comment on column hartonomous.explanation_candidates.chosen is 'whether the draw took it';

create table hartonomous.explanation_components (
    run_id bigint not null,
    step integer not null,
    component text not null,
    layer integer not null,
    head integer not null,
    contribution real not null,
    versus_contribution real,
    primary key (run_id, step, component, layer, head),
    foreign key (run_id, step) references hartonomous.explanations on delete cascade
);
comment on table hartonomous.explanation_components is 'direct logit attribution';
comment on column hartonomous.explanation_components.run_id is 'the run';
comment on column hartonomous.explanation_components.step is 'token written, from 0';
comment on column hartonomous.explanation_components.component is 'embedding, attention head, ffn or bias';
comment on column hartonomous.explanation_components.layer is 'layer; -1 for the embedding';
comment on column hartonomous.explanation_components.head is 'head; -1 where there is none';
comment on column hartonomous.explanation_components.contribution is 'share of the logit of the chosen token';
comment on column hartonomous.explanation_components.versus_contribution is 'the same for the runner-up';

create table hartonomous.explanation_lens (
    run_id bigint not null,
    step integer not null,
    layer integer not null,
    rank integer not null,
    probability real not null,
    top_token_ids integer[] not null,
    top_tokens text[] not null,
    stays_first boolean not null,
    primary key (run_id, step, layer),
    foreign key (run_id, step) references hartonomous.explanations on delete cascade
);
comment on table hartonomous.explanation_lens is 'what each layer would have answered';
comment on column hartonomous.explanation_lens.run_id is 'the run';
comment on column hartonomous.explanation_lens.step is 'token written, from 0';
comment on column hartonomous.explanation_lens.layer is 'after this layer';
comment on column hartonomous.explanation_lens.rank is 'rank of the chosen token';
comment on column hartonomous.explanation_lens.probability is 'its probability';
comment on column hartonomous.explanation_lens.top_token_ids is 'first five tokens';
comment on column hartonomous.explanation_lens.top_tokens is 'their texts';
comment on column hartonomous.explanation_lens.stays_first is 'whether it is first from here on';

create table hartonomous.explanation_inputs (
    run_id bigint not null,
    step integer not null,
    position integer not null,
    token text not null,
    leave_one_out real,
    rollout real,
    cosine real,
    primary key (run_id, step, position),
    foreign key (run_id, step) references hartonomous.explanations on delete cascade
);
comment on table hartonomous.explanation_inputs is 'influence of each input position';
comment on column hartonomous.explanation_inputs.run_id is 'the run';
comment on column hartonomous.explanation_inputs.step is 'token written, from 0';
comment on column hartonomous.explanation_inputs.position is 'position in the prompt, from 0';
comment on column hartonomous.explanation_inputs.token is 'token there';
comment on column hartonomous.explanation_inputs.leave_one_out is 'change of log-probability without it';
comment on column hartonomous.explanation_inputs.rollout is 'attention rollout';
comment on column hartonomous.explanation_inputs.cosine is 'similarity of embeddings; not a cause';

create table hartonomous.settings (
    name text primary key,
    value jsonb not null,
    comment text
);
comment on table hartonomous.settings is 'settings of this database';
comment on column hartonomous.settings.name is 'name of the setting';
comment on column hartonomous.settings.value is 'its value';
comment on column hartonomous.settings.comment is 'what it does';
reset role;
