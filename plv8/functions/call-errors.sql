-- Errors of this backend

create or replace function hartonomous._call_errors(out "sqlstate" text, out errors bigint, out last_at timestamptz)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 5 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.callErrors()}} $$;
comment on function hartonomous._call_errors() is 'errors of the calls of this backend, by SQLSTATE';

create or replace view hartonomous.call_errors as
select pg_backend_pid() as pid, counted.* from hartonomous._call_errors() as counted;
comment on view hartonomous.call_errors is 'errors of the calls of this backend since its bundle was loaded, by SQLSTATE';
comment on column hartonomous.call_errors.pid is 'process id of this backend';
comment on column hartonomous.call_errors."sqlstate" is
    'code of the error; 57014 are calls that were cancelled, timed out or ended at plv8.memory_limit';
comment on column hartonomous.call_errors.errors is 'number of calls that ended with it';
comment on column hartonomous.call_errors.last_at is 'when the last of them ended, or was found to have been cut off';

revoke all on function hartonomous._call_errors() from public;
grant execute on function hartonomous._call_errors() to hartonomous_user, hartonomous_reader;
grant select on hartonomous.call_errors to hartonomous_user, hartonomous_reader;
