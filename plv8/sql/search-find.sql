-- search: the chunks that are near to a question and those that have its words, in one order

create or replace function hartonomous._word_queries(language regconfig, query text) returns tsquery[]
language sql stable parallel unsafe cost 100 set search_path = pg_catalog, pg_temp
as $$
    select array(select ('''' || replace(replace(w, '\', '\\'), '''', '''''') || '''')::tsquery from unnest(tsvector_to_array(to_tsvector(language, query))) w)
$$;
comment on function hartonomous._word_queries(regconfig, text) is 'a query for each of the words of a text';

create or replace function hartonomous._find_options(options json) returns jsonb
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    defaults constant jsonb := '{"vector_weight": 1, "text_weight": 1, "candidates": null, "rerank": null}';
    given jsonb := coalesce(options, '{}')::jsonb;
    each record;
begin
    if jsonb_typeof(given) <> 'object' then
        raise exception using errcode = 'invalid_parameter_value', message = format('options must be a JSON object, got %s', left(given::text, 200));
    end if;
    for each in select e.key, e.value from jsonb_each(given) e where e.value <> 'null' loop
        if not defaults ? each.key then
            raise exception using errcode = 'invalid_parameter_value', message = format('unknown option %s', left(to_json(each.key)::text, 200)),
                hint = 'options: ' || (select string_agg(k, ', ') from jsonb_object_keys(defaults) k);
        elsif each.key like '%weight' and not (jsonb_typeof(each.value) = 'number' and each.value >= '0' and each.value <= '1000000') then
            raise exception using errcode = 'invalid_parameter_value', message = format('option %s must be a number from 0 to 1000000, got %s', each.key, left(each.value::text, 200));
        elsif each.key = 'candidates' and not (each.value::text ~ '^[0-9]{1,5}$' and each.value >= '1' and each.value <= '10000') then
            raise exception using errcode = 'invalid_parameter_value', message = format('option candidates must be an integer from 1 to 10000, got %s', left(each.value::text, 200));
        elsif each.key = 'rerank' and jsonb_typeof(each.value) <> 'string' then
            raise exception using errcode = 'invalid_parameter_value', message = format('option rerank must be the name of a model, got %s', left(each.value::text, 200));
        end if;
    end loop;
    return defaults || jsonb_strip_nulls(given);
end
$$;
comment on function hartonomous._find_options(json) is 'options of search with all defaults; an error that names what is wrong with one';

create or replace function hartonomous._near_statement(own hartonomous.searches, relations text, by_index boolean, condition text) returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    vector text := own.options ->> 'vector';
    distance text := format('c.embedding operator(%1$s.<#>) $2::%1$s.%2$s', hartonomous._vector_schema(), vector);
begin
    if vector = 'bytea' and to_regprocedure('pg_catalog.hartonomous_v8_inner_product(bytea, bytea)') is null then
        -- A thousand vectors at a time are handed over, since a call of JavaScript costs more than a product.
        return format($sql$
            select b.ids[n.ord] as id, n.score
            from pg_catalog.generate_series(0, (select pg_catalog.max(m.id) from %1$s m) operator(pg_catalog./) 1000) g (block)
            cross join lateral (
                select pg_catalog.array_agg(c.id) as ids, pg_catalog.string_agg(c.embedding, ''::pg_catalog.bytea) as vectors from %2$s
                where c.id operator(pg_catalog.>=) (g.block operator(pg_catalog.*) 1000) and c.id operator(pg_catalog.<) ((g.block operator(pg_catalog.+) 1) operator(pg_catalog.*) 1000)
            ) b
            cross join lateral hartonomous._nearest(b.vectors, $2::pg_catalog.bytea, $4) n where %3$s order by 2 desc, 1 limit $4 $sql$,
            own.chunks, relations, condition);
    end if;
    return format('select c.id, %s as score from %s where %s order by %s limit $4',
        case vector when 'bytea' then 'nullif(pg_catalog.hartonomous_v8_inner_product(c.embedding, $2::pg_catalog.bytea), ''NaN'')'
            else format('operator(pg_catalog.-) (%s)', distance) end,
        relations, condition, case when by_index then distance else '2 desc nulls last, 1' end);
end
$$;
comment on function hartonomous._near_statement(hartonomous.searches, text, boolean, text) is
    'the query for the $4 chunks c of some relations whose embeddings are nearest to $2, read along an index or all of them, where a condition holds';

create or replace function hartonomous._find_statement(own hartonomous.searches, filter text, reranked boolean) returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    key record := hartonomous._search_key(own.source);
    seen text;
    near text;
    found_rows text;
begin
    -- Rows that the caller may see and wants. The filter is read along the caller's path, so everything else names its schema, and
    -- what stands before it in the statement has names that tables do not have.
    select format('(select %s from only %s where (%s))', string_agg(format('%I.%s as %s', c.relname, n, a), ', ' order by o), own.source, coalesce(filter || E'\n', 'true'))
    into seen
    from pg_class c cross join unnest(key.names, key.keys) with ordinality as u (n, a, o) where c.oid = own.source group by c.relname;
    seen := format('%s c join %s s on %s', own.chunks, seen, hartonomous._same_key('s', 'c', key.equals, key.keys, key.keys));
    if filter is null and not row_security_active(own.source) then
        -- All rows count but those that went since their chunks were made: the rows of the nearest chunks are looked at, and only
        -- where some are gone, of all chunks. An index, which knows the nearest of all rows, serves here alone.
        near := format($sql$
            top as materialized (%1$s), kept as materialized (
                select t.id, t.score from top t join (%2$s) on c.id operator(pg_catalog.=) t.id
            ), short as materialized (
                select (select pg_catalog.count(*) from top t) operator(pg_catalog.>=) $4 and (select pg_catalog.count(*) from kept k) operator(pg_catalog.<) $4 as yes
            ), _listed as (
                select k.id, k.score from kept k where not (select h.yes from short h) union all (%3$s)
            )$sql$,
            hartonomous._near_statement(own, own.chunks || ' c', own.options ->> 'vector' <> 'bytea', 'true'), seen,
            hartonomous._near_statement(own, seen, false, '(select h.yes from short h)'));
    else
        near := format('_listed as (%s)', hartonomous._near_statement(own, seen, false, 'true'));
    end if;
    -- Rare words tell most: each counts by the logarithm of how many chunks there are with any word for one that has it.
    found_rows := format($sql$
        with %1$s, _near as (
            select l.id, l.score, pg_catalog.row_number() over (order by l.score desc, l.id) as rank from _listed l where l.score is not null
        ), matched as materialized (
            select c.id, w.n, pg_catalog.ts_rank(c.words, w.word)::pg_catalog.float8 as score
            from %2$s cross join pg_catalog.unnest($11) with ordinality w (word, n)
            where $5 operator(pg_catalog.>) 0 and c.words operator(pg_catalog.@@) $3 and c.words operator(pg_catalog.@@) w.word
        ), word_weights as (
            select m.n, pg_catalog.ln(1 operator(pg_catalog.+) (
                (select pg_catalog.count(distinct a.id) from matched a)::pg_catalog.float8 operator(pg_catalog./) pg_catalog.count(*)::pg_catalog.float8)) as weight
            from matched m group by m.n
        ), worded as (
            select c.id, c.score, pg_catalog.row_number() over (order by c.score desc, c.id) as rank
            from (select m.id, pg_catalog.sum(m.score operator(pg_catalog.*) i.weight) as score
                from matched m join word_weights i on i.n operator(pg_catalog.=) m.n group by m.id order by 2 desc, 1 limit $5) c
        ), fused as (
            select coalesce(n.id, w.id) as id, n.rank as vector_rank, n.score as vector_score, w.rank as text_rank, w.score as text_score,
                coalesce($6 operator(pg_catalog./) (60 operator(pg_catalog.+) n.rank)::pg_catalog.float8, 0)
                operator(pg_catalog.+) coalesce($7 operator(pg_catalog./) (60 operator(pg_catalog.+) w.rank)::pg_catalog.float8, 0) as score
            from _near n full join worded w on n.id operator(pg_catalog.=) w.id
        )
        select pg_catalog.row_number() over (order by f.score desc, f.id) as place, %3$s as key, c.number, c."from", c."to", c.text, f.score,
            f.vector_rank::pg_catalog.int4, f.vector_score, f.text_rank::pg_catalog.int4, f.text_score::pg_catalog.float8
        from fused f join %4$s c on c.id operator(pg_catalog.=) f.id order by f.score desc, f.id limit $8 $sql$,
        near, seen,
        case cardinality(key.keys) when 1 then 'c.key::pg_catalog.text' else format('pg_catalog.json_build_array(%s)::pg_catalog.text', hartonomous._listed(key.keys, 'c.')) end,
        own.chunks);
    return format(case when reranked then $sql$
        with found as materialized (%s), reranked as (
            select r.ord, r.score from hartonomous.rerank($1, (select pg_catalog.array_agg(f.text order by f.place) from found f), $10) r
        )
        select f.key, f.number, f."from", f."to", f.text, f.score, f.vector_rank, f.vector_score, f.text_rank, f.text_score, r.score
        from found f join reranked r on r.ord operator(pg_catalog.=) f.place order by r.score desc nulls last, f.place limit $9 $sql$
        else $sql$
        select f.key, f.number, f."from", f."to", f.text, f.score, f.vector_rank, f.vector_score, f.text_rank, f.text_score, null::pg_catalog.float8
        from (%s) f order by f.place limit $9 $sql$ end, found_rows);
end
$$;
comment on function hartonomous._find_statement(hartonomous.searches, text, boolean) is
    'the query of a search: $1 the question, $2 its embedding, $3 its words, $4 and $5 how many of each way, $6 and $7 their weights, $8 how many to rerank, $9 how many to give, $10 by which model, $11 its words one by one';

create or replace function hartonomous._search(search regclass, query text, k integer, filter text, options json, caller_path text)
returns table (key text, number integer, "from" integer, "to" integer, text text, score double precision, vector_rank integer,
    vector_score double precision, text_rank integer, text_score double precision, rerank_score double precision)
language plpgsql volatile parallel unsafe cost 1000000 rows 10 set search_path = pg_catalog, pg_temp
set jit = off set max_parallel_workers_per_gather = 0 -- compiling, and V8's library in each parallel worker, take longer than the search
as $$
#variable_conflict use_column
declare
    settings jsonb := hartonomous._find_options(options);
    own hartonomous.searches;
    again hartonomous.searches;
    is_gone boolean;
    candidates integer := greatest(k, coalesce((settings ->> 'candidates')::integer, 4 * k + 20));
    vector_weight double precision := (settings ->> 'vector_weight')::double precision;
    text_weight double precision := (settings ->> 'text_weight')::double precision;
    reranker text := settings ->> 'rerank';
    question real[];
    embedding text;
    words tsquery[];
    any_word tsquery;
    statement text;
    checked text;
    ef_search text := current_setting('hnsw.ef_search', true);
begin
    if k is null or k not between 1 and 1000 then
        raise exception using errcode = 'invalid_parameter_value', message = format('k must be 1 to 1000, got %s', coalesce(k::text, 'null'));
    end if;
    if query is null then
        return;
    end if;
    -- Until a lock holds the chunks that the row names, another model may take over.
    loop
        select * into own from hartonomous._readable_searches s where s.search = _search.search;
        if own.id is null then
            raise exception using errcode = 'undefined_object', message = format('%s is no search whose chunks %s may read', coalesce(search::text, 'null'), current_user),
                hint = 'its owner may: grant select on the table, on the search and on its chunks';
        end if;
        -- A table that is gone has a number for its name, whatever the snapshot still sees in the catalogue.
        is_gone := own.chunks::text ~ '^[0-9]+$';
        if not is_gone then
            begin
                execute format('lock table only %s in access share mode', own.chunks);
            exception when undefined_table then
                is_gone := true;
            end;
        end if;
        select * into again from hartonomous._readable_searches s where s.id = own.id;
        continue when again.chunks is distinct from own.chunks;
        exit when not is_gone;
        raise exception using errcode = 'serialization_failure', message = format('chunks of search %s were replaced after this transaction began', search),
            hint = 'search again in another transaction';
    end loop;
    perform hartonomous._check_search(own, hartonomous._key_trouble(own.source, own.chunks)), hartonomous._require_model(search, own.model, own.digest);
    if reranker is not null then
        -- Nothing to rerank: says what is wrong with the model before anything is looked for.
        perform hartonomous.rerank(query, '{}', reranker);
    end if;
    if vector_weight > 0 then
        question := hartonomous.embed(coalesce(own.options ->> 'query_prefix', '') || query, own.model,
            hartonomous._embed_options('query', own.options, own.has_prefixes)::json);
        embedding := case own.options ->> 'vector' when 'bytea' then hartonomous._vector_bytes(question)::text else array_to_json(question)::text end;
    end if;
    words := hartonomous._word_queries((own.options ->> 'language')::regconfig, query);
    any_word := nullif(array_to_string(words, '|'), '')::tsquery; -- null where no word counts: nothing matches
    statement := hartonomous._find_statement(own, filter, reranker is not null);
    if own.options ->> 'vector' <> 'bytea' then
        perform set_config('hnsw.ef_search', least(1000, greatest(40, candidates))::text, true);
    end if;
    checked := case when filter is not null then format('select 1 from only %s where (%s) limit 0', own.source, filter || E'\n') end;
    perform set_config('search_path', caller_path, true);
    if checked is not null then
        begin
            execute checked;
        exception when others then
            raise exception using errcode = sqlstate, message = pg_catalog.format('filter %s: %s', pg_catalog.to_json(pg_catalog."left"(filter, 200)), sqlerrm),
                hint = 'a condition over the columns of the searched table, in SQL';
        end;
    end if;
    return query execute statement using query, embedding, any_word,
        case when vector_weight operator(pg_catalog.>) 0 then candidates else 0 end, case when text_weight operator(pg_catalog.>) 0 then candidates else 0 end,
        vector_weight, text_weight, case when reranker is null then k else candidates end, k, reranker, words;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    if own.options ->> 'vector' <> 'bytea' then
        perform set_config('hnsw.ef_search', coalesce(ef_search, '40'), true);
    end if;
end
$$;
comment on function hartonomous._search(regclass, text, integer, text, json, text) is 'search, with the search path of its caller';

create or replace function hartonomous.search(search regclass, query text, k integer default 10, filter text default null, options json default '{}')
returns table (key text, number integer, "from" integer, "to" integer, text text, score double precision, vector_rank integer,
    vector_score double precision, text_rank integer, text_score double precision, rerank_score double precision)
language sql volatile parallel unsafe cost 1000000 rows 10
as $$ select * from hartonomous._search($1, $2, $3, $4, $5, pg_catalog.current_setting('search_path')) $$;
comment on function hartonomous.search(regclass, text, integer, text, json) is
    'the k chunks that are nearest to a query and have its words: both ranks fused, of rows that the caller may see and that meet a condition, reranked where a model is named';

revoke all on function
    hartonomous._word_queries(regconfig, text), hartonomous._find_options(json), hartonomous._near_statement(hartonomous.searches, text, boolean, text),
    hartonomous._find_statement(hartonomous.searches, text, boolean),
    hartonomous._search(regclass, text, integer, text, json, text), hartonomous.search(regclass, text, integer, text, json)
from public;
grant execute on function
    hartonomous._word_queries(regconfig, text), hartonomous._find_options(json), hartonomous._near_statement(hartonomous.searches, text, boolean, text),
    hartonomous._find_statement(hartonomous.searches, text, boolean),
    hartonomous._search(regclass, text, integer, text, json, text), hartonomous.search(regclass, text, integer, text, json)
to hartonomous_user;
