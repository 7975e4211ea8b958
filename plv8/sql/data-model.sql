-- Functions and views over the tables: integrity, removal, status. Replaced by every install, before the bundle.

create or replace function hartonomous._caller() returns text
language plpgsql stable parallel safe set search_path = hartonomous, pg_temp
as $$
begin
    if current_setting('role') <> 'none' then
        return current_setting('role');
    end if;
    -- Autovacuum computes a table's index expressions for its owner, with the bootstrap superuser as the session's. It alone
    -- has neither a query nor a user to show.
    if current_query() is null and not exists (
        select from pg_stat_get_activity(pg_backend_pid()) a where a.usesysid is not null) then
        raise exception using errcode = 'insufficient_privilege', message = 'nobody calls this on behalf of autovacuum';
    end if;
    return session_user;
end
$$;
comment on function hartonomous._caller() is 'role on whose behalf this runs: that of SET ROLE, else the session user';

create or replace function hartonomous._viewer() returns text
language sql stable parallel safe set search_path = hartonomous, pg_temp
as $$ select case when pg_has_role(c.role, current_user, 'member') then current_user else c.role end from hartonomous._caller() as c (role) $$;
comment on function hartonomous._viewer() is
    'whose rows a view shows: the caller''s, but where a function of a lesser role reads it, as in an index of a table that a superuser analyzes, that role''s';

-- What version this is, everybody may know: `doctor` says it.
grant select on hartonomous.migrations to hartonomous_user, hartonomous_reader, hartonomous_admin;

create or replace function hartonomous.check_integrity(deep boolean default true)
returns table (check_name text, object text, detail text)
language sql stable parallel restricted cost 100000 rows 1 security definer set search_path = hartonomous, pg_temp
as $$
    with counted as (
        select kind, id, sum(n) as n from (
            select child_kind as kind, child_id as id, count(*) as n from hartonomous.compositions group by 1, 2
            union all
            select 'tile', tile_id, count(*) from hartonomous.ingest_tiles group by 2
            union all
            select 'token', atom_id, count(*) from hartonomous.tokens group by 2
            union all
            select 'composite', atom_id, count(*) from hartonomous.weight_matrices group by 2
            union all
            select 'token', from_id, count(*) from hartonomous.relations group by 2
            union all
            select 'token', to_id, count(*) from hartonomous.relations group by 2
        ) as referring group by kind, id
    )
    select 'ref_count', a.kind || ' ' || a.id, 'ref_count is ' || a.ref_count || ', rows referring are ' || coalesce(c.n, 0)
    from hartonomous.atoms a left join counted c on c.kind = a.kind and c.id = a.id
    where a.ref_count <> coalesce(c.n, 0)
    union all
    select 'missing atom', c.kind || ' ' || c.id, c.n || ' rows refer to an atom that does not exist'
    from counted c left join hartonomous.atoms a on a.kind = c.kind and a.id = c.id
    where a.id is null
    union all
    select 'orphan', kind || ' ' || id, 'no row refers to this atom'
    from hartonomous.atoms where ref_count = 0 and kind <> 'byte'
    union all
    select 'size', p.kind || ' ' || p.id, 'size is ' || p.size_bytes || ', its children have ' || coalesce(s.bytes, 0)
    from hartonomous.atoms p
    left join (
        select x.parent_kind, x.parent_id, sum(a.size_bytes) as bytes
        from hartonomous.compositions x join hartonomous.atoms a on a.kind = x.child_kind and a.id = x.child_id
        group by 1, 2
    ) s on s.parent_kind = p.kind and s.parent_id = p.id
    where p.kind in ('token', 'composite') and p.size_bytes <> coalesce(s.bytes, 0)
    union all
    select 'order', x.parent_kind || ' ' || x.parent_id, 'children have ordinals ' || min(x.ordinal) || ' to ' || max(x.ordinal) || ', there are ' || count(*)
    from hartonomous.compositions x group by x.parent_kind, x.parent_id
    having min(x.ordinal) <> 0 or max(x.ordinal) <> count(*) - 1
    union all
    select 'matrix', m.name || ' of model ' || m.model_id, 'digest or size differs from its composite atom'
    from hartonomous.weight_matrices m join hartonomous.atoms a on a.kind = 'composite' and a.id = m.atom_id
    where a.hash <> m.digest or a.size_bytes <> m.size_bytes
    union all
    select 'vocabulary', 'model ' || m.name, 'vocabulary_size is ' || m.vocabulary_size || ', tokens are ' || count(t.token_id)
    from hartonomous.models m left join hartonomous.tokens t on t.model_id = m.id
    where m.state = 'ready'
    group by m.id having m.vocabulary_size <> count(t.token_id)
    union all
    select 'content', a.kind || ' ' || a.id, 'content has another length or SHA-256 than its row says'
    from hartonomous.atoms a
    where deep and a.kind <> 'composite' and (octet_length(a.content) is distinct from a.size_bytes or sha256(a.content) is distinct from a.hash)
$$;
comment on function hartonomous.check_integrity(boolean) is
    'violations of the data model''s invariants, none when healthy; deep also hashes every atom';

