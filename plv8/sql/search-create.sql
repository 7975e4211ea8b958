-- What a search consists of: create_search, drop_search, refresh_search, retry_search and the parts they share.
-- Everything here runs as its caller. A key is one column or several: where lists of columns are put into statements, they
-- come from _search_key.

create or replace function hartonomous._search_key(
    source regclass, out names text[], out types text[], out equals text[], out keys text[])
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
    select array_agg(quote_ident(a.attname) order by k.n),
        array_agg((
            -- A domain's checks are its maker's: keys are kept as what it is made of.
            with recursive base (type, modifier, depth) as (
                select a.atttypid, a.atttypmod, 0
                union all
                select t.typbasetype, t.typtypmod, b.depth + 1 from base b join pg_type t on t.oid = b.type where t.typtype = 'd'
            )
            select format_type(b.type, b.modifier) from base b order by b.depth desc limit 1
        ) || case when a.attcollation not in (0, 'pg_catalog.default'::regcollation) then ' collate ' || a.attcollation::regcollation else '' end
            order by k.n),
        array_agg(format('operator(%I.%s)', n.nspname, o.oprname) order by k.n),
        array_agg('key' || case i.indnkeyatts when 1 then '' else k.n::text end order by k.n)
    from pg_index i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_opclass c on c.oid = i.indclass[k.n::integer - 1]
    join pg_amop e on e.amopfamily = c.opcfamily and e.amopstrategy = 3 and e.amoplefttype = c.opcintype and e.amoprighttype = c.opcintype
    join pg_operator o on o.oid = e.amopopr
    join pg_namespace n on n.oid = o.oprnamespace
    where i.indrelid = source and i.indisprimary and k.n <= i.indnkeyatts
$$;
comment on function hartonomous._search_key(regclass) is
    'columns of a table''s primary key, their types without domains, the operators by which its index compares them, and the names they have in a search';

create or replace function hartonomous._same_key(one text, other text, equals text[], one_names text[], other_names text[]) returns text
language sql immutable parallel unsafe cost 10 set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s.%s %s %s.%s', one, o, e, other, p), ' and ' order by n)
    from unnest(equals, one_names, other_names) with ordinality as k (e, o, p, n)
$$;
comment on function hartonomous._same_key(text, text, text[], text[], text[]) is 'condition that two rows have one key';

create or replace function hartonomous._listed(names text[], prefix text default '') returns text
language sql immutable parallel unsafe cost 10 set search_path = pg_catalog, pg_temp
as $$ select string_agg(prefix || k, ', ' order by n) from unnest(names) with ordinality as c (k, n) $$;
comment on function hartonomous._listed(text[], text) is 'names with commas between them, each with a prefix';

create or replace function hartonomous._search_model(
    model text, out name text, out digest text, out dimensions integer, out has_prefixes boolean)
language plpgsql stable parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
begin
    -- Asks for an embedding first, which says what is wrong with a model, or that there is none.
    dimensions := cardinality(hartonomous.embed('dimensions', model));
    name := coalesce(model, hartonomous.default_embedding_model());
    select m.name, m.digest into name, digest from hartonomous.model_list m
    where m.name in (_search_model.name, _search_model.name || ':latest') order by m.name = _search_model.name desc limit 1;
    begin
        has_prefixes := hartonomous.embed('prefix', name, '{"kind": "query"}') is not null;
    exception when feature_not_supported then
        has_prefixes := false;
    end;
end
$$;
comment on function hartonomous._search_model(text) is
    'a model for embeddings by its name, or the default one, and whether it says what goes before queries and documents; an error where it makes none';

create or replace function hartonomous._embed_options(kind text, options jsonb, has_prefixes boolean) returns jsonb
language sql immutable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
    select '{"normalize": true}'::jsonb
        || case when has_prefixes and not options ? (kind || '_prefix') then jsonb_build_object('kind', kind) else '{}' end
$$;
comment on function hartonomous._embed_options(text, jsonb, boolean) is
    'options of embed for queries or documents of a search: the model''s own prefix, unless the search''s options name one';

create or replace function hartonomous._require_model(search regclass, model text, digest text) returns void
language plpgsql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from hartonomous.model_list m where m.name = model and m.digest = _require_model.digest) then
        raise exception using errcode = 'undefined_object', message = format('model %s of search %s is gone or another than it was', left(model, 200), search),
            hint = format('select hartonomous.set_search_model(%L, ''NAME'') makes all embeddings anew', search);
    end if;
