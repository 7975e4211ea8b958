-- what users of PL/V8 3.2 know
create schema upstream;
set search_path = upstream;
-- V8's console, which goes nowhere
do $$ console.log('nowhere'); plv8.elog(NOTICE, typeof console.error, typeof console.table) $$ language plv8;
-- every key of a caught error is there
do $$
  try { plv8.execute('select 1 / 0') } catch (e) {
    plv8.elog(NOTICE, JSON.stringify(Object.keys(e).sort()), e.detail, e.hint, e.table_name);
  }
$$ language plv8;
-- promises
do $$ Promise.reject(new Error('nobody looked')) $$ language plv8;
do $$ Promise.reject(Object.assign(new RangeError('with more'), { code: 67137668, detail: 'the detail', hint: 'the hint' })) $$ language plv8;
do $$ Promise.reject(new Error('handled')).catch(() => undefined) $$ language plv8;
do $$ (async () => { throw 'no error' })() $$ language plv8;
do $$ plv8.elog(NOTICE, 'not warned of again') $$ language plv8;
-- the limit of ArrayBuffers cannot be reached itself
do $$ try { new ArrayBuffer(256 * 1024 * 1024) } catch (e) { plv8.elog(NOTICE, String(e)) } $$ language plv8;
do $$ plv8.elog(NOTICE, new ArrayBuffer(250 * 1024 * 1024).byteLength) $$ language plv8;
-- plv8_reset is for the caller's isolate
create role host_test_reset;
grant usage, create on schema upstream to host_test_reset;
set role host_test_reset;
create function calls() returns int language plv8 security definer as $$ return globalThis.calls = (globalThis.calls || 0) + 1 $$;
select calls(), calls();
reset role;
do $$ globalThis.mine = 1 $$ language plv8;
select plv8_reset();
do $$ plv8.elog(NOTICE, typeof globalThis.mine) $$ language plv8;
select calls();
set role host_test_reset;
select plv8_reset();
select calls();
reset role;
-- the first call of a session may stand in a parallel plan: settings made before are those that hold
create table many as select g as id from generate_series(1, 10000) g;
analyze many;
create function setting() returns text language plv8 parallel restricted security definer set search_path = upstream as $$
  return plv8.execute(`select current_setting('plv8.memory_limit') || ' ' || current_setting('hartonomous_v8.segment_role') as s`)[0].s;
$$;
\c
set search_path = upstream;
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set hartonomous_v8.segment_role = 'host_test_reset';
set plv8.memory_limit = 300;
explain (costs off) select setting() from many where id = 7;
select setting() from many where id = 7;
select count(*) from many where id % 2 = 0;
drop schema upstream cascade;
drop role host_test_reset;
