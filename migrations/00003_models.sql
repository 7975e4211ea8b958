set local role hartonomous_owner;
create table hartonomous.models (
    id bigint generated always as identity primary key,
    name text not null check (name !~ '[\u0001-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]'),
    state text not null check (state in ('ingesting', 'ready')),
    architecture text not null,
    hyperparameters jsonb not null,
    tokenizer jsonb not null,
    chat_template text,
    source text,
    source_format text not null,
    source_digest bytea not null,
    source_bytes bigint not null,
    parameter_count bigint not null,
    layer_count integer,
    context_length integer,
    embedding_length integer,
    vocabulary_size integer not null,
    created_at timestamptz not null default now(),
    ready_at timestamptz,
    default_options jsonb not null default '{}',
    system_prompt text,
    unload_generation integer not null default 0
);
comment on table hartonomous.models is 'models; a row is visible to users once its state is ready';
comment on column hartonomous.models.id is 'number of the model; never used again';
comment on column hartonomous.models.name is 'name that functions and commands take';
comment on column hartonomous.models.state is 'ingesting until every row is there';
comment on column hartonomous.models.architecture is 'general.architecture of the file';
comment on column hartonomous.models.hyperparameters is 'metadata of the file under its GGUF keys, tokenizer apart';
comment on column hartonomous.models.tokenizer is 'scalar tokenizer.ggml.* metadata under its own keys';
comment on column hartonomous.models.chat_template is 'Jinja template of a conversation';
comment on column hartonomous.models.source is 'file, folder or name that the model came from';
comment on column hartonomous.models.source_format is 'gguf or safetensors';
comment on column hartonomous.models.source_digest is 'SHA-256 of the file; of several, of the lines that sha256sum prints for them';
comment on column hartonomous.models.source_bytes is 'size of the files';
comment on column hartonomous.models.parameter_count is 'elements of all tensors';
comment on column hartonomous.models.layer_count is 'layers';
comment on column hartonomous.models.context_length is 'longest context it was trained for, in tokens';
comment on column hartonomous.models.embedding_length is 'width of the residual stream';
comment on column hartonomous.models.vocabulary_size is 'tokens';
comment on column hartonomous.models.created_at is 'when the ingest began';
comment on column hartonomous.models.ready_at is 'when it became visible';
comment on column hartonomous.models.default_options is 'options of generation that the source recommends, under the names of options';
comment on column hartonomous.models.system_prompt is 'system message that the source recommends';
comment on column hartonomous.models.unload_generation is 'raised by stop_model; a backend frees copies loaded under an earlier number at its next call';
create unique index models_ready_name on hartonomous.models (name) where state = 'ready';
create unique index models_ingesting_name on hartonomous.models (name) where state = 'ingesting';

-- What a model's files hold beside its tensors, so that each file can be written again byte for byte.
create table hartonomous.source_files (
    model_id bigint not null references hartonomous.models on delete cascade,
    ordinal integer not null,
    name text not null check (name !~ '[\u0001-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]'),
    size_bytes bigint not null,
    digest bytea not null,
    frame bytea not null,
    primary key (model_id, ordinal)
);
comment on table hartonomous.source_files is 'files each model came from, their tensors apart';
comment on column hartonomous.source_files.model_id is 'the model';
comment on column hartonomous.source_files.ordinal is 'place among the files, from 0';
comment on column hartonomous.source_files.name is 'name of the file, below the folder where there are several';
comment on column hartonomous.source_files.size_bytes is 'size of the file';
comment on column hartonomous.source_files.digest is 'SHA-256 of the file';
comment on column hartonomous.source_files.frame is 'bytes outside of tensors: header, padding and what follows, in file order';

-- One ingest, removal or copy works at a time. Nobody but the owner can lock or write this table, so nobody else holds
-- that up; who has its turn is known by a lock that only its own session can have (plv8/sql/change-turns.sql).
create table hartonomous.turns (
    name text primary key,
    pid integer not null,
    lock_key bigint not null
);
comment on table hartonomous.turns is 'whose turn it is to change models; the row of a session that ended counts for nothing';
comment on column hartonomous.turns.name is 'what for';
comment on column hartonomous.turns.pid is 'process id of the session';
comment on column hartonomous.turns.lock_key is 'advisory lock that the session holds as long as it has its turn';

grant select, insert, update, delete on hartonomous.models to hartonomous_admin;
grant select, insert, delete on hartonomous.source_files to hartonomous_admin;
reset role;