end
$$;
comment on function hartonomous._require_model(regclass, text, text) is 'an error where a model is not the one with which a search was made';

create or replace function hartonomous._check_search(own hartonomous.searches, trouble text) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
    if trouble is not null then
        raise exception using errcode = 'wrong_object_type', message = trouble, hint = format('undo that, or select hartonomous.drop_search(%L)', own.search);
    end if;
end
$$;
comment on function hartonomous._check_search(hartonomous.searches, text) is 'an error where there is trouble with the table of a search';

create or replace function hartonomous._check_source(source regclass) returns void
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    facts pg_class;
    reason text := hartonomous._source_trouble(source);
begin
    select * into facts from pg_class c where c.oid = source;
    if facts.oid is null then
        raise exception using errcode = 'undefined_table', message = format('table %s does not exist', coalesce(source::text, 'null'));
    end if;
    if reason is not null then
        raise exception using errcode = 'wrong_object_type', message = reason;
    end if;
    if facts.relowner <> quote_ident(current_user)::regrole then
        raise exception using errcode = 'insufficient_privilege',
            message = format('table %s belongs to %s, a search of it to %s', source, facts.relowner::regrole, current_user),
            hint = format('make it as %s: triggers and worker have the rights of the table''s owner', facts.relowner::regrole);
    end if;
end
$$;
comment on function hartonomous._check_source(regclass) is 'an error, with the reason, for what cannot be searched';

create or replace function hartonomous._search_options(options json, dimensions integer) returns jsonb
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    kinds constant jsonb := '{"expression": "string", "schema": "string", "chunking": "object", "query_prefix": "string", "document_prefix": "string",
        "language": "string", "vector": "string", "index": "boolean"}';
    given jsonb := coalesce(options, '{}')::jsonb;
    each record;
    vector text;
    pgvector text := (select e.extversion from pg_extension e where e.extname = 'vector');
    most_indexed integer;
begin
    if jsonb_typeof(given) <> 'object' then
        raise exception using errcode = 'invalid_parameter_value', message = format('options must be a JSON object, got %s', left(given::text, 200));
    end if;
    for each in select e.key, e.value, kinds ->> e.key as kind from jsonb_each(given) e loop
        if each.kind is null then
            raise exception using errcode = 'invalid_parameter_value', message = format('unknown option %s', left(to_json(each.key)::text, 200)),
                hint = 'options: ' || (select string_agg(k, ', ') from jsonb_object_keys(kinds) k);
        elsif jsonb_typeof(each.value) not in ('null', each.kind) then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('option %s must be a JSON %s, got %s', each.key, each.kind, left(each.value::text, 200));
        end if;
    end loop;
    given := jsonb_strip_nulls(given);
    vector := coalesce(given ->> 'vector', case when pgvector is null then 'bytea' else 'vector' end);
    if vector not in ('bytea', 'vector', 'halfvec') then
        raise exception using errcode = 'invalid_parameter_value', message = format('option vector must be one of bytea, vector, halfvec, got %s', left(to_json(vector)::text, 200));
    end if;
    if vector <> 'bytea' and not exists (
        select from pg_extension e join pg_type t on t.typnamespace = e.extnamespace and t.typname = vector where e.extname = 'vector') then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = format('option vector is %s, and extension vector %s', vector, case when pgvector is null then 'is not installed in this database' else pgvector || ' does not have it' end),
            hint = 'create extension vector; or leave the option out';
    end if;
    most_indexed := case when not exists (select from pg_am a where a.amname = 'hnsw') then 0 when vector = 'halfvec' then 4000 when vector = 'vector' then 2000 else 0 end;
    if (given ->> 'index')::boolean and dimensions > most_indexed then
        raise exception using errcode = 'object_not_in_prerequisite_state', message = format('%s dimensions of type %s cannot be indexed', dimensions, vector),
            hint = 'HNSW needs extension vector 0.5 or later, and has at most 2000 dimensions of vector and 4000 of halfvec';
    end if;
    return given || jsonb_build_object('vector', vector, 'index', coalesce((given ->> 'index')::boolean, dimensions <= most_indexed),
        'language', coalesce(given ->> 'language', current_setting('default_text_search_config'))::regconfig::text);
end
$$;
comment on function hartonomous._search_options(json, integer) is 'options of create_search with all defaults; an error that names what is wrong with one';

