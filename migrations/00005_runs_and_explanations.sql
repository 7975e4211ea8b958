set local role hartonomous_owner;
create table hartonomous.runs (
    id bigint generated always as identity primary key,
    created_at timestamptz not null default now(),
    caller text not null,
    login text not null default session_user,
    kind text not null,
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
    total_ns bigint not null,
    -- What a replay needs to prove that it computes the same thing.
    sampling jsonb not null default '{}',
    held_as text,
    build_id text,
    erased_at timestamptz,
    prompt_parts jsonb,
    end_id integer,
    end_logit real
);
comment on table hartonomous.runs is 'recorded generations';
comment on column hartonomous.runs.id is 'number of the run';
comment on column hartonomous.runs.created_at is 'when';
comment on column hartonomous.runs.caller is 'role that asked';
comment on column hartonomous.runs.login is 'user of its session';
comment on column hartonomous.runs.kind is 'what was called: generate, complete, chat, stream or classify; logits where limit recording is 1';
comment on column hartonomous.runs.model_name is 'its name then';
comment on column hartonomous.runs.model_digest is 'SHA-256 of its file';
comment on column hartonomous.runs.options is 'options as the caller gave them';
comment on column hartonomous.runs.seed is 'seed of the draws';
comment on column hartonomous.runs.prompt_ids is 'tokens of the prompt';
comment on column hartonomous.runs.output_ids is 'tokens written';
comment on column hartonomous.runs.done_reason is 'stop, length or cancelled; open while a session goes on, where limit recording is 1';
comment on column hartonomous.runs.prompt_eval_count is 'prompt tokens computed, the rest was cached';
comment on column hartonomous.runs.eval_count is 'number of tokens written';
comment on column hartonomous.runs.load_ns is 'nanoseconds of loading';
comment on column hartonomous.runs.prompt_eval_ns is 'nanoseconds over the prompt';
comment on column hartonomous.runs.eval_ns is 'nanoseconds of writing';
comment on column hartonomous.runs.total_ns is 'nanoseconds of the call';
comment on column hartonomous.runs.sampling is 'every setting of sampling and the precision, defaults included';
comment on column hartonomous.runs.held_as is 'how the matrices were held in memory, as q8_0 or f32';
comment on column hartonomous.runs.build_id is 'build of the functions that wrote it';
comment on column hartonomous.runs.erased_at is 'when erase_runs took away what was said; null where it is there';
comment on column hartonomous.runs.prompt_parts is 'tokens [from, to) of the prompt that a message wrote, its role, and its place among the messages from 0, -1 for option system; what is in none is the template''s';
comment on column hartonomous.runs.end_id is 'token by which the model ended its answer; null where something else did';
comment on column hartonomous.runs.end_logit is 'its logit, before penalties';
create index runs_caller on hartonomous.runs (caller, id);
create index runs_caller_created on hartonomous.runs (caller, created_at);
create index runs_created on hartonomous.runs (created_at);

create table hartonomous.run_tokens (
    run_id bigint not null references hartonomous.runs on delete cascade,
    position integer not null,
    token_id integer not null,
    token text not null,
    is_prompt boolean not null,
    logprob real,
    logit real,
    text text not null default '',
    primary key (run_id, position)
);
comment on table hartonomous.run_tokens is 'tokens of recorded generations';
comment on column hartonomous.run_tokens.run_id is 'the run';
comment on column hartonomous.run_tokens.position is 'place in the sequence, from 0';
comment on column hartonomous.run_tokens.token_id is 'the token';
comment on column hartonomous.run_tokens.token is 'the token by itself; part of a character is U+FFFD';
comment on column hartonomous.run_tokens.is_prompt is 'whether it belongs to the prompt';
comment on column hartonomous.run_tokens.logprob is 'log-probability when it was chosen; null in the prompt';
comment on column hartonomous.run_tokens.logit is 'logit when it was chosen, before penalties; null in the prompt';
comment on column hartonomous.run_tokens.text is 'what became certain of the text with it; these add up to prompt and answer as the caller got it';

-- What deleted runs came to, so that accounts stay right.
create table hartonomous.past_usage (
    role text not null,
    day date not null,
    model text not null,
    calls bigint not null,
    prompt_tokens bigint not null,
    tokens bigint not null,
    seconds double precision not null
);
comment on table hartonomous.past_usage is 'sums of recorded runs that were deleted, for the view role_usage';
comment on column hartonomous.past_usage.role is 'role that asked';
comment on column hartonomous.past_usage.day is 'day of the calls, in UTC';
comment on column hartonomous.past_usage.model is 'name of the model then';
comment on column hartonomous.past_usage.calls is 'calls';
comment on column hartonomous.past_usage.prompt_tokens is 'prompt tokens computed';
comment on column hartonomous.past_usage.tokens is 'tokens written';
comment on column hartonomous.past_usage.seconds is 'seconds of these calls';

create function hartonomous._keep_usage() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
begin
    insert into hartonomous.past_usage (role, day, model, calls, prompt_tokens, tokens, seconds)
    select caller, (created_at at time zone 'UTC')::date, model_name, count(*), sum(prompt_eval_count), sum(eval_count),
        sum(total_ns) / 1e9
    from deleted where done_reason <> 'open' group by 1, 2, 3;
    return null;
end
$$;
comment on function hartonomous._keep_usage() is 'add up runs that are deleted in past_usage';
revoke all on function hartonomous._keep_usage() from public;
create trigger keep_usage after delete on hartonomous.runs referencing old table as deleted
    for each statement execute function hartonomous._keep_usage();

create table hartonomous.run_grants (
    reader text not null,
    caller text not null,
    granted_at timestamptz not null default now(),
    primary key (reader, caller)
);
comment on table hartonomous.run_grants is 'who sees runs of others';
comment on column hartonomous.run_grants.reader is 'role whose members see them';
comment on column hartonomous.run_grants.caller is 'role whose runs they are; * for everybody''s';
comment on column hartonomous.run_grants.granted_at is 'when';

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

-- Explanations have private tables; the names explanations and explanation_* belong to the views that BI tools read.
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
    top_head_difference real,
    top_head_cost real,
    top_ffn_layer integer not null,
    top_ffn_contribution real not null,
    top_ffn_difference real,
    top_ffn_cost real,
    similar_token text,
    similarity real,
    inputs text not null,
    top_input text,
    top_input_influence real,
    deleted_count integer,
    deleted_top_lost real,
    deleted_random_lost real,
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
    role text,
    message integer,
    is_template boolean not null default false,
    versus_leave_one_out real,
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

grant select on hartonomous.runs, hartonomous.run_tokens to hartonomous_admin;
reset role;
