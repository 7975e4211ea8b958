-- Segments: weights that backends share (docs/host.md). Where the host has none, all of this says that there are none.

create or replace function hartonomous._segments(
    out digest text, out layout bigint, out bytes bigint, out database oid, out published_at timestamptz, out mapped_at timestamptz)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 4 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.segments()}} $$;
comment on function hartonomous._segments() is 'segments of the whole server';

create or replace function hartonomous._drop_segments(digest text)
returns void
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.dropSegments(digest)}} $$;
comment on function hartonomous._drop_segments(text) is 'drop the segments of a digest, unless a model here still has it';

create or replace function hartonomous._check_segments(out digest text, out layout bigint, out whole boolean)
returns setof record
language plv8 volatile parallel unsafe cost 10000 rows 4 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.checkEverySegment()}} $$;
comment on function hartonomous._check_segments() is 'compare every block of every segment with its checksum; drop what differs';

create or replace function hartonomous._sweep_segments()
returns integer
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.sweepSegments()}} $$;
comment on function hartonomous._sweep_segments() is
    'remove broken segments, and those of models and databases that are gone; returns how many files went';

create or replace view hartonomous.segment_list as
select segment.digest, model.names as models, segment.bytes, database.datname as published_in, segment.published_at, segment.mapped_at
from hartonomous._segments() as segment
left join pg_catalog.pg_database as database on database.oid = segment.database
left join lateral (
    select array_agg(m.name order by m.name) as names from hartonomous.models m
    where m.state = 'ready' and encode(m.source_digest, 'hex') = segment.digest
) as model on true;
comment on view hartonomous.segment_list is 'weights that backends share: a segment for each model, precision and build, and for each of its WebAssembly memories';
comment on column hartonomous.segment_list.digest is 'SHA-256 of the source of the model';
comment on column hartonomous.segment_list.models is 'models of this database with that digest';
comment on column hartonomous.segment_list.bytes is 'size of the file';
comment on column hartonomous.segment_list.published_in is 'database that published it; null when that is gone';
comment on column hartonomous.segment_list.published_at is 'when it was published';
comment on column hartonomous.segment_list.mapped_at is 'when a backend mapped it last';

revoke all on function
    hartonomous._segments(), hartonomous._drop_segments(text), hartonomous._check_segments(), hartonomous._sweep_segments()
from public;
grant execute on function
    hartonomous._segments(), hartonomous._check_segments(), hartonomous._sweep_segments()
to hartonomous_admin;
grant select on hartonomous.segment_list to hartonomous_admin;
