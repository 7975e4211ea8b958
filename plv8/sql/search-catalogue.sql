-- What there is of searches. Within a view current_user is whoever asks, so these give everybody their own rows.

create or replace view hartonomous._own_searches with (security_barrier) as
select s.* from hartonomous.searches s where s.owner = quote_ident(current_user)::regrole
with check option;
comment on view hartonomous._own_searches is 'the caller''s searches, to be changed by the functions of searches';

create or replace view hartonomous._readable_searches with (security_barrier) as
select s.id, s.owner, s.search, s.source, s.texts, s.chunks, s.queue, s.model, s.digest, s.has_prefixes,
    s.next_chunks, s.next_model, s.next_digest, s.next_has_prefixes, s.next_until, s.options, s.created_at, s.worked_at, s.rows_done, s.busy_seconds, s.failures,
    case when c.relowner = quote_ident(current_user)::regrole then s.error end as error, -- which may quote any row
    s.paused_until
from hartonomous.searches s join pg_catalog.pg_class c on c.oid = s.search and c.relowner = s.owner
where c.relowner = quote_ident(current_user)::regrole or has_table_privilege(s.chunks::oid, 'select');
comment on view hartonomous._readable_searches is 'searches whose chunks the caller may read';

do $$
declare
    each record;
begin
    for each in select v.name, a.attname, col_description(a.attrelid, a.attnum) as text from pg_catalog.pg_attribute a
        cross join (values ('_own_searches'), ('_readable_searches')) v (name)
        where a.attrelid = 'hartonomous.searches'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column hartonomous.%I.%I is %L', each.name, each.attname, each.text);
    end loop;
end
$$;

create or replace function hartonomous._source_trouble(source regclass) returns text
language plpgsql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
declare
    facts pg_class;
begin
    select * into facts from pg_class c where c.oid = source;
    return format('table %s ', source) || case
        when facts.relkind = 'p' or facts.relispartition then 'is partitioned or a partition: what is written to one of both is not noticed by triggers of the other'
        when facts.relkind <> 'r' then 'is ' || case facts.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table' else 'no table' end
        when facts.relpersistence = 't' then 'is temporary: nobody else could work for it'
        when facts.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) then 'is the system''s'
        when exists (select from pg_inherits i where source in (i.inhparent, i.inhrelid)) then
            'inherits or is inherited: what is written to one of both is not noticed by triggers of the other'
        when exists (select from pg_subscription_rel r where r.srrelid = source) then 'is written by a subscription, which no trigger for statements notices'
        when facts.relforcerowsecurity then 'forces row security on its owner, who has to read every row'
        when (select k.names from hartonomous._search_key(source) k) is null then 'has no primary key' end;
end
$$;
comment on function hartonomous._source_trouble(regclass) is 'why a table cannot be searched; null where it can, or is gone';

create or replace function hartonomous._key_trouble(source regclass, chunks regclass) returns text
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
    -- Views, policy and chunks stay with the columns that were the key: what belongs to other rows would be taken for theirs.
    select case
        when now.columns is null then format('table %s has no primary key any more', source)
        when now.columns <> made.columns then format('table %s has another primary key than when its search was made', source) end
    from (
        select array_agg(k.attnum::integer order by k.n) as columns from pg_index i
        cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
        where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts
    ) now cross join (
        -- In the order in which the policy compares them.
        select array_agg(c.attnum order by least(nullif(strpos(c.condition, c.name || ' '), 0), nullif(strpos(c.condition, c.name || ')'), 0))) as columns
        from (
            select distinct d.refobjsubid as attnum, 'source.' || quote_ident(a.attname) as name, pg_get_expr(p.polqual, p.polrelid) as condition from pg_policy p
            join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
            join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where p.polrelid = chunks and p.polname = 'rows_of_source' and d.refobjid = source and d.refobjsubid > 0
        ) c
    ) made
$$;
comment on function hartonomous._key_trouble(regclass, regclass) is 'how the primary key of a searched table is not the one that its chunks have; null where it is';

create or replace function hartonomous._search_trouble(source regclass, chunks regclass) returns text
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$ select case when exists (select from pg_class c where c.oid = source) then coalesce(hartonomous._key_trouble(source, chunks), hartonomous._source_trouble(source)) end $$;
comment on function hartonomous._search_trouble(regclass, regclass) is 'what a searched table has become that no search can follow; null where nothing, or where it is gone';

create or replace function hartonomous._queue_facts(queue regclass, out waiting bigint, out failed bigint, out oldest timestamptz, out error text)
language plpgsql stable parallel unsafe cost 1000 set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from pg_class c where c.oid = queue) then
        execute format($sql$
            select count(*) filter (where due < 'infinity'), count(*) filter (where due = 'infinity'), min(noted_at) filter (where due < 'infinity'),
                (array_agg(q.error order by q.id desc) filter (where q.error is not null))[1] from %s q $sql$, queue)
        into waiting, failed, oldest, error;
    end if;
end
$$;
comment on function hartonomous._queue_facts(regclass) is 'what waits in a search''s queue and what was given up; nulls where the queue is gone';

create or replace view hartonomous.search_list as
select s.search, s.source, s.model, s.next_model, q.waiting, q.failed,
    coalesce(now() - q.oldest, '0') as lag, coalesce(s.error, hartonomous._search_trouble(s.source, s.chunks), q.error) as error, nullif(s.paused_until, '-infinity') as paused_until,
    s.rows_done, s.rows_done / nullif(s.busy_seconds, 0) as rows_per_second, s.worked_at, s.created_at
from hartonomous._own_searches s cross join lateral hartonomous._queue_facts(s.queue) q
order by s.id;
comment on view hartonomous.search_list is 'the caller''s searches and what waits to be embedded for them';
comment on column hartonomous.search_list.search is 'the search, a number where its view was dropped';
comment on column hartonomous.search_list.source is 'table that is searched, a number where it was dropped';
comment on column hartonomous.search_list.model is 'model of its embeddings';
comment on column hartonomous.search_list.next_model is 'model that makes them anew; null where none does';
comment on column hartonomous.search_list.waiting is 'changes that are not embedded yet; null where the queue was dropped';
comment on column hartonomous.search_list.failed is 'changes that were given up: their errors stand in the queue';
comment on column hartonomous.search_list.lag is 'age of the oldest change that waits';
comment on column hartonomous.search_list.error is 'why work stands still, or else the last error of a row that waits or was given up';
comment on column hartonomous.search_list.paused_until is 'when work is tried again after such an error';
comment on column hartonomous.search_list.rows_done is 'changes that were worked off';
comment on column hartonomous.search_list.rows_per_second is 'how many of them a worker did a second';
comment on column hartonomous.search_list.worked_at is 'when a batch was last done';
comment on column hartonomous.search_list.created_at is 'when the search was made';

revoke all on function
    hartonomous._source_trouble(regclass), hartonomous._key_trouble(regclass, regclass), hartonomous._search_trouble(regclass, regclass),
    hartonomous._queue_facts(regclass)
from public;
grant execute on function
    hartonomous._source_trouble(regclass), hartonomous._key_trouble(regclass, regclass), hartonomous._search_trouble(regclass, regclass),
    hartonomous._queue_facts(regclass)
to hartonomous_user;
grant select, insert, update, delete on hartonomous._own_searches to hartonomous_user;
grant select on hartonomous._readable_searches, hartonomous.search_list to hartonomous_user;
