\set VERBOSITY terse
-- roles of these tests write functions
grant usage on language plv8 to public;
set client_min_messages = warning;
create role segment_owner nologin;
create role segment_user nologin;
grant create on schema public to segment_owner, segment_user;
reset client_min_messages;
-- a module with peek(at) and poke(at, value) over a memory that is given to it
create function module() returns bytea immutable language sql
    as $$ select decode('AGFzbQEAAAABCwJgAn9/AGABfwF/Ag8BA2VudgZtZW1vcnkCAAADAwIAAQcPAgRwb2tlAAAEcGVlawABChMCCQAgACABNgIACwcAIAAoAgAL', 'base64') $$;
set role segment_owner;
create function key(digit text) returns text immutable language sql as $$ select repeat(digit, 64) $$;
create function publish(key text, pages int) returns boolean security definer language plv8 as $$
    const memory = new WebAssembly.Memory({ initial: pages + 1, maximum: pages + 1 });
    new Uint32Array(memory.buffer).forEach((_, i, all) => (all[i] = i));
    return plv8.segments.publish(key, 7, JSON.stringify({ note: 'größe', pages }) + '\nsecond', memory, 65536, pages * 65536);
$$;
create function use(key text, pages int, what text) returns text security definer language plv8 as $$
    const segment = plv8.segments.open(key, 7);
    if (segment === null) return 'absent';
    const memory = new WebAssembly.Memory({ initial: pages + 2, maximum: pages + 2 });
    segment.map(memory, 65536);
    const text = [0, 1, 2].map((n) => segment.line(n)).join('|');
    segment.close();
    globalThis.memory = memory;
    const code = new WebAssembly.Module(plv8.execute('select module() as code')[0].code);
    const { peek, poke } = new WebAssembly.Instance(code, { env: { memory } }).exports;
    if (what === 'store') poke(65536 + 8, 1);
    if (what === 'javascript') new Uint8Array(memory.buffer)[65536 + 8] = 1;
    poke(0, 5);
    poke((pages + 1) * 65536, 6);
    return [text, peek(65536 + 8), peek(pages * 65536 + 65532), peek(0), peek((pages + 1) * 65536)].join(' ');
$$;
create function segments() returns jsonb security definer language plv8
    as $$ return plv8.segments.list().map((s) => [s.key[0], s.layout, s.bytes, s.published > 1e12, s.mapped >= s.published - 1000]) $$;
