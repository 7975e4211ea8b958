-- What there is of searches. Within a view current_user is whoever asks, so these give everybody their own rows.

create or replace view hartonomous._own_searches with (security_barrier) as
select s.* from hartonomous.searches s where s.owner = quote_ident(current_user)::regrole
with check option;
comment on view hartonomous._own_searches is 'the caller''s searches, to be changed by the functions of searches';

create or replace view hartonomous._readable_searches with (security_barrier) as
select s.* from hartonomous.searches s join pg_catalog.pg_class c on c.oid = s.search and c.relowner = s.owner
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
    coalesce(now() - q.oldest, '0') as lag, coalesce(s.error, q.error) as error, nullif(s.paused_until, '-infinity') as paused_until,
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

revoke all on function hartonomous._queue_facts(regclass) from public;
grant execute on function hartonomous._queue_facts(regclass) to hartonomous_user;
grant select, insert, update, delete on hartonomous._own_searches to hartonomous_user;
grant select on hartonomous._readable_searches, hartonomous.search_list to hartonomous_user;
