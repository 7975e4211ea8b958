-- plv8.engine: a process of the database that answers what functions of the segment role ask
create role host_test_engine;
grant create on database hartonomous_v8_regression to host_test_engine;
grant usage on language plv8 to public;
alter database hartonomous_v8_regression set hartonomous_v8.segment_role = 'host_test_engine';
\c -
set role host_test_engine;
create schema hartonomous;
create table hartonomous.locked ();
-- It answers each request with its texts, one by one, in upper case; "end" ends the process.
create function hartonomous._engine_turn() returns boolean language plv8 security definer as $$
  const { engine } = plv8;
  if (!engine.serving()) return false;
  for (const [id, role, text] of engine.take()) {
    if (text === 'end') throw new Error('ended');
    if (text === 'never') continue;
    if (text === 'locked') plv8.execute('select from hartonomous.locked');
    for (const word of text.split(' ')) engine.send(id, role + ' ' + word.toUpperCase());
    engine.send(id, '.');
    engine.finish(id);
  }
  return false;
$$;
create function hartonomous.asks(text text) returns text language plv8 security definer as $$
  const heard = [];
  if (!plv8.engine.usable()) return 'not usable';
  const end = plv8.engine.ask(7, text, (answer) => answer === '.' || (heard.push(answer), false));
  return heard.length > 9 ? end + ' ' + heard.length + ' ' + heard.at(-1) : [end, ...heard].join(', ');
$$;
reset role;
select hartonomous.asks('off');
set hartonomous_v8.engine = on;
select hartonomous.asks('one two'), hartonomous.asks('größer 世界');
select hartonomous.asks(repeat('many ', 100000) || 'last');
select length(hartonomous.asks(repeat('x', 9000000))) as length;
-- a visitor that throws, one that is cancelled, an engine that fails
create function hartonomous.throws() returns text language plv8 security definer as $$
  return plv8.engine.ask(7, 'one two', () => { throw new Error('enough') });
$$;
alter function hartonomous.throws() owner to host_test_engine;
select hartonomous.throws();
set statement_timeout = 50;
select hartonomous.asks('never');
reset statement_timeout;
select hartonomous.asks('end');
select hartonomous.asks('again');
-- whoever holds a lock that the engine waits for
begin;
lock table hartonomous.locked;
set local statement_timeout = '20s';
select hartonomous.asks('locked');
commit;
select hartonomous.asks('again');
set hartonomous_v8.engine_requests = 65;
-- others may not
do $$ plv8.elog(NOTICE, plv8.engine.usable(), plv8.engine.serving()); plv8.engine.ask(7, 'x', () => true) $$ language plv8;
do $$ plv8.engine.take() $$ language plv8;
set role host_test_engine;
set hartonomous_v8.engine = off;
reset role;
reset hartonomous_v8.engine;
select count(pg_terminate_backend(pid, 5000)) as ended from pg_stat_activity where backend_type = 'hartonomous engine';
drop schema hartonomous cascade;
alter database hartonomous_v8_regression reset hartonomous_v8.segment_role;
revoke all on database hartonomous_v8_regression from host_test_engine;
drop role host_test_engine;
