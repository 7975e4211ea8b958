-- Functions that builds before 0.1.0 had with jsonb where JSON that keeps its order stands now, or with fewer columns

do $$
declare
    old regprocedure;
begin
    for old in
        select p.oid from pg_proc p
        where p.pronamespace = 'hartonomous'::regnamespace and (
            p.proname = 'close_session' and p.prorettype = 'jsonb'::regtype
            or p.proname = '_chat' and p.prorettype = 'json'::regtype
            or p.proname = 'next_tokens' and not 'tool_calls' = any (p.proargnames)
            or p.proname = 'explain_inputs' and not 'template' = any (p.proargnames)
            or p.proname = '_word_query'
            or p.proname in ('generate_stream', '_generate_stream') and not 'thinking' = any (p.proargnames)
            or p.proname = 'embed' and 'ord' = any (p.proargnames) and not 'error' = any (p.proargnames)
            or p.proargtypes[array_position(p.proargnames, 'options') - 1] = 'jsonb'::regtype
            or p.proargtypes[array_position(p.proargnames, 'share_options') - 1] = 'jsonb'::regtype)
    loop
        execute format('drop function %s', old);
    end loop;
end
$$;
