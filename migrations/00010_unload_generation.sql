set local role hartonomous_owner;
alter table hartonomous.models add column unload_generation integer not null default 0;
comment on column hartonomous.models.unload_generation is 'raised by stop_model; a backend frees copies loaded under an earlier number at its next call';
reset role;
