\set VERBOSITY terse
-- (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1))) and a memory of 1..2 pages
create function wasm_module() returns text language plv8 as $$
  const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,6,1,96,2,127,127,0,3,2,1,0,5,4,1,1,1,2,7,18,2,5,115,116,111,114,101,0,0,6,109,101,109,111,114,121,2,0,10,11,1,9,0,32,0,32,1,54,2,0,11]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  instance.exports.store(8, 77);
  const seen = new Int32Array(instance.exports.memory.buffer)[2];
  let trap, grow;
  try { instance.exports.store(1 << 20, 1) } catch (e) { trap = e.constructor.name + ' ' + e.message }
  try { instance.exports.memory.grow(10) } catch (e) { grow = e.constructor.name }
  return [seen, trap, grow].join(' | ');
$$;
select wasm_module();
do $$ try { new WebAssembly.Module(new Uint8Array([1, 2, 3])) } catch (e) { plv8.elog(NOTICE, e.name) } $$ language plv8;
do $$ const m = new WebAssembly.Memory({ initial: 65536 }); plv8.elog(NOTICE, m.buffer.byteLength) $$ language plv8;
do $$ new WebAssembly.Memory({ initial: 65537 }) $$ language plv8;
-- memory of isolates that are not the segment role's has a limit, all memories together
create role host_test_segments;
set hartonomous_v8.segment_role = 'host_test_segments';
do $$
  const made = [];
  try {
    for (let i = 0; i < 8; i++) made.push(new WebAssembly.Memory({ initial: 1024, maximum: 65536 }));
  } catch (error) {
    plv8.elog(NOTICE, made.length, 'memories of 64 MB:', error.name);
  }
  try {
    made[0].grow(1);
  } catch (error) {
    plv8.elog(NOTICE, 'grow:', error.name);
  }
$$ language plv8;
select plv8_reset();
set hartonomous_v8.segment_role = '';
do $$ plv8.elog(NOTICE, new WebAssembly.Memory({ initial: 8192 }).buffer.byteLength) $$ language plv8;
reset hartonomous_v8.segment_role;
drop role host_test_segments;