create or replace function hartonomous._vector_schema() returns text
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$ select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector' $$;
comment on function hartonomous._vector_schema() is 'schema of pgvector; null where it is not installed';

create or replace function hartonomous._make_chunks(relation text, source regclass, dimensions integer, settings jsonb) returns regclass
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(source);
    vector text := settings ->> 'vector';
begin
    execute format('create table %s (id bigint generated always as identity primary key, %s,
            number integer not null, "from" integer not null, "to" integer not null, text text not null, words tsvector not null, embedding %s not null)',
        relation, (select string_agg(format('%s %s not null', k, t), ', ' order by n) from unnest(key.keys, key.types) with ordinality as c (k, t, n)),
        case vector when 'bytea' then 'bytea' else format('%s.%s(%s)', hartonomous._vector_schema(), vector, dimensions) end);
    execute format('comment on table %s is %L', relation, 'chunks of the texts of ' || source || ', their words and embeddings');
    -- Vectors stand in the table itself, so that reading all of them reads one file.
    execute format('alter table %s alter column embedding set storage main', relation);
    execute format('create index on %s (%s)', relation, hartonomous._listed(key.keys));
    execute format('create index on %s using gin (words)', relation);
    if (settings ->> 'index')::boolean then
        execute format('create index on %s using hnsw (embedding %s.%s_ip_ops)', relation, hartonomous._vector_schema(), vector);
    end if;
    -- Nobody but its owner's until it has its policy.
    execute format('alter table %s enable row level security', relation);
    return relation::regclass;
end
$$;
comment on function hartonomous._make_chunks(text, regclass, integer, jsonb) is 'a table of chunks, of which nobody but its owner sees a row';

create or replace function hartonomous._show_chunks(view_name text, source regclass, chunks regclass) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(source);
    -- Names of the source, unless they are those of other columns.
    named text[] := case when key.names && '{number,"\"from\"","\"to\"",text}' then key.keys else key.names end;
begin
    execute format('create or replace view %s with (security_invoker = true) as
        select %s, c.number, c."from", c."to", c.text from only %s t join %s c on %s',
        view_name, (select string_agg(format('t.%s as %s', k, n), ', ' order by o) from unnest(key.names, named) with ordinality as c (k, n, o)),
        source, chunks, hartonomous._same_key('t', 'c', key.equals, key.names, key.keys));
end
$$;
comment on function hartonomous._show_chunks(text, regclass, regclass) is 'the view that joins a table with its chunks';

create or replace function hartonomous._make_triggers(source regclass, schema text, name text) returns void
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    note text := format('%I.%I', schema, name || '_note');
    event record;
begin
    -- As the table's owner, since who writes to the table need not be allowed to write to the queue. Table, key and schema are
    -- looked up by the trigger, so they may be renamed.
    execute format($function$
        create function %s() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
        as $body$
        declare
            key text := (select string_agg(quote_ident(a.attname), ', ' order by k.n) from pg_index i
                cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, n)
                join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                where i.indrelid = tg_relid and i.indisprimary and k.n <= i.indnkeyatts);
            queue text := (select format('%%I.%%I', n.nspname, tg_argv[0]) from pg_trigger g join pg_proc p on p.oid = g.tgfoid
                join pg_namespace n on n.oid = p.pronamespace where g.tgrelid = tg_relid and g.tgname = tg_name);
        begin
            if key is null then
                raise exception using errcode = 'object_not_in_prerequisite_state',
                    message = format('table %%s is searched and has no primary key any more', tg_relid::regclass),
                    hint = 'add one, or drop the search with hartonomous.drop_search';
            end if;
            execute format('insert into %%s (%%s) ', queue, tg_argv[1]) || case tg_op
                when 'TRUNCATE' then format('select %%s from (values (1)) v', regexp_replace(tg_argv[1], '[^ ,]+', 'null', 'g'))
                when 'UPDATE' then format('select %%1$s from changed union select %%1$s from replaced', key)
                else format('select %%s from changed', key) end;
            return null;
        end
        $body$ $function$, note);
    execute format('revoke all on function %s() from public', note);
    execute format('comment on function %s() is %L', note, 'notes which rows of ' || source || ' have changed');
    for event in values ('insert', 'referencing new table as changed'), ('update', 'referencing new table as changed old table as replaced'),
        ('delete', 'referencing old table as changed'), ('truncate', '') loop
        execute format('create trigger %I after %s on %s %s for each statement execute function %s(%L, %L)',
            name || '_' || event.column1, event.column1, source, event.column2, note, name || '_queue',
            hartonomous._listed((hartonomous._search_key(source)).keys));
    end loop;
