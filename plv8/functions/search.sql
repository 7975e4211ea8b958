-- Chunks of texts, and vectors of searches

create or replace function hartonomous.chunk(
    input text, model text default null, options json default '{}',
    out number integer, out "from" integer, out "to" integer, out text text)
returns setof record
language plv8 stable parallel restricted cost 100000 rows 8 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.chunk(input, model, options)}} $$;
comment on function hartonomous.chunk(text, text, json) is
    'a text in pieces of at most so many tokens of a model; from and to are the places of a piece''s first and last character: substr(input, "from", "to" - "from" + 1) is its text';

create or replace function hartonomous._vector_bytes(vector real[])
returns bytea
language plv8 immutable strict parallel safe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.vectorBytes(vector)}} $$;
comment on function hartonomous._vector_bytes(real[]) is 'a vector as a search keeps it where there is no pgvector: its floats, the least significant byte first';

create or replace function hartonomous._nearest(
    vectors bytea, query bytea, k integer, out ord integer, out score double precision)
returns setof record
language plv8 immutable strict parallel safe cost 100000 rows 50 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.nearestVectors(vectors, query, k)}} $$;
comment on function hartonomous._nearest(bytea, bytea, integer) is
    'places of the k vectors, of those that stand one after the other, whose inner products with one are largest, best first';

revoke all on function hartonomous.chunk(text, text, json), hartonomous._vector_bytes(real[]), hartonomous._nearest(bytea, bytea, integer) from public;
grant execute on function hartonomous.chunk(text, text, json), hartonomous._vector_bytes(real[]), hartonomous._nearest(bytea, bytea, integer) to hartonomous_user;
