-- Called by ingest

create or replace function hartonomous._index_embeddings(model_id bigint)
returns bigint
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.indexEmbeddings(model_id)}} $$;
comment on function hartonomous._index_embeddings(bigint) is
    'fill token_embeddings of a model: norm and Hilbert index of every token''s embedding; called by ingest';

create or replace function hartonomous._check_tokenizer(model_id bigint)
returns integer
language plv8 stable parallel unsafe cost 100000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.checkTokenizer(model_id)}} $$;
comment on function hartonomous._check_tokenizer(bigint) is
    'raise an error when the vocabulary of a model cannot be used, else return its size; called by ingest';

create or replace function hartonomous._check_model(model_id bigint)
returns void
language plv8 stable parallel unsafe cost 10000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.checkModel(model_id)}} $$;
comment on function hartonomous._check_model(bigint) is
    'raise an error when the tensors or numbers of a model cannot be computed with; called by ingest';

revoke all on function
    hartonomous._index_embeddings(bigint), hartonomous._check_tokenizer(bigint), hartonomous._check_model(bigint)
from public;
grant execute on function
    hartonomous._index_embeddings(bigint), hartonomous._check_tokenizer(bigint), hartonomous._check_model(bigint)
to hartonomous_admin;