end
$$;
comment on function hartonomous._make_triggers(regclass, text, text) is 'the triggers that note what changes in a table';

create or replace function hartonomous._queue_all(made hartonomous.searches, changed boolean) returns bigint
language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(made.source);
    queued bigint;
begin
    perform hartonomous._guard_search(made);
    -- What has no row any more is found by an entry about the whole table.
    execute format('insert into %s (%s) values (null)', made.queue, key.keys[1]);
    execute format('insert into %s (changed, %s) select $1, %s from only %s', made.queue, hartonomous._listed(key.keys), hartonomous._listed(key.names), made.source)
    using changed;
    get diagnostics queued = row_count;
    return queued;
end
$$;
comment on function hartonomous._queue_all(hartonomous.searches, boolean) is
    'queue every row of a searched table, as changed or only to be embedded; returns how many';

create or replace function hartonomous._create_search(
    source regclass, columns text[], name text, model text, options json, caller_path text)
returns regclass
language plpgsql volatile parallel unsafe cost 1000000 set search_path = pg_catalog, pg_temp
as $$
declare
    wanted record;
    settings jsonb;
    key record;
    relname text;
    schema text;
    expression text;
    missing text;
    taken text;
    statement text;
    made hartonomous.searches;
begin
    if current_setting('server_version_num')::integer < 150000 then
        raise exception using errcode = 'feature_not_supported',
            message = format('searches need PostgreSQL 15 or later, this is %s', current_setting('server_version')),
            hint = 'before, no view had the rights of its caller';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using errcode = 'feature_not_supported',
            message = format('searches are made in transactions that are read committed, this one is %s', current_setting('transaction_isolation')),
            hint = 'another would miss rows that were written after it began';
    end if;
    perform hartonomous._check_source(source);
    -- Before anything is read: from here on nobody writes to the table until the triggers are there.
    execute format('lock table only %s in share row exclusive mode', source);
    wanted := hartonomous._search_model(model);
    settings := hartonomous._search_options(options, wanted.dimensions);
    perform hartonomous.chunk('options', wanted.name, (settings ->> 'chunking')::json);
    key := hartonomous._search_key(source);
    select c.relname, coalesce(settings ->> 'schema', n.nspname) into relname, schema
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = source;
    name := coalesce(name, relname || '_search');
    settings := settings || jsonb_build_object('name', name);
    if octet_length(name) not between 1 and 50 then
        raise exception using errcode = 'invalid_name',
            message = format('name %s of a search has %s bytes, 1 to 50 are possible', left(name, 200), octet_length(name));
    end if;
    expression := settings ->> 'expression';
    columns := nullif(columns, '{}');
    if (columns is null) = (expression is null) then
        raise exception using errcode = 'invalid_parameter_value', message = 'a search needs columns or option expression, and not both',
            hint = format('as hartonomous.create_search(%L, ''{title, body}'')', source);
    end if;
    if expression is null then
        select c into missing from unnest(columns) c
        where c is null or not exists (select from pg_attribute a where a.attrelid = source and a.attname = c and a.attnum > 0 and not a.attisdropped) limit 1;
        if found then
            raise exception using errcode = 'undefined_column', message = format('table %s has no column %s', source, coalesce(left(missing, 200), 'null'));
        end if;
        select case cardinality(columns) when 1 then min(c) else format('pg_catalog.concat_ws(E''\n\n'', %s)', string_agg(c, ', ' order by n)) end into expression
        from unnest(columns) with ordinality as u (column_name, n), format('%I.%I', relname, column_name) as c;
    end if;
    select format('%I.%I', schema, c.relname) into taken from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = schema and c.relname in (name, name || '_texts', name || '_queue', name || '_chunks') order by c.relname = name desc limit 1;
    if found then
        raise exception using errcode = 'duplicate_table', message = format('%s exists already, search %I.%I is not made', taken, schema, name),
            hint = 'give another name, or hartonomous.drop_search what there is';
    end if;
    statement := format('create view %I.%I with (security_invoker = true) as select %s, %I.xmin as version, (%s)::pg_catalog.text as text from only %s',
        schema, name || '_texts', (select string_agg(format('%I.%s as %s', relname, k, a), ', ' order by n)
            from unnest(key.names, key.keys) with ordinality as c (k, a, n)), relname, expression || E'\n', source);
    -- The expression is the caller's, and read with the caller's path; only the view knows it, so renaming what it names does no harm.
    perform set_config('search_path', caller_path, true);
    execute statement;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    execute format('comment on view %I.%I is %L', schema, name || '_texts', 'texts of ' || source || ' that are searched');
    execute format('create table %I.%I (id bigint generated always as identity primary key, %s, changed boolean not null default true, attempts integer not null default 0,
            due timestamptz not null default ''-infinity'', noted_at timestamptz not null default now(), error text)',
        schema, name || '_queue', (select string_agg(format('%s %s', k, t), ', ' order by n) from unnest(key.keys, key.types) with ordinality as c (k, t, n)));
    execute format('comment on table %I.%I is %L', schema, name || '_queue',
        'keys of rows of ' || source || ' that were changed; without a key: the whole table; due at infinity: given up for the error that is told');
    made.source := source;
    made.texts := format('%I.%I', schema, name || '_texts')::regclass;
    made.queue := format('%I.%I', schema, name || '_queue')::regclass;
    execute format('create index on %s (%s) where changed', made.queue, hartonomous._listed(key.keys));
    made.chunks := hartonomous._make_chunks(format('%I.%I', schema, name || '_chunks'), source, wanted.dimensions, settings);
    perform hartonomous._guard_chunks(made.chunks, source, made.queue);
    perform hartonomous._show_chunks(format('%I.%I', schema, name), source, made.chunks);
    made.search := format('%I.%I', schema, name)::regclass;
    execute format('comment on view %s is %L', made.search, 'search of ' || source || ': its texts in chunks; hartonomous.search finds them');
    insert into hartonomous._own_searches (owner, search, source, texts, chunks, queue, model, digest, has_prefixes, options)
    values (quote_ident(current_user)::regrole, made.search, source, made.texts, made.chunks, made.queue, wanted.name, wanted.digest, wanted.has_prefixes,
        settings);
    perform hartonomous._make_triggers(source, schema, name);
    perform hartonomous._queue_all(made, false);
    return made.search;
