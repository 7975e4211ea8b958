-- Limits that an operator sets

create or replace function hartonomous.set_limit(name text, value bigint, role_name text default '*') returns void
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
begin
    if set_limit.value is null then
        delete from hartonomous.limits l where l.name = set_limit.name and l.role_name = set_limit.role_name;
    else
        insert into hartonomous.limits as l (name, role_name, value)
        values (set_limit.name, set_limit.role_name, set_limit.value)
        on conflict on constraint limits_pkey do update set value = excluded.value;
    end if;
exception when check_violation then
    raise exception 'limit % of % is not known or negative', left(set_limit.name, 200), set_limit.value
        using errcode = 'invalid_parameter_value',
            hint = 'limits: max_loaded_models, max_model_bytes, max_context, max_tokens_per_answer, max_calls_per_hour, max_tokens_per_hour, recording (0 never, 1 always), retention_days, engine_priority';
end
$$;
comment on function hartonomous.set_limit(text, bigint, text) is
    'set a limit for one role, or for all that have none of their own; null takes it away';

create or replace function hartonomous._limit_of(name text, roles text[]) returns bigint
language sql stable parallel safe security definer set search_path = hartonomous, pg_temp
as $$
    select case when _limit_of.name = 'recording' then max(value) else min(value) end from (
        select distinct on (r.role_name) l.value
        from unnest(roles) as r (role_name)
        join hartonomous.limits l on l.name = _limit_of.name and l.role_name in ('*', r.role_name)
        order by r.role_name, l.role_name = '*') of_each
$$;
comment on function hartonomous._limit_of(text, text[]) is 'a limit for these roles, the strictest; null where there is none';

create or replace function hartonomous._has_hourly_limit(roles text[]) returns boolean
language sql stable parallel safe security definer set search_path = hartonomous, pg_temp
as $$ select coalesce(hartonomous._limit_of('max_calls_per_hour', roles), hartonomous._limit_of('max_tokens_per_hour', roles)) is not null $$;
comment on function hartonomous._has_hourly_limit(text[]) is 'whether calls or tokens of one of these roles are limited by the hour';

create or replace view hartonomous.limit_list with (security_barrier) as
select l.name, l.role_name, l.value,
    case l.name
        when 'max_loaded_models' then 'models a backend keeps loaded'
        when 'max_model_bytes' then 'bytes of the models a backend holds'
        when 'max_context' then 'tokens of context of a call'
        when 'max_tokens_per_answer' then 'tokens an answer may have'
        when 'max_calls_per_hour' then 'calls of a role in an hour'
        when 'max_tokens_per_hour' then 'tokens evaluated for a role in an hour'
        when 'recording' then 'whether runs are recorded: 0 never, 1 always'
        when 'retention_days' then 'days after which recorded runs are deleted as new ones are recorded'
        when 'engine_priority' then 'whose requests an engine takes first: higher goes before lower, 0 where there is none'
    end as meaning
from hartonomous.limits l
where l.role_name in ('*', hartonomous._viewer(), session_user)
    or pg_has_role(hartonomous._viewer(), 'hartonomous_admin', 'usage');
comment on view hartonomous.limit_list is 'limits that apply to the caller or the session''s user, of which the stricter holds; to an admin all of them';
comment on column hartonomous.limit_list.name is 'which limit';
comment on column hartonomous.limit_list.role_name is 'role it is for; * for every role that has none of its own';
comment on column hartonomous.limit_list.value is 'the limit';
comment on column hartonomous.limit_list.meaning is 'what it bounds';

revoke all on function hartonomous.set_limit(text, bigint, text), hartonomous._limit_of(text, text[]),
    hartonomous._has_hourly_limit(text[]) from public;
grant execute on function hartonomous.set_limit(text, bigint, text) to hartonomous_admin;
grant select on hartonomous.limit_list to hartonomous_user, hartonomous_reader;
