-- work: what is queued becomes chunks. A worker holds the entries that it works on by row locks, so others skip them and a worker
-- that dies leaves them as they were. Only the writing is done one after the other, under the lock of the search's row; rows that
-- have changed since they were read are left to the entry that says so.

create or replace function hartonomous._embed_chunks(
    own hartonomous.searches, relation regclass, model text, has_prefixes boolean, equals text[], keys text[], chunks hartonomous._chunk[])
returns hartonomous._chunk[]
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp set extra_float_digits = 1
as $$
declare
    wanted text[];
    made text[];
    errors text[];
begin
    -- Chunks that were there before, wherever in their text, keep their embeddings.
    execute format('select array_agg((x.item, x.number, x."from", x."to", x.text,
            (select c.embedding::text from %s c where %s and c.text = x.text limit 1), null)::hartonomous._chunk)
        from unnest($1) x join %s q on q.id = x.item', relation, hartonomous._same_key('c', 'q', equals, keys, keys), own.queue)
    into chunks using chunks;
    wanted := array(select distinct x.text from unnest(chunks) x where x.embedding is null);
    if wanted <> '{}' then
        execute format('select array_agg((%s)::text order by e.ord), array_agg(e.error order by e.ord) from hartonomous._embed_queued($1, $2, $3) e',
            case own.options ->> 'vector' when 'bytea' then 'hartonomous._vector_bytes(e.embedding)'
                else format('e.embedding::%s.%s', hartonomous._vector_schema(), own.options ->> 'vector') end)
        into made, errors
        using array(select coalesce(own.options ->> 'document_prefix', '') || w from unnest(wanted) w), model,
            (hartonomous._embed_options('document', own.options, has_prefixes) || '{"on_error": "null"}')::json;
        chunks := array(select (x.item, x.number, x."from", x."to", x.text, coalesce(x.embedding, w.embedding),
                case when x.embedding is null and w.embedding is null then coalesce(regexp_replace(w.error, '^text \d+', 'the text'), 'the text has no embedding') end)::hartonomous._chunk
            from unnest(chunks) x left join unnest(wanted, made, errors) w (text, embedding, error) on w.text = x.text);
    end if;
    return chunks;
end
$$;
comment on function hartonomous._embed_chunks(hartonomous.searches, regclass, text, boolean, text[], text[], hartonomous._chunk[]) is
    'chunks with their embeddings: those they have in a table of chunks, or made by a model';

create or replace function hartonomous._write_chunks(
    own hartonomous.searches, relation regclass, equals text[], keys text[], items bigint[], chunks hartonomous._chunk[])
returns void
language plpgsql volatile parallel unsafe cost 10000 set search_path = pg_catalog, pg_temp set extra_float_digits = 1
as $$
declare
    same_key constant text := hartonomous._same_key('c', 'q', equals, keys, keys);
    changed bigint[];
begin
    execute format('select array_agg(q.id) from %s q where q.id = any ($1) and
            array(select (c.number, c."from", c."to", c.text)::text from %s c where %s order by c.number)
            <> array(select (x.number, x."from", x."to", x.text)::text from unnest($2) x where x.item = q.id order by x.number)',
        own.queue, relation, same_key)
    into changed using items, chunks;
    execute format('delete from %s c using %s q where q.id = any ($1) and %s', relation, own.queue, same_key) using changed;
    execute format('insert into %s (%s, number, "from", "to", text, words, embedding)
        select %s, x.number, x."from", x."to", x.text, to_tsvector($3::regconfig, x.text), x.embedding::%s
        from unnest($2) x join %s q on q.id = x.item where x.item = any ($1)',
        relation, hartonomous._listed(keys), hartonomous._listed(keys, 'q.'),
        case own.options ->> 'vector' when 'bytea' then 'bytea' else format('%s.%s', hartonomous._vector_schema(), own.options ->> 'vector') end, own.queue)
    using changed, chunks, own.options ->> 'language';
end
$$;
comment on function hartonomous._write_chunks(hartonomous.searches, regclass, text[], text[], bigint[], hartonomous._chunk[]) is
    'put the chunks of some entries in the place of those that their rows had';

