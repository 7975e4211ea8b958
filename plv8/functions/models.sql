-- Models

create or replace function hartonomous.set_default_model(model text)
returns text
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.setDefaultModel(model)}} $$;
comment on function hartonomous.set_default_model(text) is
    'make this the model used where none is named, for embeddings where it was made for them, else for text; null returns to "the only one"';

create or replace function hartonomous.default_model()
returns text
language plv8 stable parallel restricted cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.defaultModel()}} $$;
comment on function hartonomous.default_model() is 'the model used where none is named; null where there is none';

create or replace function hartonomous.default_embedding_model()
returns text
language plv8 stable parallel restricted cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.defaultEmbeddingModel()}} $$;
comment on function hartonomous.default_embedding_model() is
    'the model that embed, similarity and rerank use where none is named; null where there is none';

create or replace function hartonomous.unload(model text default null)
returns integer
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.unload(model)}} $$;
comment on function hartonomous.unload(text) is
    'free a loaded model of this backend and of the engine, or all of them; returns how many were freed. The engine keeps what is in use, and what other roles have used and not unloaded, unless an admin asks';

-- Builds differ in its columns, which cannot be replaced.
drop view if exists hartonomous.loaded_models;
drop function if exists hartonomous._loaded();
create or replace function hartonomous._loaded(
    out model text, out "precision" text, out memory_bytes bigint, out shared_bytes bigint, out cache_bytes bigint, out cached_tokens integer,
    out load_duration bigint, out calls bigint, out prompt_tokens bigint, out reused_tokens bigint,
    out generated_tokens bigint, out loaded_at timestamptz, out last_used_at timestamptz, out caches integer,
    out cache_hits bigint, out memories integer, out kernels text, out threads integer)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 2 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.loadedModels()}} $$;
comment on function hartonomous._loaded() is 'the models that this backend holds in memory';

create or replace view hartonomous.loaded_models as
select pg_backend_pid() as pid, loaded.* from hartonomous._loaded() as loaded;
drop function if exists hartonomous._loaded_models(); -- of builds before _loaded
comment on view hartonomous.loaded_models is 'the models that this backend holds in memory, with their use so far';
comment on column hartonomous.loaded_models.pid is 'process id of this backend';
comment on column hartonomous.loaded_models.model is 'name of the model when it was loaded';
comment on column hartonomous.loaded_models."precision" is 'how the matrices are held: their own integers, q8 or f32';
comment on column hartonomous.loaded_models.memory_bytes is 'WebAssembly memory of weights, caches and activations';
comment on column hartonomous.loaded_models.shared_bytes is 'part of it that stands in a segment, once for all backends';
comment on column hartonomous.loaded_models.cache_bytes is 'part of it that key/value caches take';
comment on column hartonomous.loaded_models.cached_tokens is 'tokens whose keys and values are kept for later calls';
comment on column hartonomous.loaded_models.load_duration is 'nanoseconds that loading took';
comment on column hartonomous.loaded_models.calls is 'calls served';
comment on column hartonomous.loaded_models.prompt_tokens is 'prompt tokens of these calls';
comment on column hartonomous.loaded_models.reused_tokens is 'prompt tokens found in a cache';
comment on column hartonomous.loaded_models.generated_tokens is 'tokens written';
comment on column hartonomous.loaded_models.loaded_at is 'when it was loaded';
comment on column hartonomous.loaded_models.last_used_at is 'when it was last used';
comment on column hartonomous.loaded_models.caches is 'key/value caches kept for later calls';
comment on column hartonomous.loaded_models.cache_hits is 'calls that found the beginning of their prompt in a cache';
comment on column hartonomous.loaded_models.memories is 'WebAssembly memories that it is spread over: one up to about 4 GiB';
comment on column hartonomous.loaded_models.kernels is 'build of the kernels that computes: native, the host''s own code, with what the processor gives; relaxed where V8 and the processor have relaxed SIMD''s dot product; or plain; results are the same';
comment on column hartonomous.loaded_models.threads is 'threads that a call of this backend may have, as far as other calls leave cores';

create or replace function hartonomous._kernels(out kernels text, out threads integer)
returns record
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.kernelFacts()}} $$;
comment on function hartonomous._kernels() is
    'build of the kernels that models of this backend compute with, and threads that a call may have; see loaded_models';

create or replace function hartonomous.build_id()
returns text
language sql immutable parallel safe
as $$ select '{{build_id}}'::text $$;
comment on function hartonomous.build_id() is 'content hash of the installed bundle and functions';

revoke all on function
    hartonomous.set_default_model(text), hartonomous.unload(text), hartonomous.default_model(), hartonomous.default_embedding_model(), hartonomous.build_id(), hartonomous._loaded(), hartonomous._kernels()
from public;
grant execute on function
    hartonomous.set_default_model(text)
to hartonomous_admin;
grant execute on function
    hartonomous.unload(text)
to hartonomous_user;
grant execute on function
    hartonomous.default_model(), hartonomous.default_embedding_model(), hartonomous.build_id(), hartonomous._loaded(), hartonomous._kernels()
to hartonomous_user, hartonomous_reader;
grant select on hartonomous.loaded_models to hartonomous_user, hartonomous_reader;
