-- What each role used, for whoever divides the costs

create or replace view hartonomous.role_usage with (security_barrier) as
select role, day, model, sum(calls)::bigint as calls, sum(prompt_tokens)::bigint as prompt_tokens, sum(tokens)::bigint as tokens,
    sum(seconds) as seconds
from (
    select caller as role, (created_at at time zone 'UTC')::date as day, model_name as model, 1 as calls,
        prompt_eval_count as prompt_tokens, eval_count as tokens, total_ns / 1e9 as seconds
    from hartonomous.runs
    union all
    select role, day, model, calls, prompt_tokens, tokens, seconds from hartonomous.past_usage) each
where array[role, ''] && (select hartonomous._visible_callers(hartonomous._viewer()))
    or pg_has_role(hartonomous._viewer(), 'hartonomous_admin', 'usage')
group by role, day, model;
comment on view hartonomous.role_usage is
    'recorded runs by role, day and model, deleted ones too: the caller''s own and those granted to it, to an admin everybody''s';
comment on column hartonomous.role_usage.role is 'role that asked';
comment on column hartonomous.role_usage.day is 'day of the calls, in UTC';
comment on column hartonomous.role_usage.model is 'name of the model then';
comment on column hartonomous.role_usage.calls is 'recorded calls';
comment on column hartonomous.role_usage.prompt_tokens is 'prompt tokens computed';
comment on column hartonomous.role_usage.tokens is 'tokens written';
comment on column hartonomous.role_usage.seconds is 'seconds of these calls, loading included';

grant select on hartonomous.role_usage to hartonomous_user, hartonomous_reader, hartonomous_admin;
