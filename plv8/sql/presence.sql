-- Which backends hold which models, the errors they had, and freeing models everywhere.

create or replace view hartonomous.loaded_everywhere as
select m.name as model, l.pid, a.usename as "user", a.application_name, a.state, a.query_start
from pg_catalog.pg_locks l
join hartonomous.models m on m.id = l.objid::bigint and m.state = 'ready'
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = x'48415254'::integer::oid and l.objsubid = 2 and l.granted
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
order by m.name, l.pid;
comment on view hartonomous.loaded_everywhere is
    'the backends of this server that hold a model in memory, known by their shared advisory locks';
comment on column hartonomous.loaded_everywhere.model is 'name of the model';
comment on column hartonomous.loaded_everywhere.pid is 'process id of the backend';
comment on column hartonomous.loaded_everywhere."user" is 'role that is connected';
comment on column hartonomous.loaded_everywhere.application_name is 'name the client gave';
comment on column hartonomous.loaded_everywhere.state is 'what the backend does; null where the reader may not know';
comment on column hartonomous.loaded_everywhere.query_start is 'when its latest statement began; null where the reader may not know';

create or replace view hartonomous.call_errors_everywhere as
select l.pid, a.usename as "user", a.application_name, a.state, l.objid::bigint as errors
from pg_catalog.pg_locks l
left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.classid = x'48455252'::integer::oid and l.objsubid = 2 and l.granted
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
order by l.objid desc, l.pid;
comment on view hartonomous.call_errors_everywhere is
    'the backends of this server whose calls had errors, known by a shared advisory lock each; call_errors has the SQLSTATEs of one''s own';
comment on column hartonomous.call_errors_everywhere.pid is 'process id of the backend';
comment on column hartonomous.call_errors_everywhere."user" is 'role that is connected';
comment on column hartonomous.call_errors_everywhere.application_name is 'name the client gave';
comment on column hartonomous.call_errors_everywhere.state is 'what the backend does; null where the reader may not know';
comment on column hartonomous.call_errors_everywhere.errors is 'calls that ended with an error; one that was cut off is counted at the next call';

create or replace function hartonomous.stop_model(model text) returns bigint
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
begin
    update hartonomous.models m set unload_generation = m.unload_generation + 1
    where m.name = stop_model.model and m.state = 'ready';
    if not found then
        raise exception using errcode = 'undefined_object', message = format('model %s does not exist', left(stop_model.model, 200)),
            hint = 'names are in hartonomous.model_list';
    end if;
    return (select count(*) from hartonomous.loaded_everywhere e where e.model = stop_model.model);
end
$$;
comment on function hartonomous.stop_model(text) is
    'let every backend free a model at its next call; returns how many backends hold it now';

revoke all on function hartonomous.stop_model(text) from public;
grant execute on function hartonomous.stop_model(text) to hartonomous_admin;
grant select on hartonomous.loaded_everywhere, hartonomous.call_errors_everywhere to hartonomous_user, hartonomous_reader, hartonomous_admin;
