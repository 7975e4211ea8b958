set local role hartonomous_owner;
create sequence hartonomous.atom_id_seq start 1000;
comment on sequence hartonomous.atom_id_seq is 'ids of atoms other than bytes';

create table hartonomous.atoms (
    kind hartonomous.atom_kind not null,
    id bigint not null default nextval('hartonomous.atom_id_seq'),
    hash bytea not null,
    size_bytes bigint not null,
    content bytea,
    ref_count bigint not null default 0,
    hilbert bigint,
    primary key (kind, id),
    unique (kind, hash)
) partition by list (kind);
comment on table hartonomous.atoms is 'every distinct piece of content of a kind, stored once';
comment on column hartonomous.atoms.kind is 'what it is';
comment on column hartonomous.atoms.id is 'number within its kind; of a byte its value';
comment on column hartonomous.atoms.hash is 'SHA-256 of the content';
comment on column hartonomous.atoms.size_bytes is 'length of the content';
comment on column hartonomous.atoms.content is 'the bytes themselves; null for a composite, whose tiles hold them';
comment on column hartonomous.atoms.ref_count is 'rows that refer to it';
comment on column hartonomous.atoms.hilbert is 'Hilbert index of a byte over its bits; null for other kinds';

create table hartonomous.atoms_byte partition of hartonomous.atoms for values in ('byte');
create table hartonomous.atoms_token partition of hartonomous.atoms for values in ('token') with (fillfactor = 70);
create table hartonomous.atoms_tile partition of hartonomous.atoms for values in ('tile');
create table hartonomous.atoms_composite partition of hartonomous.atoms for values in ('composite');
-- Weights do not compress, and an uncompressed value is read without a copy.
alter table hartonomous.atoms_tile alter column content set storage external;
comment on table hartonomous.atoms_byte is 'the 256 bytes';
comment on table hartonomous.atoms_token is 'texts of tokens, as UTF-8, exactly as the vocabulary writes them';
comment on table hartonomous.atoms_tile is 'runs of whole rows of weight matrices, in the encoding of their file';
comment on table hartonomous.atoms_composite is 'whole weight matrices';

create table hartonomous.compositions (
    parent_kind hartonomous.atom_kind not null,
    parent_id bigint not null,
    ordinal integer not null,
    child_kind hartonomous.atom_kind not null,
    child_id bigint not null,
    hilbert bigint
) partition by list (parent_kind);
comment on table hartonomous.compositions is 'what a token or matrix is made of, in order: joining the children reproduces the parent';
comment on column hartonomous.compositions.parent_kind is 'token or composite';
comment on column hartonomous.compositions.parent_id is 'the atom that is composed';
comment on column hartonomous.compositions.ordinal is 'place of the child, from 0';
comment on column hartonomous.compositions.child_kind is 'byte or tile';
comment on column hartonomous.compositions.child_id is 'the atom at this place';
comment on column hartonomous.compositions.hilbert is 'of a tile: Hilbert index of (layer, role, row block, column block)';

create table hartonomous.compositions_token partition of hartonomous.compositions for values in ('token');
create table hartonomous.compositions_composite partition of hartonomous.compositions for values in ('composite');
comment on table hartonomous.compositions_token is 'token to its bytes';
comment on table hartonomous.compositions_composite is 'matrix to its tiles';
-- A partition holds one kind of parents, so its key does without the kind: a third less for a million bytes of tokens.
-- Rows of a parent are written once and in order, so pages are filled.
alter table hartonomous.compositions_token add primary key (parent_id, ordinal) with (fillfactor = 100);
alter table hartonomous.compositions_composite add primary key (parent_id, ordinal);
create index compositions_child on hartonomous.compositions_composite (child_kind, child_id);

-- ref_count of an atom is the number of rows that refer to it: children of compositions, tokens, matrices, both ends of
-- relations, tiles of tensors that are not complete. Statement triggers add up the rows of each statement, so bulk loads
-- stay bulk.

create function hartonomous.increment_ref_count(kind hartonomous.atom_kind, ids bigint[]) returns void
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    update hartonomous.atoms a set ref_count = a.ref_count + n.n
    from (select i.id, count(*) as n from unnest(increment_ref_count.ids) as i (id) group by i.id) n
    where a.kind = increment_ref_count.kind and a.id = n.id
$$;
comment on function hartonomous.increment_ref_count(hartonomous.atom_kind, bigint[]) is 'count one reference more for each id given';
revoke all on function hartonomous.increment_ref_count(hartonomous.atom_kind, bigint[]) from public;

create function hartonomous.decrement_ref_count(kind hartonomous.atom_kind, ids bigint[]) returns void
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    update hartonomous.atoms a set ref_count = a.ref_count - n.n
    from (select i.id, count(*) as n from unnest(decrement_ref_count.ids) as i (id) group by i.id) n
    where a.kind = decrement_ref_count.kind and a.id = n.id
$$;
comment on function hartonomous.decrement_ref_count(hartonomous.atom_kind, bigint[]) is 'count one reference less for each id given';
revoke all on function hartonomous.decrement_ref_count(hartonomous.atom_kind, bigint[]) from public;

create function hartonomous._count_references() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    counted record;
begin
    -- Arguments: the kind of the atoms, as an expression over the row, and each column that holds an id.
    for counted in execute format(
        'select (%s)::hartonomous.atom_kind as kind, array_agg(e.id) as ids
         from changed cross join lateral (values (%s)) as e (id) group by 1',
        tg_argv[0], array_to_string(tg_argv[1:], '), ('))
    loop
        if tg_op = 'INSERT' then
            perform hartonomous.increment_ref_count(counted.kind, counted.ids);
        else
            perform hartonomous.decrement_ref_count(counted.kind, counted.ids);
        end if;
    end loop;
    return null;
end
$$;
comment on function hartonomous._count_references() is 'keep ref_count for statements on a table whose rows refer to atoms';
revoke all on function hartonomous._count_references() from public;
create trigger count_inserted after insert on hartonomous.compositions referencing new table as changed
    for each statement execute function hartonomous._count_references('child_kind', 'child_id');
create trigger count_deleted after delete on hartonomous.compositions referencing old table as changed
    for each statement execute function hartonomous._count_references('child_kind', 'child_id');

-- The Hilbert index of a byte over its eight bits (8 dimensions of 1 bit) is the inverse of its Gray code.
insert into hartonomous.atoms (kind, id, hash, size_bytes, content, hilbert)
select 'byte', v, sha256(set_byte('\x00'::bytea, 0, v)), 1, set_byte('\x00'::bytea, 0, v),
    (v # (v >> 1) # (v >> 2) # (v >> 3) # (v >> 4) # (v >> 5) # (v >> 6) # (v >> 7))
from generate_series(0, 255) as v;

grant select, insert, update, delete on hartonomous.atoms, hartonomous.compositions to hartonomous_admin;
grant usage on sequence hartonomous.atom_id_seq to hartonomous_admin;
reset role;