create function drop_segment(key text) returns int security definer language plv8 as $$ return plv8.segments.drop(key) $$;
create function check_segment(key text) returns boolean security definer language plv8 as $$ return plv8.segments.check(key, 7) $$;
create function sweep() returns int security definer language plv8 as $$ return plv8.segments.sweep() $$;
create function member(code text) returns text security definer language plv8 as $$ return String(eval(code)) $$;
-- nobody may before the setting names a role
select publish(key('a'), 2);
reset role;
set hartonomous_v8.segment_role = 'segment_owner';
select count(drop_segment(key(digit))) as cleared from unnest('{a,b,c,d}'::text[]) as digit; -- what an earlier run may have left
select publish(key('a'), 2), use(key('a'), 2, ''), use(key('b'), 2, '');
select segments(), member('plv8.segments.usable()');
-- a store into it is a trap, and it is as it was
select use(key('a'), 2, 'store');
select use(key('a'), 2, '');
-- from JavaScript it ends that session only
\! psql -X -d hartonomous_v8_regression -c "set hartonomous_v8.segment_role = 'segment_owner'" -c "select use(key('a'), 2, 'javascript')" 2>&1 | sed -n 2p
select use(key('a'), 2, ''), check_segment(key('a')), check_segment(key('c'));
-- for reading only
select count(*) > 0 as mapped from regexp_split_to_table(pg_read_file('/proc/self/maps'), E'\n') as line where line ~ 'r--s .*pgsql_tmp_hartonomous_v8';
-- dropped while it is mapped
select drop_segment(key('a')), use(key('a'), 2, '');
select member('memory.buffer.byteLength + " " + new Uint32Array(memory.buffer)[16386]');
-- damaged: a byte of a block, the header, cut short, another layout; each is as good as absent
create function damage(command text) returns void language plpgsql as $$
begin execute format('copy (select 1) to program %L', 'unset LD_PRELOAD; cat > /dev/null; cd pgsql_tmp_hartonomous_v8 && ' || command); end $$;
select publish(key('d'), 2);
select damage('printf x | dd of=$(ls | grep "^d.*7$") bs=1 seek=2100000 conv=notrunc 2>/dev/null; rm -f *.checked');
select check_segment(key('d')), use(key('d'), 2, '');
select segments();
select publish(key('d'), 2), damage('printf x | dd of=$(ls | grep "^d.*7$") bs=1 seek=150 conv=notrunc 2>/dev/null');
select use(key('d'), 2, ''), publish(key('d'), 2), damage('truncate -s 9000 $(ls | grep "^d.*7$")');
select use(key('d'), 2, ''), publish(key('d'), 2), damage('mv $(ls | grep "^d.*7$") ' || key('d') || '_00000008');
select use(key('d'), 2, ''), segments(), damage('touch ' || key('e') || '_00000007.99999'), sweep(), sweep();
-- a pipe and a link in a segment's place, and in that of what says that it was checked: neither waited for nor followed
select publish(key('d'), 2), damage('f=$(ls | grep "^d.*7$"); rm $f; mkfifo $f');
select use(key('d'), 2, ''), check_segment(key('d')), sweep(), publish(key('d'), 2);
select damage('f=$(ls | grep "^d.*7$"); rm $f.checked; mkfifo $f.checked'), use(key('d'), 2, '');
select damage('f=$(ls | grep "^d.*7$"); mv $f ../other; ln -s ../other $f');
select use(key('d'), 2, ''), check_segment(key('d')), sweep(), publish(key('d'), 2), damage('rm ../other');
-- no room: over the budget, a full disk
select publish(key('d'), 2);
set hartonomous_v8.segment_budget = '5MB';
select publish(key('f'), 60), segments();
select publish(key('f'), 10), segments();
set hartonomous_v8.segment_budget = 0;
select use(key('f'), 10, ''), publish(key('f'), 10);
reset hartonomous_v8.segment_budget;
select damage('prlimit --pid ' || pg_backend_pid() || ' --fsize=500000:unlimited');
select publish(key('e'), 20);
select damage('prlimit --pid ' || pg_backend_pid() || ' --fsize=unlimited');
select count(*) as left_over from pg_ls_dir('pgsql_tmp_hartonomous_v8') as file where file like 'e%';
-- names and memories
select member('plv8.segments.open("../x", 7)');
select member('plv8.segments.open("A".repeat(64), 7)');
select member('plv8.segments.open("a".repeat(64))');
select member('plv8.segments.publish("a".repeat(64), 7, "", new WebAssembly.Memory({ initial: 1 }), 100, 4096)');
select member('plv8.segments.publish("a".repeat(64), 7, "", new WebAssembly.Memory({ initial: 1 }), 4096, 65536)');
select member('[1, 17].every((pages) => { const at = plv8.segments.place(new WebAssembly.Memory({ initial: 32 }), pages * 65536); return at >= pages * 65536 && at < pages * 65536 + 2097152 && at % 4096 === 0 })');
select member('plv8.segments.place(new WebAssembly.Memory({ initial: 1 }), 4097)');
select member('plv8.segments.publish("a".repeat(64), 7, "", { buffer: new ArrayBuffer(65536) }, 0, 4096)');
select member('plv8.segments.publish("a".repeat(64), 7, "", new WebAssembly.Memory({ initial: 1 }), 0, 4097)');
-- roles without rights: their own functions, DO, find_function, invoker's rights
set role segment_user;
create function try_list() returns jsonb language plv8 as $$ return plv8.segments.list() $$;
create function try_definer() returns jsonb security definer language plv8 as $$ return plv8.segments.open('f'.repeat(64), 7) $$;
do $$ plv8.elog(NOTICE, plv8.segments.usable()) $$ language plv8;
select try_list();
select try_definer();
do $$ plv8.segments.drop('f'.repeat(64)) $$ language plv8;
do $$ plv8.find_function('segments')() $$ language plv8;
do $$ plv8.segments.constructor('return 1')() $$ language plv8;
reset role;
set role segment_owner;
create function invoker() returns jsonb language plv8 as $$ return plv8.segments.list() $$;
do $$ plv8.segments.list() $$ language plv8;
reset role;
select invoker();
set role segment_user;
select invoker();
set hartonomous_v8.segment_role = 'segment_user';
reset role;
-- without the extras there is no such member
select plv8_reset();
set hartonomous_v8.extras = off;
do $$ plv8.elog(NOTICE, typeof plv8.segments) $$ language plv8;
reset hartonomous_v8.extras;
select drop_segment(key('f'));
set client_min_messages = warning;
drop owned by segment_owner, segment_user cascade;
drop role segment_owner, segment_user;
