set local role hartonomous_owner;
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

create function hartonomous._count_ingest_tiles() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    ids bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(tile_id) into ids from inserted;
        perform hartonomous.increment_ref_count('tile', ids);
    else
        select array_agg(tile_id) into ids from deleted;
        perform hartonomous.decrement_ref_count('tile', ids);
    end if;
    return null;
end
$$;
comment on function hartonomous._count_ingest_tiles() is 'keep ref_count for statements on ingest_tiles';
revoke all on function hartonomous._count_ingest_tiles() from public;
create trigger count_inserted after insert on hartonomous.ingest_tiles referencing new table as inserted
    for each statement execute function hartonomous._count_ingest_tiles();
create trigger count_deleted after delete on hartonomous.ingest_tiles referencing old table as deleted
    for each statement execute function hartonomous._count_ingest_tiles();

grant select, insert, delete on hartonomous.ingest_tiles to hartonomous_admin;
comment on column hartonomous.weight_matrices.rows_per_tile is 'whole rows in a tile, by the cut of this tensor; 0 where a row is longer than a tile';
reset role;
