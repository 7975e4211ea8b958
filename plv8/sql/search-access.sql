-- Who sees what of a search: its chunks are of rows that their reader sees, and of what these say now.

create or replace function hartonomous._waiting_function(queue regclass) returns regproc
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
    -- Others of the owner's may look into the queue, too: what the policy on the chunks calls, or where that is gone, what has the name.
    select p.oid::regproc from pg_depend d join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
    cross join lateral (select exists (
        select from pg_depend e join pg_policy o on e.classid = 'pg_policy'::regclass and o.oid = e.objid and o.polname = 'rows_of_source'
        where e.refclassid = 'pg_proc'::regclass and e.refobjid = p.oid
    ) as called) u
    join pg_class c on c.oid = d.refobjid and c.relowner = p.proowner
    where d.refclassid = 'pg_class'::regclass and d.refobjid = queue and p.prorettype = 'boolean'::regtype
        and (u.called or p.proname = regexp_replace(c.relname, '_queue$', '') || '_waits')
    order by u.called desc limit 1
$$;
comment on function hartonomous._waiting_function(regclass) is 'the function that knows which chunks are of rows that wait in a queue; null where there is none';

create or replace function hartonomous._guard_chunks(chunks regclass, source regclass, queue regclass) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(source);
    there regprocedure := hartonomous._waiting_function(queue);
    waits text := (select format('%I.%I', n.nspname, coalesce(p.proname, regexp_replace(c.relname, '_queue$', '') || '_waits'))
        from pg_class c left join pg_proc p on p.oid = there join pg_namespace n on n.oid = coalesce(p.pronamespace, c.relnamespace) where c.oid = queue);
    relation text := (select quote_ident(c.relname) from pg_class c where c.oid = chunks);
begin
    -- A function, since no plan is good that has to guess how many rows of a queue there are, which may be none and may be all. With its
    -- owner's rights: who reads a view of somebody's calls it himself, and sees other rows than that view; and no index serves under row
    -- security where the key's operator is not leakproof. Everybody may ask it of numbers of chunks, which do not say whose they are.
    execute format('create %s function %s(chunk bigint) returns boolean language sql stable security definer parallel safe cost 100
            set search_path = pg_catalog, pg_temp
            return exists (select from only %s as chunk join only %s as waiting on %s where chunk.id = $1 and waiting.changed)',
        case when there is not null then 'or replace' end, waits, chunks, queue, hartonomous._same_key('chunk', 'waiting', key.equals, key.keys, key.keys));
    execute format('grant execute on function %s(bigint) to public', waits);
    execute format('comment on function %s(bigint) is %L', waits, 'whether a chunk is of a row of ' || source || ' that waits in the queue of its search');
    -- Whoever may read chunks reads those of rows that are there for him. Where row security decides that, a change may have given him
    -- a row whose chunks still have what it said before: they come back when it has been worked off. What is written to a partition
    -- or heir by way of another table, or by a subscription, no trigger has noticed.
    execute format('create policy rows_of_source on %1$s for select using (exists (select from only %2$s as source where %3$s)
            and (not row_security_active(%4$L::regclass) or not %5$s(%6$s.id) and not exists (select from pg_inherits i where i.inhrelid = %4$L::regclass)
                and not exists (select from pg_subscription_rel r where r.srrelid = %4$L::regclass)))',
        chunks, source, hartonomous._same_key('source', relation, key.equals, key.names, key.keys), source, waits, relation);
end
$$;
comment on function hartonomous._guard_chunks(regclass, regclass, regclass) is
    'lets who may read a table of chunks see those of rows that he sees, and with row security only of rows that have not changed since';

create or replace function hartonomous._guard_search(made hartonomous.searches) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(made.source);
    waits regprocedure := hartonomous._waiting_function(made.queue);
    old record;
begin
    if (select p.prosecdef from pg_proc p where p.oid = waits) then
        return;
    end if;
    if not exists (select from pg_attribute a where a.attrelid = made.queue and a.attname = 'changed' and not a.attisdropped) then
        execute format('alter table %s add column changed boolean not null default true', made.queue);
        execute format('create index on %s (%s) where changed', made.queue, hartonomous._listed(key.keys));
    end if;
    -- Others looked into the queue by the policy, or by a function of a key and with the rights of who called it.
    for old in select o.polrelid::regclass as relation from pg_policy o
        where o.polname = 'rows_of_source' and o.polrelid in (made.chunks, made.next_chunks, made.queue) loop
        execute format('drop policy rows_of_source on %s', old.relation);
        if old.relation = made.queue then
            execute format('alter table %s disable row level security', made.queue);
            execute format('revoke select (changed, %s) on %s from public', hartonomous._listed(key.keys), made.queue);
        end if;
    end loop;
    if waits is not null then
        execute format('drop function %s', waits);
    end if;
    perform hartonomous._guard_chunks(made.chunks, made.source, made.queue);
end
$$;
comment on function hartonomous._guard_search(hartonomous.searches) is 'gives a search that was made before queues said what had changed what others have';
