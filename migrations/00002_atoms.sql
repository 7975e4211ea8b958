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
    hilbert bigint,
    primary key (parent_kind, parent_id, ordinal)
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
create index compositions_child on hartonomous.compositions_composite (child_kind, child_id);
reset role;
