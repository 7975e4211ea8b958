create function bytes_kind(bytea) returns text language plv8 as $$ return $1.constructor.name + ' ' + Array.from($1).join(',') $$;
select bytes_kind('\x00ff10'), bytes_kind('');
create function flip(bytea) returns bytea language plv8 as $$ $1.reverse(); return $1 $$;
select flip('\x010203'), flip('');
create function window_of() returns bytea language plv8 as $$ return new Uint8Array([1, 2, 3, 4, 5]).subarray(1, 3) $$;
select window_of();
create function buffer() returns bytea language plv8 as $$ return new ArrayBuffer(3) $$;
select buffer();
create function text_bytes() returns bytea language plv8 as $$ return '\\x0a0b' $$;
select text_bytes();
create function float_bytes() returns bytea language plv8 as $$ return new Float32Array(2) $$;
select float_bytes();
-- the copy is the function's own
create table b (v bytea);
alter table b alter v set storage external;
insert into b select decode(repeat('ab', 300000), 'hex');
create function scribble(bytea) returns int language plv8 as $$ $1.fill(0); return $1.length $$;
select scribble(v) from b;
select substr(v, 1, 2) from b;
-- rows of a megabyte through a cursor, more than the memory limit in all
insert into b select decode(repeat('cd', 1 << 20), 'hex') from generate_series(1, 300);
do $$
  const plan = plv8.prepare('select v from b where length(v) = 1 << 20');
  const cursor = plan.cursor();
  let row, bytes = 0;
  while ((row = cursor.fetch())) bytes += row.v.length;
  cursor.close();
  plan.free();
  plv8.elog(NOTICE, bytes);
$$ language plv8;
