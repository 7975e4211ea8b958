-- Mathematics

create or replace function hartonomous.hilbert_encode(point integer[], bits integer)
returns bigint
language plv8 immutable strict parallel safe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.hilbertEncode(point, bits)}} $$;
comment on function hartonomous.hilbert_encode(integer[], integer) is
    'index on the Hilbert curve of a point whose coordinates have so many bits each; dimensions x bits is at most 63';

create or replace function hartonomous.hilbert_decode(index bigint, dims integer, bits integer)
returns integer[]
language plv8 immutable strict parallel safe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.hilbertDecode(index, dims, bits)}} $$;
comment on function hartonomous.hilbert_decode(bigint, integer, integer) is
    'the point of an index on the Hilbert curve: the inverse of hilbert_encode';

create or replace function hartonomous.dot_product(a real[], b real[])
returns double precision
language plv8 immutable strict parallel safe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.dotProduct(a, b)}} $$;
comment on function hartonomous.dot_product(real[], real[]) is 'sum of the products of two vectors'' elements';

create or replace function hartonomous.cosine_similarity(a real[], b real[])
returns double precision
language plv8 immutable strict parallel safe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.cosineSimilarity(a, b)}} $$;
comment on function hartonomous.cosine_similarity(real[], real[]) is
    'cosine of the angle between two vectors, NaN where one is zero';

revoke all on function
    hartonomous.hilbert_encode(integer[], integer), hartonomous.hilbert_decode(bigint, integer, integer), hartonomous.dot_product(real[], real[]), hartonomous.cosine_similarity(real[], real[])
from public;
grant execute on function
    hartonomous.hilbert_encode(integer[], integer), hartonomous.hilbert_decode(bigint, integer, integer), hartonomous.dot_product(real[], real[]), hartonomous.cosine_similarity(real[], real[])
to hartonomous_user, hartonomous_reader;