create or replace function hartonomous._sweep_atoms() returns bigint
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    swept bigint := 0;
    n bigint;
begin
    loop
        -- Parents first: what they were made of may be free after that.
        delete from hartonomous.compositions x using hartonomous.atoms a
        where a.kind in ('token', 'composite') and a.ref_count = 0 and x.parent_kind = a.kind and x.parent_id = a.id;
        delete from hartonomous.atoms where ref_count = 0 and kind <> 'byte';
        get diagnostics n = row_count;
        exit when n = 0;
        swept := swept + n;
    end loop;
    return swept;
end
$$;
comment on function hartonomous._sweep_atoms() is 'delete atoms that nothing refers to; returns how many';

create or replace function hartonomous.remove_model(name text) returns bigint
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    found_ids bigint[];
    digests text[];
    digest text;
begin
    perform hartonomous._await_turn('models');
    select array_agg(m.id), array_agg(encode(m.source_digest, 'hex')) filter (where m.source_digest is not null)
    into found_ids, digests from hartonomous.models m where m.name = remove_model.name;
    if found_ids is null then
        raise exception using errcode = 'undefined_object', message = format('model %s does not exist', left(remove_model.name, 200)),
            hint = 'names are in hartonomous.model_list';
    end if;
    delete from hartonomous.relations where model_id = any (found_ids);
    delete from hartonomous.token_embeddings where model_id = any (found_ids);
    delete from hartonomous.tokens where model_id = any (found_ids);
    delete from hartonomous.weight_matrices where model_id = any (found_ids);
    delete from hartonomous.models where id = any (found_ids);
    delete from hartonomous.settings s where s.name in ('default_model', 'default_embedding_model') and s.value = to_jsonb(remove_model.name);
    foreach digest in array coalesce(digests, '{}') loop
        perform hartonomous._drop_segments(digest);
    end loop;
    return hartonomous._sweep_atoms();
end
$$;
comment on function hartonomous.remove_model(text) is
    'remove a model and the atoms nobody else uses; returns how many atoms went';

create or replace function hartonomous._abandon_ingest(name text) returns bigint
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
begin
    perform hartonomous._await_turn('models');
    delete from hartonomous.models m where m.name = _abandon_ingest.name and m.state = 'ingesting';
    return hartonomous._sweep_atoms();
end
$$;
comment on function hartonomous._abandon_ingest(text) is
    'remove what an unfinished ingest left behind; returns how many atoms went';

create or replace function hartonomous._publish_model(model_id bigint) returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    model_name text;
    replaced bigint[];
begin
    select m.name into model_name from hartonomous.models m where m.id = _publish_model.model_id and m.state = 'ingesting';
    if model_name is null then
        raise exception using errcode = 'undefined_object', message = format('model %s is not being ingested', _publish_model.model_id);
    end if;
    select array_agg(m.id) into replaced from hartonomous.models m where m.name = model_name and m.state = 'ready';
    delete from hartonomous.models m where m.id = any (replaced);
    update hartonomous.models m set state = 'ready', ready_at = now() where m.id = _publish_model.model_id;
    if replaced is not null then
        perform hartonomous._sweep_atoms();
    end if;
end
$$;
comment on function hartonomous._publish_model(bigint) is
    'make an ingested model visible, in place of a ready one of the same name';

create or replace function hartonomous._analyze_models() returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
begin
    analyze hartonomous.atoms, hartonomous.compositions, hartonomous.tokens, hartonomous.relations, hartonomous.weight_matrices;
end
$$;
comment on function hartonomous._analyze_models() is 'let the planner know what an ingest has stored';

create or replace function hartonomous._embeds(architecture text, hyperparameters jsonb) returns boolean
language sql immutable parallel safe
as $$
    select case jsonb_typeof(hyperparameters -> (architecture || '.pooling_type'))
        when 'number' then (hyperparameters ->> (architecture || '.pooling_type'))::numeric between 1 and 4
        else architecture ~ 'bert|encoder' end
$$;
comment on function hartonomous._embeds(text, jsonb) is
    'whether a model was made for embeddings: it says how it pools them, or it is an encoder';
revoke all on function hartonomous._embeds(text, jsonb) from public;

create or replace view hartonomous.model_list as
select m.name, m.architecture, m.parameter_count, m.layer_count, m.context_length, m.embedding_length, m.vocabulary_size,
    (select string_agg(distinct w.storage_type, ', ') from hartonomous.weight_matrices w where w.model_id = m.id) as storage_types,
    m.source, m.source_format, encode(m.source_digest, 'hex') as digest, m.source_bytes, m.ready_at as ingested_at,
    exists (select from hartonomous.settings s
        where s.name in ('default_model', 'default_embedding_model') and s.value = to_jsonb(m.name)) as is_default,
    -- A license as text is known by its first line.
    coalesce(m.hyperparameters ->> 'general.license', split_part(ltrim(m.hyperparameters ->> 'ollama.license', E' \n'), E'\n', 1)) as license
