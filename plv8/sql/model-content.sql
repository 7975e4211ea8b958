-- What models are made of, for people: tokens as bytes, merges, tiles, what models share, and an ingest's progress.

-- Parallel workers cannot begin the subtransaction that catching an error takes.
create or replace function hartonomous._shown(content bytea) returns text
language plpgsql immutable parallel unsafe cost 10 set search_path = hartonomous, pg_temp
as $$
begin
    return convert_from(content, 'UTF8');
exception when character_not_in_repertoire or untranslatable_character then
    return encode(content, 'escape');
end
$$;
comment on function hartonomous._shown(bytea) is 'text of a token for people; bytes that are no UTF-8 as octal escapes';

create or replace function hartonomous._token_content(content bytea, type integer, tokenizer text) returns bytea
language plpgsql immutable parallel unsafe cost 20 set search_path = hartonomous, pg_temp
as $$
declare
    shown constant text := hartonomous._shown(content);
begin
    if type = 6 then -- a byte, written as <0x0A>
        return decode(substr(shown, 4, 2), 'hex');
    elsif type <> 1 or convert_to(shown, 'UTF8') <> content then
        return content;
    elsif tokenizer <> 'gpt2' then
        return convert_to(replace(shown, '▁', ' '), 'UTF8');
    end if;
    -- Byte-level BPE writes printable bytes as themselves and the others, in their order, as characters from 256 on.
    return (
        select coalesce(string_agg(case
            when code between 33 and 126 or code between 161 and 172 or code between 174 and 255 then set_byte('\x00', 0, code)
            when code between 256 and 288 then set_byte('\x00', 0, code - 256)
            when code between 289 and 322 then set_byte('\x00', 0, code - 162)
            when code = 323 then '\xad'
            else convert_to(letter, 'UTF8') end, ''::bytea order by place), '')
        from string_to_table(shown, null) with ordinality as s (letter, place), ascii(letter) as code);
end
$$;
comment on function hartonomous._token_content(bytea, integer, text) is
    'bytes that a token adds to a text, from its spelling in the vocabulary, its type and the kind of tokenizer';

create or replace view hartonomous.token_bytes as
select m.name as model, t.token_id, hartonomous._shown(a.content) as token, p.ordinal, b.id::integer as byte, b.hilbert
from hartonomous.models m
join hartonomous.tokens t on t.model_id = m.id
join hartonomous.atoms a on a.kind = 'token' and a.id = t.atom_id
cross join lateral hartonomous._token_content(a.content, t.type, m.tokenizer ->> 'tokenizer.ggml.model') as c (content)
cross join lateral generate_series(0, length(c.content) - 1) as p (ordinal)
join hartonomous.atoms b on b.kind = 'byte' and b.id = get_byte(c.content, p.ordinal)
where m.state = 'ready';
comment on view hartonomous.token_bytes is 'every token of every model as the bytes that it adds to a text; special tokens by name';
comment on column hartonomous.token_bytes.model is 'name of the model';
comment on column hartonomous.token_bytes.token_id is 'id of the token in the model';
comment on column hartonomous.token_bytes.token is 'the token as its vocabulary writes it';
comment on column hartonomous.token_bytes.ordinal is 'place of the byte, from 0';
comment on column hartonomous.token_bytes.byte is 'the byte, 0 to 255';
comment on column hartonomous.token_bytes.hilbert is 'Hilbert index of the byte over its bits';

create or replace view hartonomous.token_merges as
select m.name as model, r.weight::integer as rank, hartonomous._shown(l.content) as left_token,
    hartonomous._shown(g.content) as right_token, hartonomous._shown(l.content || g.content) as merged
from hartonomous.models m
join hartonomous.relations r on r.model_id = m.id and r.kind = 'merge'
join hartonomous.atoms l on l.kind = 'token' and l.id = r.from_id
join hartonomous.atoms g on g.kind = 'token' and g.id = r.to_id
where m.state = 'ready';
comment on view hartonomous.token_merges is 'merges of byte pair encoding';
comment on column hartonomous.token_merges.model is 'name of the model';
comment on column hartonomous.token_merges.rank is 'rank of the merge: lower ones come first';
comment on column hartonomous.token_merges.left_token is 'the part on the left';
comment on column hartonomous.token_merges.right_token is 'the part on the right';
comment on column hartonomous.token_merges.merged is 'what they become';

create or replace view hartonomous.matrix_tiles as
select m.name as model, w.name as tensor, w.layer, w.role, w.storage_type, c.ordinal,
    case when w.rows_per_tile > 0 then c.ordinal::bigint * w.rows_per_tile end as first_row,
    a.size_bytes, encode(a.hash, 'hex') as digest, a.ref_count, c.hilbert, a.id as tile_id
