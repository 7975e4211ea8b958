-- Embeddings of single tokens and their neighbours

create or replace function hartonomous.embedding(token text, model text default null)
returns real[]
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.embedding(token, model)}} $$;
comment on function hartonomous.embedding(text, text) is
    'input embedding of a token as the model stores it; the token is a text that is one token, or its spelling in the vocabulary';

create or replace function hartonomous.nearest_tokens(
    token text, k integer default 10, model text default null, method text default 'exact',
    out token text, out token_id integer, out cosine double precision)
returns setof record
language plv8 stable parallel restricted cost 100000 rows 10 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.nearestTokens(token, k, model, method)}} $$;
comment on function hartonomous.nearest_tokens(text, integer, text, text) is
    'the k tokens whose embeddings have the largest cosine with one token''s: exact among all, or hilbert among those next to it on the curve';

create or replace function hartonomous.store_nearest(
    tokens text[], k integer default 10, model text default null, method text default 'exact')
returns bigint
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.storeNearest(tokens, k, model, method)}} $$;
comment on function hartonomous.store_nearest(text[], integer, text, text) is
    'write the neighbours of tokens into relations as kind nearest, with their cosines; returns how many were written';

revoke all on function
    hartonomous.embedding(text, text), hartonomous.nearest_tokens(text, integer, text, text), hartonomous.store_nearest(text[], integer, text, text)
from public;
grant execute on function
    hartonomous.embedding(text, text), hartonomous.nearest_tokens(text, integer, text, text)
to hartonomous_user;
grant execute on function hartonomous.store_nearest(text[], integer, text, text) to hartonomous_admin;
