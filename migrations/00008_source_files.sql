set local role hartonomous_owner;
-- What a model's files hold beside its tensors, so that each file can be written again byte for byte.
create table hartonomous.source_files (
    model_id bigint not null references hartonomous.models on delete cascade,
    ordinal integer not null,
    name text not null,
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

alter table hartonomous.weight_matrices add column source_file integer not null default 0;
alter table hartonomous.weight_matrices add column source_name text;
comment on column hartonomous.weight_matrices.source_file is 'file that holds it';
comment on column hartonomous.weight_matrices.source_name is 'its name in that file, where it is another one';
comment on column hartonomous.weight_matrices.source_offset is 'first byte in its file';

alter table hartonomous.models add column default_options jsonb not null default '{}';
alter table hartonomous.models add column system_prompt text;
comment on column hartonomous.models.default_options is 'options of generation that the source recommends, under the names of options';
comment on column hartonomous.models.system_prompt is 'system message that the source recommends';
comment on column hartonomous.models.source is 'file, folder or name that the model came from';
comment on column hartonomous.models.source_format is 'gguf or safetensors';
comment on column hartonomous.models.source_digest is 'SHA-256 of the file; of several, of the lines that sha256sum prints for them';
comment on column hartonomous.models.source_bytes is 'size of the files';

grant select, insert, delete on hartonomous.source_files to hartonomous_admin;
reset role;