end
$$;
comment on function hartonomous._create_search(regclass, text[], text, text, json, text) is 'create_search, with the search path of its caller';

create or replace function hartonomous.create_search(
    source regclass, columns text[] default null, name text default null, model text default null, options json default '{}')
returns regclass
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._create_search($1, $2, $3, $4, $5, pg_catalog.current_setting('search_path')) $$;
comment on function hartonomous.create_search(regclass, text[], text, text, json) is
    'make a search of a table''s texts: chunks, queue and triggers beside the table; hartonomous.work() embeds what is queued';

create or replace function hartonomous._own_search(search regclass) returns hartonomous.searches
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches;
begin
    select * into own from hartonomous._own_searches s where s.search = _own_search.search;
    if own.id is null then
        raise exception using errcode = 'undefined_object', message = format('%s is no search of %s', coalesce(search::text, 'null'), current_user),
            hint = 'select * from hartonomous.search_list shows those there are';
    end if;
    return own;
end
$$;
comment on function hartonomous._own_search(regclass) is 'a search of the caller''s by the view that is its name';

create or replace function hartonomous.refresh_search(search regclass) returns bigint
language sql volatile parallel unsafe cost 1000 set search_path = pg_catalog, pg_temp
as $$
    select hartonomous._check_search(s, hartonomous._search_trouble(s.source, s.chunks)) from hartonomous._own_search(search) s;
    select hartonomous._queue_all(hartonomous._own_search(search), true);
$$;
comment on function hartonomous.refresh_search(regclass) is
    'queue every row again, after changes that no trigger noticed; chunks that are as they were are not embedded again';

create or replace function hartonomous.retry_search(search regclass) returns bigint
language plpgsql volatile parallel unsafe cost 1000 set search_path = pg_catalog, pg_temp
as $$
declare
    own hartonomous.searches := hartonomous._own_search(search);
    again bigint;
begin
    execute format('update %s set attempts = 0, due = ''-infinity'' where attempts > 0', own.queue);
    get diagnostics again = row_count;
    update hartonomous._own_searches s set failures = 0, paused_until = '-infinity' where s.id = own.id;
    return again;
