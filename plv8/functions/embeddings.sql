-- Embeddings. Stable, so that a query plans an index on embeddings for `order by embedding <=> hartonomous.embed('...')`.

create or replace function hartonomous.embed(input text, model text default null, options json default '{}')
returns real[]
language plv8 stable parallel restricted cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.embed(input, model, options)}} $$;
comment on function hartonomous.embed(text, text, json) is
    'embedding of a text by the model''s pooling, of length 1 unless the model or option normalize says otherwise';

create or replace function hartonomous.embed(
    inputs text[], model text default null, options json default '{}', 
    out ord integer, out embedding real[], out prompt_eval_count integer, out error text)
returns setof record
language plv8 stable parallel restricted cost 10000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.embedBatch(inputs, model, options)}} $$;
comment on function hartonomous.embed(text[], text, json) is
    'embedding of every text, computed together, and the tokens that were read; each is what embed gives for that text alone';

create or replace function hartonomous._embed_queued(
    inputs text[], model text, options json,
    out ord integer, out embedding real[], out prompt_eval_count integer, out error text)
returns setof record
language plv8 volatile parallel unsafe cost 10000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.embedQueued(inputs, model, options)}} $$;
comment on function hartonomous._embed_queued(text[], text, json) is
    'embed of texts that wait in a queue: where the engine has as many requests as it may have the session computes them';

create or replace function hartonomous.similarity(
    a text, b text, model text default null, options json default '{}')
returns double precision
language plv8 stable parallel restricted cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.similarity(a, b, model, options)}} $$;
comment on function hartonomous.similarity(text, text, text, json) is
    'cosine of the angle between the embeddings of two texts';

create or replace function hartonomous.rerank(
    query text, docs text[], model text default null, options json default '{}',
    out ord integer, out doc text, out score double precision)
returns setof record
language plv8 stable parallel restricted cost 10000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.rerank(query, docs, model, options)}} $$;
comment on function hartonomous.rerank(text, text[], text, json) is
    'texts by the similarity of their embeddings to a query''s, best first; ord is a text''s place in docs';

create or replace function hartonomous.explain_similarity(
    a text, b text, model text default null, options json default '{}',
    out a_position integer, out a_token text, out b_position integer, out b_token text, out contribution double precision)
returns setof record
language plv8 stable parallel restricted cost 1000000 rows 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainSimilarity(a, b, model, options)}} $$;
comment on function hartonomous.explain_similarity(text, text, text, json) is
    'what tokens of two texts add to the cosine of their embeddings: every pair where a text''s vector is the mean of its tokens'', and these sum to it; else the cosine less that without the token';

create or replace function hartonomous.explain_rerank(
    query text, doc text, model text default null, options json default '{}',
    out part text, out number integer, out word text, out contribution double precision)
returns setof record
language plv8 stable parallel restricted cost 10000000 rows 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.explainRerank(query, doc, model, options)}} $$;
comment on function hartonomous.explain_rerank(text, text, text, json) is
    'what each word of a query and of a text adds to the text''s score in rerank: the score less that without the word';

revoke all on function
    hartonomous.explain_similarity(text, text, text, json), hartonomous.explain_rerank(text, text, text, json),
    hartonomous.embed(text, text, json), hartonomous.embed(text[], text, json), hartonomous._embed_queued(text[], text, json), hartonomous.similarity(text, text, text, json), hartonomous.rerank(text, text[], text, json)
from public;
grant execute on function
    hartonomous.explain_similarity(text, text, text, json), hartonomous.explain_rerank(text, text, text, json),
    hartonomous.embed(text, text, json), hartonomous.embed(text[], text, json), hartonomous._embed_queued(text[], text, json), hartonomous.similarity(text, text, text, json), hartonomous.rerank(text, text[], text, json)
to hartonomous_user;