from hartonomous.models m
join hartonomous.weight_matrices w on w.model_id = m.id
join hartonomous.compositions c on c.parent_kind = 'composite' and c.parent_id = w.atom_id
join hartonomous.atoms a on a.kind = 'tile' and a.id = c.child_id
where m.state = 'ready';
comment on view hartonomous.matrix_tiles is 'every weight matrix as its tiles';
comment on column hartonomous.matrix_tiles.model is 'name of the model';
comment on column hartonomous.matrix_tiles.tensor is 'GGUF name of the matrix';
comment on column hartonomous.matrix_tiles.layer is 'layer, from 0; null outside the layers';
comment on column hartonomous.matrix_tiles.role is 'what the matrix does in its layer';
comment on column hartonomous.matrix_tiles.storage_type is 'GGUF type of its blocks';
comment on column hartonomous.matrix_tiles.ordinal is 'place of the tile in the matrix, from 0';
comment on column hartonomous.matrix_tiles.first_row is 'first row of the tile by the cut of this matrix; null where a row is longer than a tile';
comment on column hartonomous.matrix_tiles.size_bytes is 'bytes of the tile';
comment on column hartonomous.matrix_tiles.digest is 'SHA-256 of the tile';
comment on column hartonomous.matrix_tiles.ref_count is 'places where the tile stands, in all models';
comment on column hartonomous.matrix_tiles.hilbert is 'Hilbert index of (layer, role, row block, column block), of the first matrix that had these bytes';
comment on column hartonomous.matrix_tiles.tile_id is 'atom of kind tile';

create or replace view hartonomous.model_sharing as
with held as (
    select distinct t.model_id, 'token'::hartonomous.atom_kind as kind, t.atom_id as id from hartonomous.tokens t
    union all
    select distinct w.model_id, 'composite'::hartonomous.atom_kind, w.atom_id from hartonomous.weight_matrices w
    union all
    select distinct w.model_id, 'tile'::hartonomous.atom_kind, c.child_id
    from hartonomous.weight_matrices w
    join hartonomous.compositions c on c.parent_kind = 'composite' and c.parent_id = w.atom_id
), per_atom as (
    select kind, id, array_agg(model_id order by model_id) as model_ids
    from held where model_id in (select m.id from hartonomous.models m where m.state = 'ready')
    group by kind, id
), per_set as (
    -- A composite has no bytes beside those of its tiles.
    select p.model_ids, count(*) as atoms, coalesce(sum(a.size_bytes) filter (where a.kind <> 'composite'), 0)::bigint as bytes
    from per_atom p join hartonomous.atoms a on a.kind = p.kind and a.id = p.id
    group by p.model_ids
)
select m.name as model,
    coalesce(sum(s.atoms) filter (where cardinality(s.model_ids) = 1), 0)::bigint as own_atoms,
    coalesce(sum(s.bytes) filter (where cardinality(s.model_ids) = 1), 0)::bigint as own_bytes,
    coalesce(sum(s.atoms) filter (where cardinality(s.model_ids) > 1), 0)::bigint as shared_atoms,
    coalesce(sum(s.bytes) filter (where cardinality(s.model_ids) > 1), 0)::bigint as shared_bytes,
    array(
        select o.name from hartonomous.models o
        where o.id <> m.id and o.id in (select unnest(p.model_ids) from per_set p where m.id = any (p.model_ids))
        order by o.name) as shared_with
from hartonomous.models m left join per_set s on m.id = any (s.model_ids)
where m.state = 'ready'
group by m.id, m.name order by m.name;
comment on view hartonomous.model_sharing is 'how much of each model is its own, and how much it shares with which others';
comment on column hartonomous.model_sharing.model is 'name of the model';
comment on column hartonomous.model_sharing.own_atoms is 'atoms that no other model has';
comment on column hartonomous.model_sharing.own_bytes is 'bytes of these tokens and tiles: what removing the model frees';
comment on column hartonomous.model_sharing.shared_atoms is 'atoms that another model has too';
comment on column hartonomous.model_sharing.shared_bytes is 'bytes of these tokens and tiles';
comment on column hartonomous.model_sharing.shared_with is 'names of these models';

create or replace view hartonomous.ingest_progress as
select m.name as model, m.source, m.created_at as started_at,
    hartonomous._has_turn('models') as is_running,
    (select count(*) from hartonomous.tokens t where t.model_id = m.id) as tokens, m.vocabulary_size,
    w.tensors, w.bytes + i.bytes as bytes_stored, f.bytes as bytes_total,
    round(100.0 * (w.bytes + i.bytes) / nullif(f.bytes, 0), 1) as percent
from hartonomous.models m
cross join lateral (
    select count(*) as tensors, coalesce(sum(size_bytes), 0)::bigint as bytes
    from hartonomous.weight_matrices where model_id = m.id) w
cross join lateral (
    select coalesce(sum(a.size_bytes), 0)::bigint as bytes
    from hartonomous.ingest_tiles t join hartonomous.atoms a on a.kind = 'tile' and a.id = t.tile_id where t.model_id = m.id) i
cross join lateral (
    select coalesce(sum(size_bytes - octet_length(frame)), 0)::bigint as bytes
    from hartonomous.source_files where model_id = m.id) f
