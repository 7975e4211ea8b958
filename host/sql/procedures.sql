create table p (i int);
create procedure halves(n int) language plv8 as $$
  for (let i = 0; i < n; i++) { plv8.execute('insert into p values ($1)', [i]); if (i % 2 === 0) plv8.commit(); else plv8.rollback() }
$$;
call halves(6);
select array_agg(i order by i) from p;
begin;
call halves(2);
rollback;
create function in_function() returns void language plv8 as $$ plv8.commit() $$;
select in_function();
do $$ plv8.execute('insert into p values (50)'); plv8.commit(); plv8.execute('insert into p values (60)'); plv8.rollback() $$ language plv8;
select i from p where i >= 50;
create procedure gives(inout a int, in b int) language plv8 as $$ return { a: a + b } $$;
call gives(1, 2);
do $$ plv8.subtransaction(() => plv8.commit()) $$ language plv8;
