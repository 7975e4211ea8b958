\set VERBOSITY verbose
\set SHOW_CONTEXT always
create function thrower() returns void language plv8 as $$
  throw new Error('plain');
$$;
\set VERBOSITY default
select thrower();
create function typed() returns void language plv8 as $$ null.x $$;
select typed();
create function thrown_text() returns void language plv8 as $$ throw 'just text' $$;
select thrown_text();
create function thrown_null() returns void language plv8 as $$ throw null $$;
select thrown_null();
create function bad_text() returns void language plv8 as $$ throw { toString() { throw 1 } } $$;
select bad_text();
create function full() returns void language plv8 as $$
  throw Object.assign(new Error('whole'), { sqlerrcode: '23514', detail: 'the detail', hint: 'the hint',
    schema_name: 's', table_name: 't', column_name: 'c', constraint_name: 'k', datatype_name: 'd' });
$$;
do $$ declare m text; d text; h text; st text; s text; t text; c text; k text; y text; begin
  perform full();
exception when others then
  get stacked diagnostics m = message_text, d = pg_exception_detail, h = pg_exception_hint, st = returned_sqlstate,
    s = schema_name, t = table_name, c = column_name, k = constraint_name, y = pg_datatype_name;
  raise notice '% % % % % % % % %', m, d, h, st, s, t, c, k, y;
end $$;
-- from PostgreSQL to JavaScript and back
create table keyed (id int primary key);
insert into keyed values (1);
do $$
  try {
    plv8.execute('insert into keyed values (1)');
  } catch (e) {
    plv8.elog(NOTICE, e.message, '|', e.sqlerrcode, typeof e.code, e.detail, e.table_name, e.constraint_name, e.schema_name);
    plv8.elog(NOTICE, plv8.execute('select count(*)::int as n from keyed')[0].n);
  }
$$ language plv8;
create function inner_error() returns void language plv8 as $$ plv8.execute('insert into keyed values (1)') $$;
create function outer_error() returns void language plv8 as $$ plv8.execute('select inner_error()') $$;
select outer_error();
do $$ begin perform outer_error(); exception when unique_violation then raise notice 'caught %', sqlstate; end $$;
-- elog
do $$ plv8.elog(WARNING, 'w', 1, null, [1, 2], { a: 1 }); plv8.elog(INFO, 'i'); try { plv8.elog(ERROR, 'e') } catch (e) { plv8.elog(NOTICE, String(e)) } $$ language plv8;
do $$ plv8.elog(ERROR, 'stop') $$ language plv8;
do $$ plv8.elog(99, 'no such level') $$ language plv8;
do $$ plv8.elog(NOTICE) $$ language plv8;
-- an error in another function's code also names the function that was called
create function load_shelf() returns void language plv8 as $$
  globalThis.shelf = { fail() { throw new Error('on the shelf') }, query() { plv8.execute('select 1 / 0') } };
$$;
create function user_of_shelf(method text) returns void language plv8 as $$ shelf[method]() $$;
select load_shelf(), user_of_shelf('fail');
select user_of_shelf('query');
create function user_of_function() returns void language plv8 as $$ plv8.find_function('thrower')() $$;
select user_of_function();
create function guard() returns trigger language plv8 as $$ shelf.fail() $$;
create trigger guard before update on keyed for each row execute function guard();
update keyed set id = 2;
do $$ shelf.fail() $$ language plv8;
