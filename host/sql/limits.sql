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
-- arrays larger than V8 can represent, and single objects far over the limit
do $$ '1'.repeat(0x7ffffff).split('') $$ language plv8;
do $$ [].sort.call('1'.repeat(0x7ffffff)) $$ language plv8;
do $$ 'x,'.repeat(2 ** 27).split(',') $$ language plv8;
do $$ 'x'.repeat(2 ** 27).split(/x/) $$ language plv8;
-- V8 13 has an exception for an array that is too long, older ones end for want of memory.
do $do$
begin
    execute $sql$ do $$ JSON.parse('[' + '1,'.repeat(0x7fffffd) + '1]') $$ language plv8 $sql$;
exception
    when others then
        raise notice 'refused: %', sqlerrm in ('out of memory: JavaScript heap reached plv8.memory_limit of 256 MB',
            'RangeError: Invalid array length');
end $do$;
do $$ Array.from({ length: 2 ** 31 }) $$ language plv8;
do $$ [...'x'.repeat(2 ** 27)] $$ language plv8;
select alive();
do $$ plv8.elog(NOTICE, plv8.memory_usage().heap_size_limit / 2 ** 20, 'MB again') $$ language plv8;
-- what takes the place of the built-in functions there gives the same results
do $$
    const text = ('x'.repeat(2 ** 24) + ',;').repeat(3);
    const shown = (parts) => parts.map((part) => (String(part).length < 10 ? String(part) : part.length)).join('|');
    plv8.elog(NOTICE, shown(text.split(',;')), shown(text.split(',;', 2)), shown(text.split('', 3)), shown(text.split(undefined, 1)));
    plv8.elog(NOTICE, shown(text.split(/[,;]/)), shown(text.split(/(,)(y)?;/)), shown(text.split(/(?:)/, 3)), shown(text.split(/,|$/, 9)));
    plv8.elog(NOTICE, shown(text.split({ [Symbol.split]: (whole, limit) => [whole, limit] }, 4)), text.split('', 0).length);
    plv8.elog(NOTICE, 'a,b'.split(','), String.prototype.split.name, String.prototype.split.length, [3, 1, 2].sort(), Array.from('ab').join());
    const holes = new Array(2 ** 25 + 4);
    holes.fill(1, -3, -1);
    plv8.elog(NOTICE, shown(Array.from(holes.slice(-5))));
    plv8.elog(NOTICE, [].join.call({ 0: 'a', length: 2 ** 25 + 2, [2 ** 25 + 1]: 'b' }, ''));
    const inside = () => { try { JSON.parse('') } catch (e) { return e.stack } };
    plv8.elog(NOTICE, inside());
$$ language plv8;
select alive();
