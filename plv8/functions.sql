-- The SQL surface of the bundle. An `entry` call in double braces becomes a call of what plv8/src/entry.ts exports.
-- Everything runs as hartonomous_owner (SECURITY DEFINER), so a backend has one isolate and one copy of a model.

-- Text generation

create or replace function hartonomous.generate(prompt text, model text default null, options jsonb default '{}')
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generate(prompt, model, options)}} $$;
comment on function hartonomous.generate(text, text, jsonb) is
    'text written by the model after a prompt; the chat template is applied as one user turn unless options say raw';

create or replace function hartonomous.complete(prompt text, model text default null, options jsonb default '{}')
returns jsonb
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.complete(prompt, model, options)}} $$;
comment on function hartonomous.complete(text, text, jsonb) is
    'as generate, with done_reason, token counts and durations in nanoseconds';

create or replace function hartonomous.chat(messages jsonb, model text default null, options jsonb default '{}')
returns jsonb
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.chat(messages, model, options)}} $$;
comment on function hartonomous.chat(jsonb, text, jsonb) is
    'the assistant''s next message after a list of {role, content} messages, through the model''s chat template';

create or replace function hartonomous.generate_stream(
    prompt text, model text default null, options jsonb default '{}',
    out step integer, out token_id integer, out token text, out logprob real)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 128 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generateStream(prompt, model, options)}} $$;
comment on function hartonomous.generate_stream(text, text, jsonb) is
    'one row a generated token; PL/V8 materialises the rows, so they leave together at the end';

-- Tokens and logits

create or replace function hartonomous.tokenize(
    input text, model text default null, add_special boolean default false, parse_special boolean default false)
returns integer[]
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.tokenize(input, model, add_special, parse_special)}} $$;
comment on function hartonomous.tokenize(text, text, boolean, boolean) is
    'token ids of a text; add_special adds what the model wants before and after, parse_special reads <|...|> as tokens';

create or replace function hartonomous.detokenize(tokens integer[], model text default null, special boolean default false)
returns text
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.detokenize(tokens, model, special)}} $$;
comment on function hartonomous.detokenize(integer[], text, boolean) is
    'text of token ids; special shows control tokens by name';

create or replace function hartonomous.token_count(input text, model text default null)
returns integer
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.tokenCount(input, model)}} $$;
comment on function hartonomous.token_count(text, text) is 'number of tokens of a text, without special tokens';

create or replace function hartonomous.logits(tokens integer[], model text default null, options jsonb default '{}')
returns real[]
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.logits(tokens, model, options)}} $$;
comment on function hartonomous.logits(integer[], text, jsonb) is
    'logits after the last of these token ids, one per vocabulary entry, before sampling';

create or replace function hartonomous.render_chat(messages jsonb, model text default null, options jsonb default '{}')
returns text
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.renderChatMessages(messages, model, options)}} $$;
comment on function hartonomous.render_chat(jsonb, text, jsonb) is
    'the text that chat gives to the model: its chat template over these messages, ready for the assistant''s turn';

-- Models

create or replace function hartonomous.set_default_model(model text)
returns text
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.setDefaultModel(model)}} $$;
comment on function hartonomous.set_default_model(text) is
    'make this the model used where none is named; null returns to "the only one"';

create or replace function hartonomous.default_model()
returns text
language plv8 stable parallel restricted cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.defaultModel()}} $$;
comment on function hartonomous.default_model() is 'the model used where none is named; null where there is none';

create or replace function hartonomous.unload(model text default null)
returns integer
language plv8 volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.unload(model)}} $$;
comment on function hartonomous.unload(text) is
    'free a loaded model of this backend, or all of them; returns how many were freed';

create or replace function hartonomous._loaded_models(
    out model text, out "precision" text, out memory_bytes bigint, out cache_bytes bigint, out cached_tokens integer,
    out load_duration bigint, out calls bigint, out prompt_tokens bigint, out reused_tokens bigint,
    out generated_tokens bigint, out loaded_at timestamptz, out last_used_at timestamptz)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 2 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.loadedModels()}} $$;
