create table s (i int, t text);
do $$
  const say = (...a) => plv8.elog(NOTICE, ...a.map((x) => (typeof x === 'string' ? x : JSON.stringify(x))));
  say(plv8.execute('insert into s select i, $1 || i from generate_series(1, $2) i', ['t', 4]));
  say(plv8.execute('select * from s where i > $1 order by i', 2));
  say(plv8.execute('update s set t = upper(t) where i < 3 returning i, t'));
  say(plv8.execute('delete from s where i = 99'));
  say(plv8.execute('show search_path').length, plv8.execute('explain (costs off) select 1').length > 0);
  say(plv8.execute('create table made (x int)'), plv8.execute('drop table made'));
  say(plv8.execute('select 1 as a where false'));
  say(plv8.execute('select $1::int as a, $2 as b, $3::jsonb as c, $4::date as d', [null, 'x', { k: [1] }, new Date(0)]));
  const plan = plv8.prepare('select * from s where i = $1 and t = $2', ['int', 'text']);
  say(plan.execute([3, 't3']), plan.execute(3, 't3').length);
  try { plan.execute([1]) } catch (e) { say(e.message) }
  plan.free();
  try { plan.execute([1, 'x']) } catch (e) { say(e.message) }
  const deduced = plv8.prepare('select i from s where i = $1');
  say(deduced.execute(['3']));
  deduced.free();
  const cursor = plv8.prepare('select i from s order by i').cursor();
  say(cursor.fetch(), cursor.fetch(2));
  cursor.move(-1);
  say(cursor.fetch(5), cursor.fetch(-1));
  cursor.move(100);
  say(String(cursor.fetch()), String(cursor.fetch(3)));
  cursor.close();
  try { cursor.fetch() } catch (e) { say(e.message) }
  try { cursor.fetch.apply(null) } catch (e) { say(e.message) }
  const other = plv8.prepare('select 1');
  try { other.execute.call(cursor) } catch (e) { say(e.message) }
  try { cursor.fetch.call(other) } catch (e) { say(e.message) }
  for (const bad of ['selec', 'select * from nowhere', '']) {
    try { say(bad, plv8.execute(bad)) } catch (e) { say(bad, e.sqlerrcode) }
  }
  try { plv8.prepare('select $1', ['no_such_type']) } catch (e) { say(e.sqlerrcode) }
  say(plv8.quote_literal("it's"), plv8.quote_nullable(null), plv8.quote_nullable('n'), plv8.quote_ident('Sel ect'));
$$ language plv8;
-- subtransactions
do $$
  try {
    plv8.subtransaction(() => { plv8.execute('insert into s values (100)'); plv8.execute('select 1 / 0') });
  } catch (e) { plv8.elog(NOTICE, e.message) }
  plv8.elog(NOTICE, plv8.subtransaction(() => { plv8.execute('insert into s values (200)'); return 'kept' }));
  try { plv8.subtransaction(() => { plv8.execute('insert into s values (300)'); throw new Error('mine') }) } catch (e) { plv8.elog(NOTICE, e.message) }
  plv8.subtransaction(() => {
    plv8.execute('insert into s values (400)');
    try { plv8.subtransaction(() => { plv8.execute('insert into s values (500)'); throw 1 }) } catch (e) {}
  });
$$ language plv8;
select i from s where i >= 100 order by i;
-- a plan cannot be freed while it runs
create function free_global() returns int language plv8 as $$ globalThis.running_plan.free(); return 1 $$;
do $$ globalThis.running_plan = plv8.prepare('select free_global()'); running_plan.execute() $$ language plv8;
create function volatile_write() returns int language plv8 stable as $$ return plv8.execute('insert into s values (600)') $$;
select volatile_write();
do $$ plv8.elog(NOTICE, plv8.nullable(null), plv8.nullable("a'b")) $$ language plv8;
do $$ plv8.execute('select $1::int + $2::int', [1]) $$ language plv8;
do $$ const c = plv8.prepare('select 1 as n').cursor(); c.move(); plv8.elog(NOTICE, c.fetch().n, c.close()); c.close() $$ language plv8;
