-- MERGE ... RETURNING gives its rows from PostgreSQL 17 on (merge.out); before that it is a syntax error (merge_1.out).
create temp table merged (id int primary key, v text);
insert into merged values (1, 'a'), (2, 'b');
do $$
  const rows = plv8.execute(`merge into merged m using (values (1, 'x'), (3, 'c')) s(id, v) on m.id = s.id
    when matched then update set v = s.v when not matched then insert values (s.id, s.v)
    returning merge_action(), m.id, m.v`);
  plv8.elog(NOTICE, JSON.stringify(rows));
$$ language plv8;
do $$
  const plan = plv8.prepare(`merge into merged m using (values (2)) s(id) on m.id = s.id when matched then delete returning m.*`);
  plv8.elog(NOTICE, JSON.stringify(plan.execute([])));
  plan.free();
  const typed = plv8.prepare(`merge into merged m using (values ($1)) s(v) on m.id = 4 when not matched then insert values (4, s.v)
    returning m.id, m.v`, ['text']);
  plv8.elog(NOTICE, JSON.stringify(typed.execute(['d'])));
  typed.free();
$$ language plv8;
-- Without RETURNING it is the number of rows everywhere.
do $$
  plv8.elog(NOTICE, plv8.execute(`merge into merged m using (values (1), (9)) s(id) on m.id = s.id
    when matched then update set v = 'y' when not matched then insert values (s.id, 'new')`));
$$ language plv8;
select * from merged order by id;