from hartonomous.models m where m.state = 'ready' order by m.name;
comment on view hartonomous.model_list is 'models that can be used';
comment on column hartonomous.model_list.name is 'name that functions take';
comment on column hartonomous.model_list.architecture is 'architecture, as llama or qwen2';
comment on column hartonomous.model_list.parameter_count is 'parameters';
comment on column hartonomous.model_list.layer_count is 'layers';
comment on column hartonomous.model_list.context_length is 'longest context, in tokens';
comment on column hartonomous.model_list.embedding_length is 'width';
comment on column hartonomous.model_list.vocabulary_size is 'tokens of the vocabulary';
comment on column hartonomous.model_list.storage_types is 'types of its tensors';
comment on column hartonomous.model_list.source is 'file it came from';
comment on column hartonomous.model_list.source_format is 'format of that file';
comment on column hartonomous.model_list.digest is 'SHA-256 of that file';
comment on column hartonomous.model_list.source_bytes is 'size of that file';
comment on column hartonomous.model_list.ingested_at is 'when it became visible';
comment on column hartonomous.model_list.is_default is 'whether it is used where none is named';
comment on column hartonomous.model_list.license is 'license that its file names, else the first line of its text';

create or replace view hartonomous.status as
with per_model as (
    select m.id, m.name,
        (select count(*) from (select distinct t.atom_id from hartonomous.tokens t where t.model_id = m.id) a)
            + (select count(distinct w.atom_id) from hartonomous.weight_matrices w where w.model_id = m.id)
            + (select count(distinct x.child_id) from hartonomous.weight_matrices w
               join hartonomous.compositions x on x.parent_kind = 'composite' and x.parent_id = w.atom_id where w.model_id = m.id) as atoms,
        (select count(*) from hartonomous.relations r where r.model_id = m.id) as relations,
        (select count(*) from (select distinct atom_id from hartonomous.tokens where model_id = m.id) t
            join hartonomous.compositions x on x.parent_kind = 'token' and x.parent_id = t.atom_id)
            + (select count(*) from (select distinct atom_id from hartonomous.weight_matrices where model_id = m.id) w
            join hartonomous.compositions x on x.parent_kind = 'composite' and x.parent_id = w.atom_id) as compositions,
        (select count(*) from hartonomous.tokens t where t.model_id = m.id) as tokens,
        (select count(*) from hartonomous.token_embeddings e where e.model_id = m.id) as embeddings,
        (select count(*) from hartonomous.weight_matrices w where w.model_id = m.id) as weights,
        coalesce(m.layer_count, 0)::bigint as layers,
        (select coalesce(sum(w.size_bytes), 0)::bigint from hartonomous.weight_matrices w where w.model_id = m.id) as size_bytes
    from hartonomous.models m where m.state = 'ready'
)
select name as model, atoms, relations, compositions, tokens, embeddings,
    round(100.0 * embeddings / nullif(tokens, 0), 1) as embeddings_percent, weights, layers, size_bytes
from per_model
union all
select null, (select count(*) from hartonomous.atoms), (select count(*) from hartonomous.relations),
    (select count(*) from hartonomous.compositions), coalesce(sum(tokens), 0)::bigint, coalesce(sum(embeddings), 0)::bigint,
    round(100.0 * sum(embeddings) / nullif(sum(tokens), 0), 1), coalesce(sum(weights), 0)::bigint, coalesce(sum(layers), 0)::bigint,
    (select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
     where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('r', 'm'))
from per_model;
comment on view hartonomous.status is 'what is stored, per model and (model null) in all; size of all is that on disk';
comment on column hartonomous.status.model is 'name of the model; null for the whole database';
comment on column hartonomous.status.atoms is 'distinct pieces of content, shared ones counted in each model';
comment on column hartonomous.status.relations is 'edges between tokens';
comment on column hartonomous.status.compositions is 'places of children in tokens and matrices';
comment on column hartonomous.status.tokens is 'tokens of the vocabulary';
comment on column hartonomous.status.embeddings is 'tokens whose embedding is indexed';
comment on column hartonomous.status.embeddings_percent is 'embeddings in percent of tokens';
comment on column hartonomous.status.weights is 'tensors';
comment on column hartonomous.status.layers is 'layers';
comment on column hartonomous.status.size_bytes is 'bytes of the tensors; for the whole database bytes on disk';

revoke all on function hartonomous._caller(), hartonomous._viewer(), hartonomous.check_integrity(boolean), hartonomous._sweep_atoms(),
    hartonomous.remove_model(text), hartonomous._abandon_ingest(text), hartonomous._publish_model(bigint),
    hartonomous._analyze_models() from public;
grant execute on function hartonomous._caller(), hartonomous._viewer() to hartonomous_user, hartonomous_reader;
grant execute on function hartonomous.check_integrity(boolean), hartonomous.remove_model(text),
    hartonomous._abandon_ingest(text), hartonomous._publish_model(bigint), hartonomous._analyze_models() to hartonomous_admin;
grant select on hartonomous.model_list, hartonomous.status to hartonomous_user, hartonomous_reader;