where m.state = 'ingesting' order by m.name;
comment on view hartonomous.ingest_progress is 'ingests that are not complete, by what they have committed';
comment on column hartonomous.ingest_progress.model is 'name the model will have';
comment on column hartonomous.ingest_progress.source is 'where it comes from';
comment on column hartonomous.ingest_progress.started_at is 'when its first ingest began';
comment on column hartonomous.ingest_progress.is_running is 'whether an ingest or removal is at work in this database; else it was abandoned';
comment on column hartonomous.ingest_progress.tokens is 'tokens stored';
comment on column hartonomous.ingest_progress.vocabulary_size is 'tokens there will be';
comment on column hartonomous.ingest_progress.tensors is 'tensors stored whole';
comment on column hartonomous.ingest_progress.bytes_stored is 'bytes of tensors stored';
comment on column hartonomous.ingest_progress.bytes_total is 'bytes of all tensors';
comment on column hartonomous.ingest_progress.percent is 'stored in percent of all';

-- A copy has rows of its own and shares every atom: its weights take no room.
create or replace function hartonomous._copy_rows(target regclass, source_id bigint, copy_id bigint, except_columns text[])
returns void
language plpgsql volatile set search_path = hartonomous, pg_temp
as $$
declare
    column_list text;
begin
    select string_agg(quote_ident(attname), ', ' order by attnum) into column_list from pg_catalog.pg_attribute
    where attrelid = target and attnum > 0 and not attisdropped and attname <> 'model_id' and attname <> all (except_columns);
    execute format('insert into %s (model_id, %s) select $2, %2$s from %1$s where model_id = $1', target, column_list)
        using source_id, copy_id;
end
$$;
comment on function hartonomous._copy_rows(regclass, bigint, bigint, text[]) is
    'rows of a model in a table once more for another model, without some columns';

create or replace function hartonomous.copy_model(source text, name text) returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    source_id bigint;
    copy_id bigint;
    column_list text;
begin
    perform hartonomous._await_turn('models');
    select m.id into source_id from hartonomous.models m where m.name = copy_model.source and m.state = 'ready';
    if source_id is null then
        raise exception using errcode = 'undefined_object', message = format('model %s does not exist', left(copy_model.source, 200)),
            hint = 'names are in hartonomous.model_list';
    end if;
    if copy_model.name is null or length(copy_model.name) not between 1 and 200 or copy_model.name <> btrim(copy_model.name)
        or copy_model.name ~ '[\u0001-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('model name must have 1 to 200 characters, no space around it and no control characters, got %s',
                coalesce(quote_literal(left(copy_model.name, 200)), 'null'));
    end if;
    if exists (select from hartonomous.models m where m.name = copy_model.name) then
        raise exception using errcode = 'duplicate_object', message = format('model %s exists', left(copy_model.name, 200)),
            hint = 'remove it first, or choose another name';
    end if;
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into column_list from pg_catalog.pg_attribute a
    where a.attrelid = 'hartonomous.models'::regclass and a.attnum > 0 and not a.attisdropped
        and a.attname <> all (array['id', 'name', 'created_at', 'ready_at']);
    execute format('insert into hartonomous.models (name, ready_at, %s) select $2, now(), %1$s from hartonomous.models where id = $1 returning id', column_list)
        into copy_id using source_id, copy_model.name;
    perform hartonomous._copy_rows('hartonomous.source_files', source_id, copy_id, '{}');
    perform hartonomous._copy_rows('hartonomous.tokens', source_id, copy_id, '{}');
    perform hartonomous._copy_rows('hartonomous.relations', source_id, copy_id, '{}');
    perform hartonomous._copy_rows('hartonomous.weight_matrices', source_id, copy_id, '{id}');
    insert into hartonomous.token_embeddings (model_id, token_id, matrix_id, row_index, norm, hilbert)
    select copy_id, e.token_id, c.id, e.row_index, e.norm, e.hilbert
    from hartonomous.token_embeddings e
    join hartonomous.weight_matrices w on w.id = e.matrix_id
    join hartonomous.weight_matrices c on c.model_id = copy_id and c.name = w.name
    where e.model_id = source_id;
end
$$;
comment on function hartonomous.copy_model(text, text) is
    'a second model of the same content under another name; it shares every atom, so its weights take no room';

revoke all on function hartonomous._shown(bytea), hartonomous._token_content(bytea, integer, text), hartonomous._copy_rows(regclass, bigint, bigint, text[]),
    hartonomous.copy_model(text, text) from public;
grant execute on function hartonomous._shown(bytea), hartonomous._token_content(bytea, integer, text) to hartonomous_user, hartonomous_reader, hartonomous_admin;
grant execute on function hartonomous.copy_model(text, text) to hartonomous_admin;
grant select on hartonomous.token_bytes, hartonomous.token_merges, hartonomous.matrix_tiles, hartonomous.model_sharing,
    hartonomous.ingest_progress to hartonomous_user, hartonomous_reader;