end
$$;
comment on function hartonomous.retry_search(regclass) is 'let work() try again at once what failed or was given up; returns how many changes that are';

create or replace function hartonomous.drop_search(search regclass) returns void
language plpgsql volatile parallel unsafe cost 1000 set search_path = pg_catalog, pg_temp
as $$
declare
    gone hartonomous.searches := hartonomous._own_search(search);
    part record;
begin
    -- Whatever of it is still there: the table may have been dropped with all that depends on it.
    for part in
        with parts as (
            select c.oid, c.relkind, c.relnamespace, w.n from pg_class c
            join unnest(array[gone.search, gone.texts, gone.chunks, gone.next_chunks, gone.queue]::oid[]) with ordinality as w (oid, n) on w.oid = c.oid
        ), notes as (
            select p.oid from pg_proc p where p.proname = gone.options ->> 'name' || '_note' and p.proowner = gone.owner
                and p.prorettype = 'trigger'::regtype and p.pronamespace in (select relnamespace from parts)
        )
        select 1 as n, 0.0 as o, format('drop trigger %I on %s', g.tgname, g.tgrelid::regclass) as statement
        from pg_trigger g where g.tgfoid in (select oid from notes)
        union all
        select 2, 0, 'drop function ' || oid::regprocedure from notes
        union all
        -- The policy calls the function, which reads chunks and queue.
        select 3, 0, format('drop policy rows_of_source on %s', o.polrelid::regclass) from pg_policy o
        where o.polname = 'rows_of_source' and o.polrelid in (select oid from parts)
        union all
        select 4, 0, 'drop function ' || f from cast(hartonomous._waiting_function(gone.queue) as regprocedure) f where f is not null
        union all
        select 5, n, format('drop %s %s', case relkind when 'v' then 'view' else 'table' end, oid::regclass) from parts
        order by 1, 2
    loop
        execute part.statement;
    end loop;
    delete from hartonomous._own_searches s where s.id = gone.id;
end
$$;
comment on function hartonomous.drop_search(regclass) is 'drop a search with its chunks, queue, views and triggers; the table stays as it is';

revoke all on function
    hartonomous._search_key(regclass), hartonomous._same_key(text, text, text[], text[], text[]), hartonomous._listed(text[], text),
    hartonomous._search_model(text), hartonomous._embed_options(text, jsonb, boolean), hartonomous._require_model(regclass, text, text), hartonomous._check_search(hartonomous.searches, text), hartonomous._check_source(regclass), hartonomous._search_options(json, integer), hartonomous._vector_schema(),
    hartonomous._make_chunks(text, regclass, integer, jsonb), hartonomous._guard_chunks(regclass, regclass, regclass),
    hartonomous._guard_search(hartonomous.searches), hartonomous._waiting_function(regclass), hartonomous._show_chunks(text, regclass, regclass),
    hartonomous._make_triggers(regclass, text, text), hartonomous._queue_all(hartonomous.searches, boolean),
    hartonomous._create_search(regclass, text[], text, text, json, text), hartonomous.create_search(regclass, text[], text, text, json),
    hartonomous._own_search(regclass), hartonomous.refresh_search(regclass), hartonomous.retry_search(regclass), hartonomous.drop_search(regclass)
from public;
grant execute on function
    hartonomous._search_key(regclass), hartonomous._same_key(text, text, text[], text[], text[]), hartonomous._listed(text[], text),
    hartonomous._search_model(text), hartonomous._embed_options(text, jsonb, boolean), hartonomous._require_model(regclass, text, text), hartonomous._check_search(hartonomous.searches, text), hartonomous._check_source(regclass), hartonomous._search_options(json, integer), hartonomous._vector_schema(),
    hartonomous._make_chunks(text, regclass, integer, jsonb), hartonomous._guard_chunks(regclass, regclass, regclass),
    hartonomous._guard_search(hartonomous.searches), hartonomous._waiting_function(regclass), hartonomous._show_chunks(text, regclass, regclass),
    hartonomous._make_triggers(regclass, text, text), hartonomous._queue_all(hartonomous.searches, boolean),
    hartonomous._create_search(regclass, text[], text, text, json, text), hartonomous.create_search(regclass, text[], text, text, json),
    hartonomous._own_search(regclass), hartonomous.refresh_search(regclass), hartonomous.retry_search(regclass), hartonomous.drop_search(regclass)
to hartonomous_user;
