create role host_test_a;
-- roles of these tests write functions
grant usage on language plv8 to public;
create role host_test_b;
grant create, usage on schema public to host_test_a;
create function whoami() returns text language plv8 as $$ globalThis.who = globalThis.who || plv8.execute('select current_user as u')[0].u; return who $$;
set role host_test_a;
select whoami();
create function owned() returns text language plv8 security definer as $$ return plv8.execute('select current_user as u')[0].u + ' ' + globalThis.who $$;
set role host_test_b;
select whoami(), owned();
reset role;
select owned(), whoami() = current_user;
create function through() returns text language plv8 as $$ return plv8.execute('select owned() as o')[0].o $$;
set role host_test_b;
select through();
reset role;
-- a function that is first run as one role and then as another in one session
do $$ declare r text; begin
  for i in 1..20 loop
    execute 'set local role ' || case when i % 2 = 0 then 'host_test_a' else 'host_test_b' end;
    r := whoami();
    if r <> current_user then raise exception 'crossed: % %', r, current_user; end if;
    reset role;
  end loop;
end $$;
select plv8_reset();
set role host_test_a;
select whoami();
reset role;
drop function owned();
revoke all on schema public from host_test_a;
drop role host_test_a;
drop role host_test_b;
