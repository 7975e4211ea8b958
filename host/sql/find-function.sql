create function callee(a int) returns int language plv8 as $$ return a * a $$;
-- roles of these tests write functions
grant usage on language plv8 to public;
create function callee_sql(int) returns int language sql as 'select $1';
do $$ plv8.elog(NOTICE, plv8.find_function('callee')(5), plv8.find_function('callee(int)')(6)) $$ language plv8;
do $$ plv8.find_function('callee_sql') $$ language plv8;
do $$ plv8.find_function('callee(text)') $$ language plv8;
do $$ plv8.find_function('nobody') $$ language plv8;
create function hidden(internal, internal) returns void language plv8 as $$ return $1 + $2 $$;
do $$ plv8.elog(NOTICE, plv8.find_function('hidden')(1, 2)) $$ language plv8;
create role host_test_stranger;
create function secret() returns int language plv8 as $$ return 1 $$;
revoke execute on function secret() from public;
set role host_test_stranger;
do $$ plv8.elog(NOTICE, typeof plv8.find_function('secret')) $$ language plv8;
do $$ plv8.elog(NOTICE, typeof plv8.find_function('secret()')) $$ language plv8;
reset role;
drop role host_test_stranger;
