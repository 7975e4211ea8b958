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
