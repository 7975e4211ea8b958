-- memory stays flat after warm-up: growth of the process over many calls, in MB, must stay under a bound
-- roles of these tests write functions
grant usage on language plv8 to public;
create function resident_mb() returns int language sql as $$ select (regexp_match(pg_read_file('/proc/self/status'), 'VmRSS:\s+(\d+)'))[1]::int / 1024 $$;
create function take(t text, b bytea, j jsonb) returns int language plv8 as $$ return t.length + b.length + j.a.length $$;
create function fails() returns void language plv8 as $$ throw Object.assign(new Error('x'.repeat(100)), { sqlerrcode: '22023' }) $$;
create function catches(n int) returns int language plv8 as $$
  let caught = 0;
  for (let i = 0; i < n; i++) { try { plv8.execute('select fails()') } catch (e) { caught++ } }
  return caught;
$$;
create role host_test_memory;
grant execute on all functions in schema public to host_test_memory;
create procedure switch_roles(n int) language plpgsql as $$
begin
  for i in 1..n loop
    set local role host_test_memory;
    perform take('x', '\x00', '{"a": []}');
    reset role;
    perform take('x', '\x00', '{"a": []}');
  end loop;
end $$;
create table measured (phase text, mb int);
create procedure all_of_it(calls int, errors int, switches int) language plpgsql as $$
begin
  perform sum(take(repeat('t', 1000), convert_to(repeat('b', 5000), 'UTF8'), '{"a": [1, 2, 3]}')) from generate_series(1, calls);
  perform catches(errors);
  call switch_roles(switches);
end $$;
call all_of_it(20000, 2000, 200);
call all_of_it(20000, 2000, 200);
insert into measured select 'after warm-up', resident_mb();
call all_of_it(100000, 10000, 1000);
insert into measured select 'after 100000 calls, 10000 caught errors, 1000 role switches', resident_mb();
select 'grew too much: ' || string_agg(phase || ' ' || mb || ' MB', ', ') as problem from measured having max(mb) filter (where phase <> 'after warm-up') > max(mb) filter (where phase = 'after warm-up') + 24;
drop function resident_mb();
revoke all on all functions in schema public from host_test_memory;
drop role host_test_memory;
