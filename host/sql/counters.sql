-- plv8.counters: functions of the segment role count, nobody else, and no rollback takes it back
create role host_test_counting;
grant create, usage on schema public to host_test_counting;
grant usage on language plv8 to public;
set hartonomous_v8.segment_role = 'host_test_counting';
set role host_test_counting;
create function count_for(role bigint, what integer, amount integer) returns double precision language plv8 security definer as $$
  return plv8.counters.usable() ? plv8.counters.add(Number(role), what, amount) : -1;
$$;
reset role;
select count_for(7, 0, 1), count_for(7, 0, 2), count_for(7, 1, 1), count_for(8, 0, 0);
begin;
select count_for(7, 0, 10);
rollback;
begin read only;
select count_for(7, 0, 100);
commit;
-- (what is taken back is that of the running minute)
select count_for(7, 0, -13) in (100, 113) as less;
select count_for(7, 256, 1);
-- in another connection, too
select count_for(9, 0, 5);
\c -
set hartonomous_v8.segment_role = 'host_test_counting';
select count_for(9, 0, 0), count_for(7, 1, 0);
-- others may not
do $$ plv8.elog(NOTICE, plv8.counters.usable()); plv8.counters.add(7, 0, 1) $$ language plv8;
do $$ plv8.rollback_note('x') $$ language plv8;
reset hartonomous_v8.segment_role;
select count_for(7, 0, 1);
drop function count_for(bigint, integer, integer);
revoke all on schema public from host_test_counting;
drop role host_test_counting;
