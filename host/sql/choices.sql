-- what a caller has chosen decides nothing in the isolate of a SECURITY DEFINER function's owner
-- roles of these tests write functions
grant usage on language plv8 to public;
create role host_test_owner;
create role host_test_caller login;
grant create, usage on schema public to host_test_owner;
set role host_test_owner;
create function owned() returns text language plv8 security definer as $$
  globalThis.calls = (globalThis.calls || 0) + 1;
  return [plv8.execute('select current_user::text as u')[0].u, globalThis.calls, typeof globalThis.started].join(' ');
$$;
create function slow() returns text language plv8 security definer as $$
  const end = Date.now() + 1500;
  while (Date.now() < end);
  return 'done';
$$;
create function named() returns text language plv8 security definer set plv8.context = 'named' as $$
  globalThis.calls = (globalThis.calls || 0) + 1;
  return globalThis.calls;
$$;
select plv8_reset();
reset role;
set session authorization host_test_caller;
create function pg_temp.start() returns void language plv8 as $$
  globalThis.started = plv8.execute('select current_user::text as u')[0].u;
  plv8.elog(NOTICE, 'start as ' + globalThis.started);
$$;
select plv8_reset();
-- a start procedure
set plv8.start_proc = 'pg_temp.start';
select owned();
do $$ plv8.elog(NOTICE, globalThis.started) $$ language plv8;
-- a start procedure that is a setting of the role
reset session authorization;
alter role host_test_caller set plv8.start_proc = 'public.nobody';
\c - host_test_caller
select owned();
do $$ plv8.elog(NOTICE, typeof globalThis.started) $$ language plv8;
\c - postgres
alter role host_test_caller reset plv8.start_proc;
-- one that was set before the library was loaded, by a function of the owner's
\c - host_test_caller
set plv8.start_proc = 'public.nobody';
select owned();
reset plv8.start_proc;
-- a context
set plv8.context = 'x';
select owned(), named();
do $$ plv8.elog(NOTICE, plv8.execute('select owned() as o')[0].o) $$ language plv8;
set plv8.context = 'y';
select owned();
reset plv8.context;
select owned(), named();
-- a time
set plv8.execution_timeout = 1;
select slow();
do $$ while (true); $$ language plv8;
reset plv8.execution_timeout;
-- what was chosen under another role stays behind with SET ROLE, and a function's choice with it
\c - postgres
create function public.start() returns void language plv8 as $$ plv8.elog(NOTICE, 'start') $$;
set role host_test_caller;
set plv8.start_proc = 'public.start';
reset role;
select plv8_reset();
do $$ plv8.elog(NOTICE, 'no more') $$ language plv8;
-- the server's choice counts, in a SECURITY DEFINER function by its full name
alter role all set plv8.start_proc = 'start';
\c - host_test_caller
do $$ plv8.elog(NOTICE, 'after start') $$ language plv8;
select owned();
\c - postgres
alter role all set plv8.start_proc = 'public.start';
\c - host_test_caller
set plv8.start_proc = 'pg_temp.start';
select owned();
\c - postgres
alter role all reset plv8.start_proc;
drop function owned(), slow(), named(), public.start();
revoke all on schema public from host_test_owner;
drop role host_test_owner;
drop role host_test_caller;
