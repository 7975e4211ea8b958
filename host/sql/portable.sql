-- hartonomous_v8.portable: as PL/V8 3.2 does it; what ends its connection or server is refused
create schema portable;
set search_path = portable;
set hartonomous_v8.portable = on;
create function floats() returns real[] language plv8 as $$ return new Float32Array(2) $$;
select floats();
create function nested() returns int[] language plv8 as $$ return [[1, 2], [3, 4]] $$;
select nested();
create function elements(a int[]) returns text language plv8 as $$ return JSON.stringify(a) $$;
select elements(array[[1, 2], [3, 4]]), elements('{}'), elements(array[1, null]);
create function bytes_of(n int) returns bytea language plv8 as $$ return new Uint8Array(n) $$;
select bytes_of(2);
-- errors
\set SHOW_CONTEXT always
create function failing(code text) returns void language plv8 as $$
  throw Object.assign(new Error('with a code'), { code: JSON.parse(code), detail: 'the detail', hint: 'the hint', table_name: 't' });
$$;
do $$ begin perform failing('67137668'); exception when undefined_object then raise notice '% %', sqlstate, sqlerrm; end $$;
select failing('67137668');
select failing('"42704"');
do $$ throw Object.assign(new RangeError('far'), { sqlerrcode: '42704' }) $$ language plv8;
create function shelve() returns void language plv8 as $$ globalThis.fail = () => { throw new Error('of another function') } $$;
create function use() returns void language plv8 as $$ fail() $$;
select shelve(), use();
\set SHOW_CONTEXT errors
-- cursors, parameters, messages, stored values
do $$
  const cursor = plv8.prepare('select 1 / (2 - g) as q from generate_series(1, 3) g', []).cursor([]);
  plv8.elog(NOTICE, JSON.stringify(cursor.fetch(1)));
  try { cursor.fetch(1) } catch (e) { plv8.elog(NOTICE, e.message) }
$$ language plv8;
do $$ try { plv8.execute('select $1::integer', ['x']) } catch (e) { plv8.elog(NOTICE, e.message) } $$ language plv8;
do $$ try { plv8.prepare('select $1', ['integer']).execute(['x']) } catch (e) { plv8.elog(NOTICE, e.message) } $$ language plv8;
set statement_timeout = 100;
do $$ for (const from = Date.now(); Date.now() - from < 300; ); plv8.elog(NOTICE, 'late') $$ language plv8;
reset statement_timeout;
create table stored (c bytea);
alter table stored alter c set storage external;
insert into stored values (convert_to(repeat('x', 10000), 'UTF8'));
do $$
  try { plv8.execute('select c from stored') } catch (e) { plv8.elog(NOTICE, e.message) }
  plv8.elog(NOTICE, plv8.execute(`select c || '' as c from stored`)[0].c.length);
$$ language plv8;
-- rows have the columns and nothing else
create function rows_of(n int) returns table (a int, b int) language plv8 as $$
  plv8.return_next(n === 2 ? { b: 2, a: 1 } : { a: 1, b: 2, c: 3 });
$$;
select * from rows_of(2);
select * from rows_of(3);
-- a parallel plan
create table many as select g as id from generate_series(1, 10000) g;
analyze many;
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
create function one() returns int language plv8 parallel restricted as $$ return plv8.execute('select 1 as one')[0].one $$;
select one(), count(*) from many;
-- no extras
do $$ plv8.elog(NOTICE, typeof plv8.segments, typeof plv8.huge_pages) $$ language plv8;
-- a WebAssembly store out of range is an error as ever
do $$
  const memory = new WebAssembly.Memory({ initial: 1 });
  const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 1, 127, 0, 2, 8, 1, 1, 109, 1, 109, 2, 0, 1, 3, 2, 1, 0,
    7, 5, 1, 1, 102, 0, 0, 10, 11, 1, 9, 0, 32, 0, 65, 1, 54, 2, 0, 11]);
  const { f } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { m: { m: memory } }).exports;
  f(8);
  try { f(70000) } catch (e) { plv8.elog(NOTICE, `${e}`, new Int32Array(memory.buffer)[2]) }
$$ language plv8;
-- read once
set hartonomous_v8.portable = off;
select floats();
\c
select portable.floats();
