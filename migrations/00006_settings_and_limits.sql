set local role hartonomous_owner;
create table hartonomous.settings (
    name text primary key,
    value jsonb not null,
    comment text
);
comment on table hartonomous.settings is 'settings of this database';
comment on column hartonomous.settings.name is 'name of the setting';
comment on column hartonomous.settings.value is 'its value';
comment on column hartonomous.settings.comment is 'what it does';
grant select, insert, update, delete on hartonomous.settings to hartonomous_admin;

-- What an operator allows; nobody but the owner reads or writes it, others go through set_limit and limit_list.
create table hartonomous.limits (
    name text not null check (name in ('max_loaded_models', 'max_model_bytes', 'max_context', 'max_tokens_per_answer',
        'max_calls_per_hour', 'max_tokens_per_hour', 'recording', 'retention_days')),
    role_name text not null default '*',
    value bigint not null check (value >= 0),
    primary key (name, role_name)
);
comment on table hartonomous.limits is 'limits set by the operator';
comment on column hartonomous.limits.name is 'which limit';
comment on column hartonomous.limits.role_name is 'role it is for; * for every role that has none of its own';
comment on column hartonomous.limits.value is 'the limit';
reset role;