create or replace function hartonomous._work_entries(search_id bigint, entries bigint[]) returns void
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches;
    locked hartonomous.searches;
    key record;
    same_key text;
    statement text;
    reason text;
    read bigint[]; -- one entry for each key, and its row as it is now
    versions text[];
    texts text[];
    items bigint[]; -- those of them that were embedded, and whose rows have not changed since
    chunks hartonomous._chunk[];
    next_chunks hartonomous._chunk[];
    failed bigint[];
    failures text[];
    keeps_current boolean := true;
    relation regclass;
    began timestamptz := clock_timestamp();
begin
    select * into own from hartonomous._own_searches s where s.id = search_id;
    perform hartonomous._check_search(own, hartonomous._search_trouble(own.source, own.chunks));
    key := hartonomous._search_key(own.source);
    same_key := hartonomous._same_key('t', 'q', key.equals, key.keys, key.keys);
    statement := format('select array_agg(r.id), array_agg(r.version), array_agg(r.text) from (
            select distinct on (%1$s) q.id, t.version::text, t.text from %2$s q left join %3$s t on %4$s
            where q.id = any ($1) and q.%5$s is distinct from null order by %1$s, q.id) r',
        hartonomous._listed(key.keys, 'q.'), own.queue, own.texts, same_key, key.keys[1]);
    begin
        execute statement into read, versions, texts using entries;
    exception when syntax_error_or_access_rule_violation then
        reason := sqlerrm;
        -- An expression that says so of what is written in a row (a name in it, as body::regclass) says it of no row where there is none.
        execute statement using '{}'::bigint[];
        raise exception using errcode = 'data_exception', message = reason;
    end;
    perform hartonomous._require_model(own.search, coalesce(own.next_model, own.model), coalesce(own.next_digest, own.digest));
    -- By the tokens of the model to come, where there is one: one division serves both.
    chunks := array(select (u.item, c.number, c."from", c."to", c.text, null, null)::hartonomous._chunk
        from unnest(read, texts) u (item, text)
        cross join lateral hartonomous.chunk(u.text, coalesce(own.next_model, own.model), coalesce(own.options -> 'chunking', '{}')::json) c);
    if own.next_chunks is not null then
        next_chunks := hartonomous._embed_chunks(own, own.next_chunks, own.next_model, own.next_has_prefixes, key.equals, key.keys, chunks);
        -- A model that is gone makes no chunks more: those of its that are true stay until the next one takes over.
        keeps_current := exists (select from hartonomous.model_list m where m.name = own.model and m.digest = own.digest);
    end if;
    if keeps_current then
        chunks := hartonomous._embed_chunks(own, own.chunks, own.model, own.has_prefixes, key.equals, key.keys, chunks);
    end if;
    select array_agg(x.item), array_agg(x.error) into failed, failures
    from (select c.item, min(c.error) as error from unnest(chunks || next_chunks) c where c.error is not null group by c.item) x;
    failed := coalesce(failed, '{}');

    -- From here to the commit one worker after the other.
    select * into locked from hartonomous._own_searches s where s.id = search_id for update;
    if locked.chunks is distinct from own.chunks or locked.next_chunks is distinct from own.next_chunks then
        return; -- another model came or took over meanwhile, or the search is gone: the entries stay
    end if;
    execute format('select array_agg(u.item) from unnest($1, $2) u (item, version) join %s q on q.id = u.item left join %s t on %s
            where t.version::text is not distinct from u.version and u.item <> all ($3)', own.queue, own.texts, same_key)
    into items using read, versions, failed;
    if keeps_current then
        perform hartonomous._write_chunks(own, own.chunks, key.equals, key.keys, items, chunks);
    else
        -- What a row says no more must not stay where no entry hides it.
        execute format('delete from %s c using %s q join unnest($2, $3) u (item, text) on u.item = q.id
                where q.id = any ($1) and %s and substr(u.text, c."from", c."to" - c."from" + 1) is distinct from c.text',
            own.chunks, own.queue, hartonomous._same_key('c', 'q', key.equals, key.keys, key.keys))
        using items, read, texts;
    end if;
    if own.next_chunks is not null then
        perform hartonomous._write_chunks(own, own.next_chunks, key.equals, key.keys, items, next_chunks);
    end if;
    -- An entry without a key is about the whole table: what has no row any more goes.
    foreach relation in array array_remove(array[own.chunks, own.next_chunks], null) loop
        execute format('delete from %s c where exists (select from %s q where q.id = any ($1) and q.%s is not distinct from null)
                and not exists (select from only %s t where %s)',
            relation, own.queue, key.keys[1], own.source, hartonomous._same_key('t', 'c', key.equals, key.names, key.keys))
        using entries;
    end loop;
    same_key := hartonomous._same_key('d', 'q', key.equals, key.keys, key.keys);
    execute format('update %1$s d set attempts = d.attempts + 1, error = u.error, due = hartonomous._due_again(d.attempts + 1)
        from unnest($2, $3) u (item, error) join %1$s q on q.id = u.item where d.id = any ($1) and %2$s', own.queue, same_key)
    using entries, failed, failures;
    -- What was given up before goes with what is done now.
    execute format('delete from %1$s d where d.due = ''infinity'' and exists (select from %1$s q where q.id = any ($1) and %2$s)', own.queue, same_key)
    using items;
    execute format('delete from %1$s d where d.id = any ($1) and not exists (select from %1$s q where q.id = any ($2) and %2$s)', own.queue, same_key)
    using entries, failed;
    update hartonomous._own_searches s set worked_at = clock_timestamp(), rows_done = s.rows_done + cardinality(entries) - cardinality(failed),
        busy_seconds = s.busy_seconds + extract(epoch from clock_timestamp() - began), failures = 0, error = null, paused_until = '-infinity'
    where s.id = search_id;
    if own.next_chunks is not null then
        begin
            perform hartonomous._finish_rebuild(search_id);
        exception when others then
            -- No row's fault: what depends on the chunks (a view, a foreign key), or is not there for the next ones (a column).
            raise exception using errcode = 'object_not_in_prerequisite_state', message = format('another model cannot take over: %s', sqlerrm);
        end;
    end if;
end
$$;
comment on function hartonomous._work_entries(bigint, bigint[]) is 'make the chunks of what some entries of a queue are about, and take these entries away';

create or replace function hartonomous._due_again(attempts integer) returns timestamptz
language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$ select case when attempts < 5 then clock_timestamp() + interval '5 seconds' * 4 ^ (attempts - 1) else 'infinity' end $$;
comment on function hartonomous._due_again(integer) is 'when a row that failed so often is tried again: after 5, 20, 80 and 320 seconds, then never';

create or replace function hartonomous._try_entries(search_id bigint, entries bigint[]) returns void
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
declare
    entry bigint;
    state text;
    reason text;
begin
    begin
        perform hartonomous._work_entries(search_id, entries);
        return;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, reason = message_text;
    end;
    -- No model, no right, no memory, another table than it was and the like are nobody's row: all of the search waits.
    if state in ('42704', '42501', '42809', '42P01', '42883') or left(state, 2) in ('40', '53', '55', '57', '58') then
        update hartonomous._own_searches s set failures = s.failures + 1, error = reason,
            paused_until = clock_timestamp() + interval '5 seconds' * 2 ^ least(s.failures, 6)
        where s.id = search_id;
    elsif cardinality(entries) > 1 then
        foreach entry in array entries loop
            perform hartonomous._try_entries(search_id, array[entry]);
        end loop;
    else
        execute format('update %s set attempts = attempts + 1, error = $2, due = hartonomous._due_again(attempts + 1) where id = any ($1)',
            (select s.queue from hartonomous._own_searches s where s.id = search_id))
        using entries, reason;
    end if;
end
$$;
comment on function hartonomous._try_entries(bigint, bigint[]) is
    'work on entries together, where that fails one by one; what fails alone is tried again later and given up after five times';

create or replace function hartonomous._finish_rebuild(search_id bigint) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches;
    waiting boolean;
    part record;
    old_name text;
    policies text[];
    heads text[];
    triggers text[];
begin
    select * into own from hartonomous._own_searches s where s.id = search_id;
    if own.next_chunks is null then
        return;
    end if;
    execute format('select exists (select from %s where id <= $1 and due < ''infinity'')', own.queue) into waiting using own.next_until;
    if waiting then
        return;
    end if;
    for part in select a.privilege_type, case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as who
        from pg_class c cross join lateral aclexplode(c.relacl) a where c.oid = own.chunks and a.grantee <> c.relowner loop
        execute format('grant %s on %s to %s', part.privilege_type, own.next_chunks, part.who);
    end loop;
    for part in select a.privilege_type, c.attname, case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as who
        from pg_attribute c cross join lateral aclexplode(c.attacl) a where c.attrelid = own.chunks and not c.attisdropped loop
        execute format('grant %s (%I) on %s to %s', part.privilege_type, part.attname, own.next_chunks, part.who);
    end loop;
    -- What else hides chunks. Conditions name the table as it is called now, and as the next one will be.
    select array_agg(format('create policy %I on ', p.polname)), array_agg(format(' as %s for %s to %s%s%s',
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
        (select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ') from unnest(p.polroles) r),
        ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'))
    into heads, policies from pg_policy p where p.polrelid = own.chunks and p.polname <> 'rows_of_source';
    select array_agg(d order by t.tgname, n) into triggers from pg_trigger t cross join lateral (values
        (1, pg_get_triggerdef(t.oid)),
        (2, format('alter table %s %s trigger %I', own.chunks, case t.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' when 'A' then 'enable always' end, t.tgname))
    ) u (n, d) where t.tgrelid = own.chunks and not t.tgisinternal and (n = 1 or t.tgenabled <> 'O');
    perform hartonomous._show_chunks(own.search::text, own.source, own.next_chunks);
    perform hartonomous._guard_search(own), hartonomous._guard_chunks(own.next_chunks, own.source, own.queue);
    -- Before the table goes for which deferred triggers wait.
    set constraints all immediate;
    select quote_ident(c.relname) into old_name from pg_class c where c.oid = own.chunks;
    execute format('drop table %s', own.chunks);
    execute format('alter table %s rename to %s', own.next_chunks, old_name);
    for part in select h, p from unnest(heads, policies) as u (h, p) loop
        execute part.h || own.next_chunks || part.p;
    end loop;
    for part in select t from unnest(triggers) as u (t) loop
        execute part.t;
    end loop;
    update hartonomous._own_searches s set chunks = next_chunks, model = next_model, digest = next_digest, has_prefixes = next_has_prefixes,
        next_chunks = null, next_model = null, next_digest = null, next_has_prefixes = null, next_until = null where s.id = search_id;
end
$$;
comment on function hartonomous._finish_rebuild(bigint) is 'let the embeddings of another model take over where the last one is made';

create or replace function hartonomous.set_search_model(search regclass, model text default null) returns void
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches := hartonomous._own_search(search);
    wanted record := hartonomous._search_model(model);
    settings jsonb;
    made regclass;
    until bigint;
    stranger text;
begin
    perform hartonomous._check_search(own, hartonomous._search_trouble(own.source, own.chunks));
    -- Before the lock that chunks are written under: workers read the table before they take that.
    if own.next_chunks is not null then
        begin
            execute format('lock table only %s in access exclusive mode', own.next_chunks);
        exception when undefined_table or syntax_error then
            null; -- it has taken over meanwhile, or is gone and has a number for its name
        end;
    end if;
    select * into own from hartonomous._own_searches s where s.id = own.id for update;
    if own.next_chunks is not null then
        execute format('drop table %s', own.next_chunks);
        own.next_chunks := null;
    end if;
    settings := hartonomous._search_options(json_build_object('vector', own.options ->> 'vector'), wanted.dimensions);
    perform hartonomous._queue_all(own, false);
    made := hartonomous._make_chunks((select format('%I.%I', n.nspname, c.relname || '_next') from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = own.chunks), own.source, wanted.dimensions, settings);
    -- Default privileges: it gets those that the chunks have when it takes over.
    for stranger in select distinct case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
        from pg_class c cross join lateral aclexplode(c.relacl) a where c.oid = made and a.grantee <> c.relowner loop
        execute format('revoke all on %s from %s', made, stranger);
    end loop;
    execute format('select max(id) from %s', own.queue) into until;
    update hartonomous._own_searches s set next_chunks = made, next_model = wanted.name, next_digest = wanted.digest,
        next_has_prefixes = wanted.has_prefixes, next_until = until,
        failures = 0, error = null, paused_until = '-infinity' where s.id = own.id;
end
$$;
comment on function hartonomous.set_search_model(regclass, text) is
    'let another model make all embeddings anew; the search goes on with those it has until work() has made the last one';

create or replace function hartonomous._lock_source(own hartonomous.searches, waits boolean) returns boolean
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('lock table only %s in access share mode', own.source) || case when waits then '' else ' nowait' end;
    return true;
exception
    when lock_not_available or undefined_table then return false;
    when insufficient_privilege then return true; -- the work says so, and waits
end
$$;
comment on function hartonomous._lock_source(hartonomous.searches, boolean) is
    'the lock that reading a searched table takes, before any of its queue: who writes or drops takes them in this order; false where another has it, or the table is gone';

create or replace function hartonomous._work(search regclass, batch integer) returns boolean
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches;
    entries bigint[];
begin
    -- Expressions, operators and triggers of the search's owner run here, and could go back to the role of the session.
    if session_user <> current_user and not pg_has_role(current_user, session_user, 'member') then
        raise exception using errcode = 'insufficient_privilege',
            message = format('work runs what belongs to %s, in a session of %s', current_user, session_user), hint = format('connect as %s', current_user);
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using errcode = 'feature_not_supported',
            message = format('work needs transactions that are read committed, this one is %s', current_setting('transaction_isolation')),
            hint = 'set default_transaction_isolation to read committed';
    end if;
    if batch is null or batch not between 1 and 1000 then
        raise exception using errcode = 'invalid_parameter_value', message = format('batch must be 1 to 1000 rows, got %s', coalesce(batch::text, 'null'));
    end if;
    if search is not null then
        perform hartonomous._own_search(search);
    end if;
    for own in
        select * from hartonomous._own_searches s where (_work.search is null or s.search = _work.search) and s.paused_until <= clock_timestamp()
            and (select count(*) from pg_class c where c.oid in (s.source, s.texts, s.chunks, s.queue)) = 4
        order by s.worked_at nulls first, s.id
    loop
        continue when not hartonomous._lock_source(own, false);
        execute format('select array_agg(q.id) from (select id from %s where due <= clock_timestamp() order by id limit $1 for update skip locked) q', own.queue)
        into entries using batch;
        if entries is not null then
            perform hartonomous._try_entries(own.id, entries);
            return false;
        end if;
    end loop;
    -- Nothing is free: wait for what others hold, so that nothing is undone when work returns. What is free then they have left.
    for own in
        select * from hartonomous._own_searches s where (_work.search is null or s.search = _work.search) and s.paused_until <= clock_timestamp()
            and (select count(*) from pg_class c where c.oid in (s.source, s.texts, s.chunks, s.queue)) = 4
    loop
        continue when not hartonomous._lock_source(own, true);
        execute format('select array_agg(q.id) from (select id from %s where due <= clock_timestamp() order by id limit 1 for update) q', own.queue)
        into entries;
        if entries is not null then
            return false;
        end if;
    end loop;
    return true;
end
$$;
comment on function hartonomous._work(regclass, integer) is
    'work on one batch of one of the caller''s searches, or wait for another worker''s; true where nothing was left to do';

create or replace procedure hartonomous.work(search regclass default null, batch integer default 16)
language plpgsql
as $$
declare
    finished boolean;
begin
    -- It commits, so it can pin no search path: nothing is looked up here that does not name its schema.
    loop
        finished := hartonomous._work(search, batch);
        commit;
        exit when finished;
    end loop;
end
$$;
comment on procedure hartonomous.work(regclass, integer) is
    'embed what is queued for a search of the caller''s, or for all of them, and commit batch by batch until nothing is due';

revoke all on function
    hartonomous._embed_chunks(hartonomous.searches, regclass, text, boolean, text[], text[], hartonomous._chunk[]),
    hartonomous._write_chunks(hartonomous.searches, regclass, text[], text[], bigint[], hartonomous._chunk[]), hartonomous._work_entries(bigint, bigint[]),
    hartonomous._due_again(integer), hartonomous._try_entries(bigint, bigint[]), hartonomous._finish_rebuild(bigint),
    hartonomous.set_search_model(regclass, text), hartonomous._lock_source(hartonomous.searches, boolean), hartonomous._work(regclass, integer)
from public;
revoke all on procedure hartonomous.work(regclass, integer) from public;
grant execute on function
    hartonomous._embed_chunks(hartonomous.searches, regclass, text, boolean, text[], text[], hartonomous._chunk[]),
    hartonomous._write_chunks(hartonomous.searches, regclass, text[], text[], bigint[], hartonomous._chunk[]), hartonomous._work_entries(bigint, bigint[]),
    hartonomous._due_again(integer), hartonomous._try_entries(bigint, bigint[]), hartonomous._finish_rebuild(bigint),
    hartonomous.set_search_model(regclass, text), hartonomous._lock_source(hartonomous.searches, boolean), hartonomous._work(regclass, integer)
to hartonomous_user;
grant execute on procedure hartonomous.work(regclass, integer) to hartonomous_user;
