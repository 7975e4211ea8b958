create table tt (i int, s text, n numeric(5, 1));
create function trace() returns trigger language plv8 as $$
  plv8.elog(NOTICE, TG_NAME, TG_WHEN, TG_LEVEL, TG_OP, TG_TABLE_NAME, TG_TABLE_SCHEMA, JSON.stringify(TG_ARGV), typeof TG_RELID,
    JSON.stringify(NEW), JSON.stringify(OLD));
  if (TG_OP === 'UPDATE' && TG_WHEN === 'BEFORE' && TG_LEVEL === 'ROW') { NEW.i = 102; return NEW; }
  if (NEW && NEW.s === 'skip') return null;
  if (NEW && NEW.s === 'ignored') NEW.i = -1;
$$;
create trigger b_row before insert or update or delete on tt for each row execute function trace('x', 'y');
create trigger a_row after insert or update or delete on tt for each row execute function trace();
create trigger b_stmt before insert or truncate on tt for each statement execute function trace();
insert into tt values (1, 'a', 1.25), (2, 'skip', 2), (3, 'ignored', 3);
update tt set s = 'b' where i = 1;
select * from tt order by i;
delete from tt where i = 102;
truncate tt;
drop trigger b_row on tt;
drop trigger a_row on tt;
drop trigger b_stmt on tt;
-- typmods of changed columns, generated rows, a wrong return
create function round_it() returns trigger language plv8 as $$ NEW.n = 1.26; return NEW $$;
create trigger r before insert on tt for each row execute function round_it();
insert into tt values (1, 'x', 0);
select n from tt;
create or replace function round_it() returns trigger language plv8 as $$ return 5 $$;
insert into tt values (1, 'x', 0);
drop trigger r on tt;
-- transition tables and views
create function count_new() returns trigger language plv8 as $$ plv8.elog(NOTICE, plv8.execute('select count(*)::int as n from fresh')[0].n) $$;
create trigger c after insert on tt referencing new table as fresh for each statement execute function count_new();
insert into tt select i, 'm', 0 from generate_series(1, 5) i;
create view tv as select i, s from tt;
create function into_view() returns trigger language plv8 as $$ plv8.elog(NOTICE, TG_WHEN, NEW.s); plv8.execute('insert into tt values ($1, $2)', [NEW.i, NEW.s]); return NEW $$;
create trigger v instead of insert on tv for each row execute function into_view();
insert into tv values (9, 'view');
select i, s from tt where i = 9;
select trace();
