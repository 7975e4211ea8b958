\set VERBOSITY terse
create function alive() returns text language plv8 as $$ return 'alive' $$;
do $$ const a = []; while (true) a.push({ n: a.length }) $$ language plv8;
select alive();
do $$ let s = 'x'; const keep = []; while (true) { s += s.slice(0, 1 << 20); keep.push(s.split('').length) } $$ language plv8;
select alive();
do $$ function f() { f() } f() $$ language plv8;
select alive();
create function again(n int) returns int language plv8 as $$ return plv8.execute('select again($1 + 1) as r', [n])[0].r $$;
do $$ try { plv8.execute('select again(0)') } catch (e) { plv8.elog(NOTICE, /stack/.test(e.message) || e.message) } $$ language plv8;
select alive();
do $$ new ArrayBuffer(300 * 1024 * 1024) $$ language plv8;
do $$ const keep = []; while (true) keep.push(new ArrayBuffer(1 << 20)) $$ language plv8;
do $$ for (let i = 0; i < 2000; i++) new ArrayBuffer(1 << 20); plv8.elog(NOTICE, 'collected') $$ language plv8;
select alive();
do $$ 'x'.repeat(1 << 30) $$ language plv8;
do $$ Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) $$ language plv8;
do $$ let a = []; for (let i = 0; i < 100000; i++) a = [a]; JSON.stringify(a) $$ language plv8;
select alive();
-- an object larger than V8 can represent ends one session, not the others
\! psql -X -d hartonomous_v8_regression -c "do \$\$ '1'.repeat(0x7ffffff).split('') \$\$ language plv8" 2>&1 | head -1
select alive();
