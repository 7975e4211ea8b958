create function boot() returns void language plv8 as $$ globalThis.booted = (globalThis.booted || 0) + 1 $$;
select plv8_reset();
set plv8.start_proc = 'boot';
do $$ plv8.elog(NOTICE, booted) $$ language plv8;
do $$ plv8.elog(NOTICE, booted) $$ language plv8;
select plv8_reset();
set plv8.start_proc = 'nobody';
do $$ plv8.elog(NOTICE, typeof booted) $$ language plv8;
reset plv8.start_proc;
-- eval
set plv8.max_eval_size = 20;
do $$ plv8.elog(NOTICE, eval('1 + 1')) $$ language plv8;
do $$ eval('1 + ' + '1 + '.repeat(20) + '1') $$ language plv8;
do $$ plv8.elog(NOTICE, new Function('a', 'return a')(1)) $$ language plv8;
set plv8.max_eval_size = 0;
do $$ eval('1') $$ language plv8;
set plv8.max_eval_size = -1;
do $$ plv8.elog(NOTICE, eval('1 + ' + '1 + '.repeat(1000) + '1')) $$ language plv8;
reset plv8.max_eval_size;
do $$ plv8.elog(NOTICE, plv8.run_script('globalThis.fromScript = () => 42; 7', 'mine.js'), fromScript()) $$ language plv8;
do $$ plv8.run_script('throw new Error("in script")', 'mine.js') $$ language plv8;
-- contexts
do $$ globalThis.here = 'default' $$ language plv8;
set plv8.context = 'other';
do $$ plv8.elog(NOTICE, typeof here); globalThis.here = 'other' $$ language plv8;
reset plv8.context;
do $$ plv8.elog(NOTICE, here) $$ language plv8;
set plv8.context = 'other';
do $$ plv8.elog(NOTICE, here) $$ language plv8;
do $$ plv8.execute("set plv8.context = 'third'") $$ language plv8;
reset plv8.context;
show plv8.memory_limit;
select plv8_version() ~ '^3\.2' as pl_v8_3_2, json_array_length(plv8_info()) >= 1 as has_info;
do $$ const m = plv8.memory_usage(); plv8.elog(NOTICE, Object.keys(m).join(' '), m.used_heap_size > 0) $$ language plv8;
-- one isolate for each role: the host's own context, the default one and at most plv8.context_cache_size by name
do $$ begin
    for i in 1..20 loop
        perform set_config('plv8.context', 'cached' || i, false);
        do 'globalThis.x = 1' language plv8;
    end loop;
end $$;
do $$ plv8.elog(NOTICE, plv8.memory_usage().number_of_native_contexts) $$ language plv8;
reset plv8.context;
