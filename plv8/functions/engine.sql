-- The engine of this database, which the host starts and which calls _engine_turn as long as it lives; what it does, and for whom.

create or replace function hartonomous._engine_turn() returns boolean
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.engineTurn()}} $$;
comment on function hartonomous._engine_turn() is
    'in the process of an engine: do some of the work that callers left; whether there is more';

create or replace function hartonomous._state_of_engine(
    out pid integer, out started_at timestamptz, out requests_waiting integer, out requests_running integer,
    out answers bigint, out failures bigint, out passes bigint, out latest_batch integer, out mean_batch real, out mean_rows real,
    out prompt_tokens bigint, out reused_tokens bigint, out generated_tokens bigint, out tokens_per_second real,
    out busy_ns bigint, out first_token_ns bigint, out memory_bytes bigint, out cache_bytes bigint, out cached_tokens bigint)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 1 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.engineList()}} $$;
comment on function hartonomous._state_of_engine() is 'the engine of this database, without its models';

create or replace view hartonomous.engine_list as
select e.pid, e.started_at, array(select l.model from hartonomous.loaded_everywhere l where l.pid = e.pid order by l.model) as models,
    e.requests_waiting, e.requests_running, e.answers, e.failures, e.passes, e.latest_batch, e.mean_batch, e.mean_rows,
    e.prompt_tokens, e.reused_tokens, e.generated_tokens, e.tokens_per_second, e.busy_ns, e.first_token_ns,
    e.memory_bytes, e.cache_bytes, e.cached_tokens
from hartonomous._state_of_engine() e;
comment on view hartonomous.engine_list is
    'the engine of this database with its work since it was started; no row where none runs, as without our own host';
comment on column hartonomous.engine_list.pid is 'process id of the engine';
comment on column hartonomous.engine_list.started_at is 'when it was started';
comment on column hartonomous.engine_list.models is 'names of the models that it holds in memory';
comment on column hartonomous.engine_list.requests_waiting is 'requests of which nothing is computed yet';
comment on column hartonomous.engine_list.requests_running is 'requests whose prompt is read or whose answer is written';
comment on column hartonomous.engine_list.answers is 'answers that were written to their end';
comment on column hartonomous.engine_list.failures is 'requests that ended with an error';
comment on column hartonomous.engine_list.passes is 'passes over the weights';
comment on column hartonomous.engine_list.latest_batch is 'answers and prompts in the latest pass';
comment on column hartonomous.engine_list.mean_batch is 'answers and prompts in a pass, the mean of all';
comment on column hartonomous.engine_list.mean_rows is 'tokens evaluated in a pass, the mean of all';
comment on column hartonomous.engine_list.prompt_tokens is 'tokens of the prompts that were begun';
comment on column hartonomous.engine_list.reused_tokens is 'part of these that a cache had';
comment on column hartonomous.engine_list.generated_tokens is 'tokens written';
comment on column hartonomous.engine_list.tokens_per_second is 'tokens written in a second of computing, that of prompts included';
comment on column hartonomous.engine_list.busy_ns is 'nanoseconds of computing';
comment on column hartonomous.engine_list.first_token_ns is 'nanoseconds from a request to its first token, the mean of all';
comment on column hartonomous.engine_list.memory_bytes is 'WebAssembly memory of weights, caches and activations';
comment on column hartonomous.engine_list.cache_bytes is 'part of it that key/value caches take';
comment on column hartonomous.engine_list.cached_tokens is 'tokens whose keys and values are kept for later requests';

create or replace function hartonomous._requests_of_engine(
    viewer text, out pid integer, out caller_oid bigint, out model_id bigint, out state text, out prompt_tokens integer,
    out reused_tokens integer, out eval_count integer, out asked_at timestamptz, out first_token_ns bigint)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 8 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.engineRequests(viewer)}} $$;
comment on function hartonomous._requests_of_engine(text) is
    'requests of this database''s engine that a role may see which the caller is or may become';

create or replace view hartonomous.engine_requests as
select r.pid, a.rolname as caller, m.name as model, r.state, r.prompt_tokens, r.reused_tokens, r.eval_count, r.asked_at, r.first_token_ns
from hartonomous._requests_of_engine(hartonomous._viewer()) r
left join pg_catalog.pg_roles a on a.oid = r.caller_oid::oid
left join hartonomous.models m on m.id = r.model_id and m.state = 'ready';
comment on view hartonomous.engine_requests is
    'requests that the engine of this database has waiting or computes: the caller''s own, to an admin everybody''s';
comment on column hartonomous.engine_requests.pid is 'process id of the backend that asked';
comment on column hartonomous.engine_requests.caller is 'role that asked';
comment on column hartonomous.engine_requests.model is 'name of the model; null where it is gone';
comment on column hartonomous.engine_requests.state is
    'waiting: until it is taken up, or for a place; reading: its prompt is evaluated; writing: its answer is written';
comment on column hartonomous.engine_requests.prompt_tokens is 'tokens of the prompt; null until it is taken up';
comment on column hartonomous.engine_requests.reused_tokens is 'part of these that a cache had; null until it is taken up';
comment on column hartonomous.engine_requests.eval_count is 'tokens written so far';
comment on column hartonomous.engine_requests.asked_at is 'since when it waits for its answer';
comment on column hartonomous.engine_requests.first_token_ns is 'nanoseconds from then to its first token; null before that';

revoke all on function hartonomous._engine_turn(), hartonomous._state_of_engine(), hartonomous._requests_of_engine(text) from public;
grant execute on function hartonomous._state_of_engine(), hartonomous._requests_of_engine(text)
    to hartonomous_user, hartonomous_reader;
grant select on hartonomous.engine_list, hartonomous.engine_requests to hartonomous_user, hartonomous_reader;
