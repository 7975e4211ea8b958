set local role hartonomous_owner;
create table hartonomous.tokens (
    model_id bigint not null references hartonomous.models on delete cascade,
    token_id integer not null,
    atom_id bigint not null,
    type smallint not null,
    score real,
    primary key (model_id, token_id) with (fillfactor = 100)
);
comment on table hartonomous.tokens is 'vocabulary of each model';
comment on column hartonomous.tokens.model_id is 'the model';
comment on column hartonomous.tokens.token_id is 'id within the model';
comment on column hartonomous.tokens.atom_id is 'atom of kind token with its text';
comment on column hartonomous.tokens.type is 'GGUF token type: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte';
comment on column hartonomous.tokens.score is 'score of a SentencePiece vocabulary';
create index tokens_atom on hartonomous.tokens (atom_id);
create trigger count_inserted after insert on hartonomous.tokens referencing new table as changed
    for each statement execute function hartonomous._count_references('''token''', 'atom_id');
create trigger count_deleted after delete on hartonomous.tokens referencing old table as changed
    for each statement execute function hartonomous._count_references('''token''', 'atom_id');

create table hartonomous.relations (
    model_id bigint not null references hartonomous.models on delete cascade,
    kind hartonomous.relation_kind not null,
    from_id bigint not null,
    to_id bigint not null,
    weight double precision not null,
    primary key (model_id, kind, from_id, to_id)
);
comment on table hartonomous.relations is 'typed, weighted edges between tokens';
comment on column hartonomous.relations.model_id is 'the model';
comment on column hartonomous.relations.kind is 'what the edge says';
comment on column hartonomous.relations.from_id is 'token atom on the left';
comment on column hartonomous.relations.to_id is 'token atom on the right';
comment on column hartonomous.relations.weight is 'of a merge its rank, from 0; of nearness the cosine';
create index relations_from on hartonomous.relations (from_id);
create index relations_to on hartonomous.relations (to_id);
create trigger count_inserted after insert on hartonomous.relations referencing new table as changed
    for each statement execute function hartonomous._count_references('''token''', 'from_id', 'to_id');
create trigger count_deleted after delete on hartonomous.relations referencing old table as changed
    for each statement execute function hartonomous._count_references('''token''', 'from_id', 'to_id');

create table hartonomous.weight_matrices (
    id bigint generated always as identity primary key,
    model_id bigint not null references hartonomous.models on delete cascade,
    name text not null,
    layer integer,
    role text not null,
    storage_type text not null,
    shape bigint[] not null,
    row_count bigint not null,
    row_bytes bigint not null,
    rows_per_tile integer not null,
    size_bytes bigint not null,
    atom_id bigint not null,
    digest bytea not null,
    ordinal integer not null,
    load_ordinal integer not null,
    source_offset bigint not null,
    source_file integer not null default 0,
    source_name text,
    unique (model_id, name)
);
comment on table hartonomous.weight_matrices is 'tensors of each model';
comment on column hartonomous.weight_matrices.id is 'number of the tensor';
comment on column hartonomous.weight_matrices.model_id is 'the model';
comment on column hartonomous.weight_matrices.name is 'GGUF name, as blk.3.attn_q.weight';
comment on column hartonomous.weight_matrices.layer is 'layer, from 0; null outside the layers';
comment on column hartonomous.weight_matrices.role is 'what it does in its layer, as attn_q';
comment on column hartonomous.weight_matrices.storage_type is 'GGUF type of its blocks, as Q8_0';
comment on column hartonomous.weight_matrices.shape is 'dimensions in GGUF order: row length first';
comment on column hartonomous.weight_matrices.row_count is 'rows';
comment on column hartonomous.weight_matrices.row_bytes is 'bytes of a row';
comment on column hartonomous.weight_matrices.rows_per_tile is 'whole rows in a tile, by the cut of this tensor; 0 where a row is longer than a tile';
comment on column hartonomous.weight_matrices.size_bytes is 'bytes of the tensor';
comment on column hartonomous.weight_matrices.atom_id is 'atom of kind composite';
comment on column hartonomous.weight_matrices.digest is 'SHA-256 of the bytes of the tensor in the file';
comment on column hartonomous.weight_matrices.ordinal is 'place in the file, from 0';
comment on column hartonomous.weight_matrices.load_ordinal is 'place in the order of reading';
comment on column hartonomous.weight_matrices.source_offset is 'first byte in its file';
comment on column hartonomous.weight_matrices.source_file is 'file that holds it';
comment on column hartonomous.weight_matrices.source_name is 'its name in that file, where it is another one';
create index weight_matrices_atom on hartonomous.weight_matrices (atom_id);
create trigger count_inserted after insert on hartonomous.weight_matrices referencing new table as changed
    for each statement execute function hartonomous._count_references('''composite''', 'atom_id');
create trigger count_deleted after delete on hartonomous.weight_matrices referencing old table as changed
    for each statement execute function hartonomous._count_references('''composite''', 'atom_id');

create table hartonomous.token_embeddings (
    model_id bigint not null,
    token_id integer not null,
    matrix_id bigint not null references hartonomous.weight_matrices on delete cascade,
    row_index integer not null,
    norm real not null,
    hilbert bigint not null,
    primary key (model_id, token_id) with (fillfactor = 100),
    foreign key (model_id, token_id) references hartonomous.tokens on delete cascade
);
comment on table hartonomous.token_embeddings is 'where the embedding of each token lives, and where it lies among the others';
comment on column hartonomous.token_embeddings.model_id is 'the model';
comment on column hartonomous.token_embeddings.token_id is 'the token';
comment on column hartonomous.token_embeddings.matrix_id is 'matrix that holds the embedding';
comment on column hartonomous.token_embeddings.row_index is 'its row there';
comment on column hartonomous.token_embeddings.norm is 'Euclidean norm of the embedding';
comment on column hartonomous.token_embeddings.hilbert is 'Hilbert index over the first four principal components, 15 bits each';
create index token_embeddings_hilbert on hartonomous.token_embeddings (model_id, hilbert);
create index token_embeddings_matrix on hartonomous.token_embeddings (matrix_id);

-- A large tensor is sent in several transactions. Until its composite is made, these rows are what refers to its tiles,
-- so that no committed tile is ever an orphan, and removing the model frees them.
create table hartonomous.ingest_tiles (
    model_id bigint not null references hartonomous.models on delete cascade,
    tile_id bigint not null,
    primary key (model_id, tile_id)
);
comment on table hartonomous.ingest_tiles is 'tiles that were sent for a tensor that is not complete yet';
comment on column hartonomous.ingest_tiles.model_id is 'model that is being ingested';
comment on column hartonomous.ingest_tiles.tile_id is 'atom of kind tile';
create trigger count_inserted after insert on hartonomous.ingest_tiles referencing new table as changed
    for each statement execute function hartonomous._count_references('''tile''', 'tile_id');
create trigger count_deleted after delete on hartonomous.ingest_tiles referencing old table as changed
    for each statement execute function hartonomous._count_references('''tile''', 'tile_id');

grant select, insert, update, delete on hartonomous.tokens, hartonomous.relations, hartonomous.weight_matrices,
    hartonomous.token_embeddings to hartonomous_admin;
grant select, insert, delete on hartonomous.ingest_tiles to hartonomous_admin;
reset role;
