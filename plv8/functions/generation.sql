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

revoke all on function
    hartonomous.generate(text, text, jsonb), hartonomous.complete(text, text, jsonb), hartonomous.chat(jsonb, text, jsonb), hartonomous.generate_stream(text, text, jsonb)
from public;
grant execute on function
    hartonomous.generate(text, text, jsonb), hartonomous.complete(text, text, jsonb), hartonomous.chat(jsonb, text, jsonb), hartonomous.generate_stream(text, text, jsonb)
to hartonomous_user;