comment on function hartonomous._loaded_models() is 'the models that this backend holds in memory';

create or replace view hartonomous.loaded_models as
select pg_backend_pid() as pid, loaded.* from hartonomous._loaded_models() as loaded;
comment on view hartonomous.loaded_models is 'the models that this backend holds in memory, with their use so far';
comment on column hartonomous.loaded_models.pid is 'process id of this backend';
comment on column hartonomous.loaded_models.model is 'name of the model when it was loaded';
comment on column hartonomous.loaded_models."precision" is 'how the matrices are held: their own integers, q8 or f32';
comment on column hartonomous.loaded_models.memory_bytes is 'WebAssembly memory of weights, caches and activations';
comment on column hartonomous.loaded_models.cache_bytes is 'part of it that key/value caches take';
comment on column hartonomous.loaded_models.cached_tokens is 'tokens whose keys and values are kept for the next call';
comment on column hartonomous.loaded_models.load_duration is 'nanoseconds that loading took';
comment on column hartonomous.loaded_models.calls is 'calls served';
comment on column hartonomous.loaded_models.prompt_tokens is 'prompt tokens of these calls';
comment on column hartonomous.loaded_models.reused_tokens is 'prompt tokens found in the cache';
comment on column hartonomous.loaded_models.generated_tokens is 'tokens written';
comment on column hartonomous.loaded_models.loaded_at is 'when it was loaded';
comment on column hartonomous.loaded_models.last_used_at is 'when it was last used';

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

create or replace function hartonomous.build_id()
returns text
language sql immutable parallel safe
as $$ select '{{build_id}}'::text $$;
comment on function hartonomous.build_id() is 'content hash of the installed bundle and functions';

-- Rights: nothing for PUBLIC; users call, admins also set the default model and index.

revoke all on function
    hartonomous.generate(text, text, jsonb), hartonomous.complete(text, text, jsonb),
    hartonomous.chat(jsonb, text, jsonb), hartonomous.generate_stream(text, text, jsonb),
    hartonomous.tokenize(text, text, boolean, boolean), hartonomous.detokenize(integer[], text, boolean),
    hartonomous.token_count(text, text), hartonomous.logits(integer[], text, jsonb),
    hartonomous.render_chat(jsonb, text, jsonb), hartonomous.set_default_model(text), hartonomous.default_model(),
    hartonomous.unload(text), hartonomous._loaded_models(), hartonomous._index_embeddings(bigint),
    hartonomous._check_tokenizer(bigint), hartonomous._check_model(bigint), hartonomous.build_id(),
    hartonomous.hilbert_encode(integer[], integer), hartonomous.hilbert_decode(bigint, integer, integer),
    hartonomous.dot_product(real[], real[]), hartonomous.cosine_similarity(real[], real[])
from public;
grant execute on function
    hartonomous.generate(text, text, jsonb), hartonomous.complete(text, text, jsonb),
    hartonomous.chat(jsonb, text, jsonb), hartonomous.generate_stream(text, text, jsonb),
    hartonomous.tokenize(text, text, boolean, boolean), hartonomous.detokenize(integer[], text, boolean),
    hartonomous.token_count(text, text), hartonomous.logits(integer[], text, jsonb),
    hartonomous.render_chat(jsonb, text, jsonb), hartonomous.default_model(), hartonomous.unload(text),
    hartonomous._loaded_models(), hartonomous.build_id()
to hartonomous_user;
grant execute on function
    hartonomous.set_default_model(text), hartonomous._index_embeddings(bigint), hartonomous._check_tokenizer(bigint),
    hartonomous._check_model(bigint)
to hartonomous_admin;
grant execute on function
    hartonomous.default_model(), hartonomous.build_id(), hartonomous._loaded_models()
to hartonomous_reader;
grant execute on function
    hartonomous.hilbert_encode(integer[], integer), hartonomous.hilbert_decode(bigint, integer, integer),
    hartonomous.dot_product(real[], real[]), hartonomous.cosine_similarity(real[], real[])
to hartonomous_user, hartonomous_reader;
grant select on hartonomous.loaded_models to hartonomous_user, hartonomous_reader;
