set local role hartonomous_owner;
-- What a replay needs to prove that it computes the same thing, and who may see whose runs.
alter table hartonomous.runs
    add column sampling jsonb not null default '{}',
    add column held_as text,
    add column build_id text;
comment on column hartonomous.runs.sampling is 'every setting of sampling and the precision, defaults included';
comment on column hartonomous.runs.held_as is 'how the matrices were held in memory, as q8_0 or f32';
comment on column hartonomous.runs.build_id is 'build of the functions that wrote it';
comment on column hartonomous.runs.kind is 'what was called: generate, complete, chat, stream and the like';
create index runs_created on hartonomous.runs (created_at);

alter table hartonomous.run_tokens add column logit real;
comment on column hartonomous.run_tokens.logit is 'logit when it was chosen, before penalties; null in the prompt';

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
reset role;
