-- Recorded runs: who sees them, and how they go. A caller sees its own runs and those that an admin granted.

create or replace function hartonomous._visible_callers(viewer text) returns text[]
language sql stable parallel safe security definer set search_path = hartonomous, pg_temp
as $$
    -- a role may have the name *, none has the empty one
    select array_append(array_agg(case g.caller when '*' then '' else g.caller end), viewer) from hartonomous.run_grants g
    where exists (
        select from pg_roles granted, pg_roles own
        where granted.rolname = g.reader and own.rolname = viewer
            and pg_has_role(own.oid, granted.oid, 'member') and pg_has_role(hartonomous._caller(), own.oid, 'member'))
$$;
comment on function hartonomous._visible_callers(text) is
    'roles whose runs the caller, or a role that it may become, sees: its own, and those granted to it; an empty name stands for everybody';

create or replace function hartonomous._sees_runs_of(caller text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
begin
    -- What a superuser's ANALYZE, REINDEX or REFRESH runs is the table's owner's, and sees nothing of the superuser's. Whom it
    -- runs for is not to be known here; that such a thing goes on, PostgreSQL says where a cursor is to outlast it.
    begin
        execute 'declare hartonomous_lasting cursor with hold for select';
        execute 'close hartonomous_lasting';
    exception when insufficient_privilege then
        raise exception using errcode = 'insufficient_privilege',
            message = 'recorded runs cannot be read for an index or a materialized view';
    end;
    return hartonomous._visible_callers(hartonomous._caller()) && array[_sees_runs_of.caller, ''];
end
$$;
comment on function hartonomous._sees_runs_of(text) is
    'whether the caller sees the runs of this role; an error where an index or a materialized view is computed';

create or replace function hartonomous._record_run(run text) returns bigint
language plpgsql volatile set search_path = hartonomous, pg_temp
as $$
declare
    given constant json := run;
    read constant integer[] := given->>'prompt_ids';
    written constant integer[] := given->>'output_ids';
    recorded bigint;
begin
    -- Recording a run pays for a few that are older than limit retention_days says, but those that another transaction holds.
    delete from hartonomous.runs where id in (
        select r.id from hartonomous.runs r
        cross join lateral (
            select l.value from hartonomous.limits l where l.name = 'retention_days' and l.role_name in ('*', r.caller)
            order by l.role_name = '*' limit 1) l
        where r.created_at < now() - l.value * interval '1 day'
            and r.created_at < (select now() - min(m.value) * interval '1 day' from hartonomous.limits m where m.name = 'retention_days')
        order by r.created_at limit 100 for update of r skip locked);
    -- Its model is named, not referred to: that would lock the row of the model.
    insert into hartonomous.runs (caller, kind, model_name, model_digest, options, seed, prompt_ids, output_ids, done_reason,
        prompt_eval_count, eval_count, load_ns, prompt_eval_ns, eval_ns, total_ns, sampling, held_as, build_id, created_at,
        prompt_parts, end_id, end_logit)
    select g.caller, g.kind, g.model_name, decode(g.model_digest, 'hex'), g.options::jsonb, g.seed, read, written, g.done_reason, g.prompt_eval_count, g.eval_count, g.load_ns, g.prompt_eval_ns, g.eval_ns,
        g.total_ns, g.sampling::jsonb, g.held_as, g.build_id, to_timestamp(g.started_ms / 1000), g.prompt_parts::jsonb, g.end_id,
        g.end_logit::real
    from json_to_record(given) as g (caller text, kind text, model_name text, model_digest text, options text, seed bigint,
        done_reason text, prompt_eval_count integer, eval_count integer, load_ns bigint,
        prompt_eval_ns bigint, eval_ns bigint, total_ns bigint, sampling text, held_as text, build_id text, started_ms float8,
        prompt_parts text, end_id integer, end_logit text)
    returning id into recorded;
    insert into hartonomous.run_tokens (run_id, position, token_id, token, is_prompt, logprob, logit, text)
    select recorded, t.ordinality - 1, t.id, t.token, t.ordinality <= cardinality(read), t.logprob, t.logit, t.text
    from unnest(read || written, array(select json_array_elements_text(given->'tokens')), (given->>'logprobs')::real[],
        (given->>'logits')::real[], array(select json_array_elements_text(given->'texts')))
        with ordinality as t (id, token, logprob, logit, text, ordinality);
    return recorded;
end
$$;
comment on function hartonomous._record_run(text) is
    'record a run and its tokens, as the bundle describes them in JSON, and delete a few runs whose retention is over; the run''s id';
revoke all on function hartonomous._record_run(text) from public;

create or replace function hartonomous.grant_runs(reader text, caller text default '*') returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
begin
    if to_regrole(quote_ident(grant_runs.reader)) is null then
        raise exception using errcode = 'undefined_object',
            message = format('role %s does not exist', left(coalesce(grant_runs.reader, 'null'), 200));
    end if;
    -- a role that is gone may have left runs
    if grant_runs.caller is distinct from '*' and to_regrole(quote_ident(grant_runs.caller)) is null
        and not exists (select from hartonomous.runs r where r.caller = grant_runs.caller) then
        raise exception using errcode = 'undefined_object',
            message = format('role %s does not exist and has left no runs', left(coalesce(grant_runs.caller, 'null'), 200));
    end if;
    insert into hartonomous.run_grants (reader, caller) values (grant_runs.reader, grant_runs.caller) on conflict do nothing;
end
$$;
comment on function hartonomous.grant_runs(text, text) is
    'let the members of a role see the recorded runs and explanations of another, or with * of everybody';

create or replace function hartonomous.revoke_runs(reader text, caller text default '*') returns boolean
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    with gone as (
        delete from hartonomous.run_grants g where g.reader = revoke_runs.reader and g.caller = revoke_runs.caller returning 1
    )
    select exists (select from gone)
$$;
comment on function hartonomous.revoke_runs(text, text) is 'take back what grant_runs gave; whether there was such a grant';

create or replace view hartonomous.run_grant_list with (security_barrier) as
select g.reader, g.caller, g.granted_at from hartonomous.run_grants g
where pg_has_role(hartonomous._viewer(), 'hartonomous_admin', 'usage')
    or exists (
        select from pg_roles granted
        where granted.rolname = g.reader and pg_has_role(hartonomous._viewer(), granted.oid, 'member'));
comment on view hartonomous.run_grant_list is 'whose runs the caller was granted, beside its own; to an admin all such grants';
comment on column hartonomous.run_grant_list.reader is 'role whose members see them';
comment on column hartonomous.run_grant_list.caller is 'role whose runs they are; * for everybody''s';
comment on column hartonomous.run_grant_list.granted_at is 'when';

create or replace function hartonomous._prune_everybody(older_than interval) returns bigint
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    with old as (select r.id from hartonomous.runs r where r.created_at < now() - older_than for update skip locked),
        pruned as (delete from hartonomous.runs r using old where r.id = old.id returning 1)
    select count(*) from pruned
$$;
comment on function hartonomous._prune_everybody(interval) is 'prune_runs for an admin, everybody''s runs, but those that another transaction explains or deletes';

-- What a limit counts stays: runs of the caller, and those that others under a limit made in the caller's role.
create or replace function hartonomous._prune_own(older_than interval) returns bigint
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    own constant text[] := array[hartonomous._caller(), session_user::text];
    is_admin constant boolean := pg_has_role(hartonomous._caller(), 'hartonomous_admin', 'member');
    n bigint;
begin
    if not is_admin then
        if hartonomous._limit_of('recording', own) > 0 then
            raise exception using errcode = 'insufficient_privilege',
                message = format('limit recording keeps the runs of role %s', own[1]),
                hint = 'have an admin prune them, or set limit retention_days';
        end if;
        -- Compared as times: an interval of months and days may be longer than an hour and yet end later.
        if now() - older_than > now() - interval '1 hour' and hartonomous._has_hourly_limit(own) then
            raise exception using errcode = 'insufficient_privilege',
                message = format('limits count the runs of role %s within an hour, these cannot be pruned', own[1]),
                hint = 'prune those that are older than an hour';
        end if;
    end if;
    delete from hartonomous.runs r
    where r.created_at < now() - older_than and r.caller = own[1] and (is_admin or r.login = any (own)
        or coalesce(hartonomous._limit_of('recording', array[r.login]), 0) = 0
            and (r.created_at < now() - interval '1 hour' or not hartonomous._has_hourly_limit(array[r.login])));
    get diagnostics n = row_count;
    return n;
end
$$;
comment on function hartonomous._prune_own(interval) is 'prune_runs for the caller''s own runs';

-- Not with the owner's rights: whether everybody's runs may go depends on who really asks.
create or replace function hartonomous.prune_runs(older_than interval default '30 days', everybody boolean default false)
returns bigint
language plpgsql volatile set search_path = hartonomous, pg_temp
as $$
begin
    if not everybody then
        return hartonomous._prune_own(older_than);
    end if;
    if not pg_has_role(current_user, 'hartonomous_admin', 'usage') then
        raise exception using errcode = 'insufficient_privilege',
            message = format('role %s is not a member of hartonomous_admin and may prune its own runs only', current_user);
    end if;
    return hartonomous._prune_everybody(older_than);
end
$$;
comment on function hartonomous.prune_runs(interval, boolean) is
    'delete the caller''s runs, or an admin everybody''s, older than this, with their explanations; returns how many';

create or replace function hartonomous.erase_runs(role_name text) returns bigint
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
declare
    ids bigint[];
begin
    if not exists (select from hartonomous.runs r where r.caller = role_name) then
        raise exception using errcode = 'undefined_object',
            message = format('role %s has left no runs', left(coalesce(role_name, 'null'), 200));
    end if;
    -- Whoever explains one of them at this moment writes first, and then finds it erased.
    select coalesce(array_agg(locked.id), '{}') into ids from (
        select r.id from hartonomous.runs r where r.caller = role_name and r.erased_at is null order by r.id for update) locked;
    delete from hartonomous.run_tokens where run_id = any (ids);
    delete from hartonomous.connections where run_id = any (ids);
    delete from hartonomous.explained_tokens where run_id = any (ids);
    delete from hartonomous.component_rollups where run_id = any (ids);
    update hartonomous.runs set prompt_ids = '{}', output_ids = '{}', options = '{}', sampling = '{}', prompt_parts = null,
        end_id = null, end_logit = null, erased_at = now()
    where id = any (ids);
    return cardinality(ids);
end
$$;
comment on function hartonomous.erase_runs(text) is
    'take away what was said in the recorded runs of a role, with their explanations; who called what when, and how much it was, stays';

create or replace view hartonomous.run_list with (security_barrier) as
select id, created_at, caller, kind, model_name as model, encode(model_digest, 'hex') as model_digest, options, seed,
    prompt_ids, output_ids, done_reason, prompt_eval_count, eval_count, load_ns, prompt_eval_ns, eval_ns, total_ns,
    sampling, held_as, build_id, erased_at, prompt_parts, end_id, end_logit
from hartonomous.runs where array[caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.run_list is 'recorded generations: the caller''s own and those granted to it (run_grant_list)';
comment on column hartonomous.run_list.id is 'number of the run';
comment on column hartonomous.run_list.created_at is 'when the call began';
comment on column hartonomous.run_list.caller is 'role that asked';
comment on column hartonomous.run_list.kind is 'what was called: generate, complete, chat, stream or classify; logits where limit recording is 1';
comment on column hartonomous.run_list.model is 'name of the model then';
comment on column hartonomous.run_list.model_digest is 'SHA-256 of its file';
comment on column hartonomous.run_list.options is 'options as given';
comment on column hartonomous.run_list.seed is 'seed of the draws';
comment on column hartonomous.run_list.prompt_ids is 'tokens of the prompt';
comment on column hartonomous.run_list.output_ids is 'tokens written';
comment on column hartonomous.run_list.done_reason is 'stop or length';
comment on column hartonomous.run_list.prompt_eval_count is 'prompt tokens computed';
comment on column hartonomous.run_list.eval_count is 'tokens written';
comment on column hartonomous.run_list.load_ns is 'nanoseconds of loading';
comment on column hartonomous.run_list.prompt_eval_ns is 'nanoseconds over the prompt';
comment on column hartonomous.run_list.eval_ns is 'nanoseconds of writing';
comment on column hartonomous.run_list.total_ns is 'nanoseconds of the call';
comment on column hartonomous.run_list.sampling is 'settings of sampling, defaults included, and what the answer had to be';
comment on column hartonomous.run_list.held_as is 'how the matrices were held in memory';
comment on column hartonomous.run_list.build_id is 'build of the functions that wrote it';
comment on column hartonomous.run_list.erased_at is 'when an admin took away what was said (erase_runs); null where it is there';
comment on column hartonomous.run_list.prompt_parts is 'tokens [from, to) of the prompt that a message wrote, its role, and its place among the messages from 0, -1 for option system; what is in none is the template''s';
comment on column hartonomous.run_list.end_id is 'token by which the model ended its answer; null where something else did';
comment on column hartonomous.run_list.end_logit is 'its logit, before penalties';

create or replace view hartonomous.run_token_list with (security_barrier) as
select t.run_id, r.caller, t.position, case when not t.is_prompt then t.position - cardinality(r.prompt_ids) end as step,
    t.token_id, t.token, t.is_prompt, t.logprob, t.logit, t.text
from hartonomous.runs r join hartonomous.run_tokens t on t.run_id = r.id
where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.run_token_list is 'tokens of the recorded generations that the caller sees';
comment on column hartonomous.run_token_list.run_id is 'the run';
comment on column hartonomous.run_token_list.caller is 'role that asked';
comment on column hartonomous.run_token_list.position is 'place in the sequence, from 0';
comment on column hartonomous.run_token_list.step is 'place among the tokens written, from 0; null in the prompt';
comment on column hartonomous.run_token_list.token_id is 'the token';
comment on column hartonomous.run_token_list.token is 'the token by itself; part of a character is U+FFFD';
comment on column hartonomous.run_token_list.is_prompt is 'whether it belongs to the prompt';
comment on column hartonomous.run_token_list.logprob is 'log-probability when it was chosen; null in the prompt';
comment on column hartonomous.run_token_list.logit is 'logit when it was chosen; null in the prompt';
comment on column hartonomous.run_token_list.text is 'what became certain of the text with it: ordered by position these add up to prompt and answer';

create or replace view hartonomous.run_text_list with (security_barrier) as
select r.id, r.created_at, r.caller, r.kind, r.model_name as model, r.done_reason, r.eval_count,
    (select string_agg(t.text, '' order by t.position) from hartonomous.run_tokens t where t.run_id = r.id and t.is_prompt) as prompt,
    (select coalesce(string_agg(t.text, '' order by t.position), '') from hartonomous.run_tokens t
     where t.run_id = r.id and not t.is_prompt) as answer
from hartonomous.runs r where array[r.caller, ''] && (select hartonomous._visible_callers(hartonomous._viewer()));
comment on view hartonomous.run_text_list is 'recorded generations as texts: the caller''s own and those granted to it';
comment on column hartonomous.run_text_list.id is 'number of the run';
comment on column hartonomous.run_text_list.created_at is 'when the call began';
comment on column hartonomous.run_text_list.caller is 'role that asked';
comment on column hartonomous.run_text_list.kind is 'what was called: generate, complete, chat, stream or classify; logits where limit recording is 1';
comment on column hartonomous.run_text_list.model is 'name of the model then';
comment on column hartonomous.run_text_list.done_reason is 'stop or length';
comment on column hartonomous.run_text_list.eval_count is 'tokens written';
comment on column hartonomous.run_text_list.prompt is 'what the model read, with the template''s special tokens by name';
comment on column hartonomous.run_text_list.answer is 'all that it wrote, thinking and stop strings too';

revoke all on function hartonomous._visible_callers(text), hartonomous._sees_runs_of(text), hartonomous.grant_runs(text, text),
    hartonomous.revoke_runs(text, text), hartonomous.prune_runs(interval, boolean), hartonomous._prune_own(interval),
    hartonomous._prune_everybody(interval), hartonomous.erase_runs(text) from public;
grant execute on function hartonomous._visible_callers(text), hartonomous._sees_runs_of(text) to hartonomous_user, hartonomous_reader;
grant execute on function hartonomous.prune_runs(interval, boolean), hartonomous._prune_own(interval) to hartonomous_user;
grant execute on function hartonomous._prune_everybody(interval), hartonomous.grant_runs(text, text), hartonomous.revoke_runs(text, text), hartonomous.erase_runs(text)
    to hartonomous_admin;
grant select on hartonomous.run_list, hartonomous.run_token_list, hartonomous.run_text_list, hartonomous.run_grant_list to hartonomous_user, hartonomous_reader;
