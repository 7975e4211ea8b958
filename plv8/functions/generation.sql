-- Text generation. JSON goes to the bundle as text, since objects of JavaScript would not keep the order of their members.

create or replace function hartonomous._generate(prompt text, model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generate(prompt, model, options)}} $$;
comment on function hartonomous._generate(text, text, text) is 'generate with options as text';

create or replace function hartonomous.generate(prompt text, model text default null, options json default '{}')
returns text
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate(prompt, model, options::text) $$;
comment on function hartonomous.generate(text, text, json) is
    'text written by the model after a prompt; the chat template is applied as one user turn unless options say raw';

create or replace function hartonomous._complete(prompt text, model text, options text)
returns json
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.complete(prompt, model, options)}} $$;
comment on function hartonomous._complete(text, text, text) is 'complete with options as text';

create or replace function hartonomous.complete(prompt text, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._complete(prompt, model, options::text) $$;
comment on function hartonomous.complete(text, text, json) is
    'as generate, with done_reason, token counts and durations in nanoseconds';

create or replace function hartonomous._chat(messages text, model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.chat(messages, model, options)}} $$;
comment on function hartonomous._chat(text, text, text) is 'chat with messages, options and answer as text';

create or replace function hartonomous.chat(messages text, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._chat(messages, model, options::text)::json $$;
comment on function hartonomous.chat(text, text, json) is
    'the assistant''s next message after a list of {role, content} messages in JSON, through the model''s chat template';

create or replace function hartonomous.chat(messages json, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._chat(messages::text, model, options::text)::json $$;
comment on function hartonomous.chat(json, text, json) is
    'the assistant''s next message after a list of {role, content} messages, through the model''s chat template';

create or replace function hartonomous.chat(messages jsonb, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._chat(messages::text, model, options::text)::json $$;
comment on function hartonomous.chat(jsonb, text, json) is
    'the assistant''s next message after a list of {role, content} messages, whose members have the order of jsonb';

create or replace function hartonomous._generate_stream(
    prompt text, model text, options text,
    out step integer, out token_id integer, out token text, out logprob real,
    out thinking text)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 128 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateStream(prompt, model, options)}} $$;
comment on function hartonomous._generate_stream(text, text, text) is 'generate_stream with options as text';

create or replace function hartonomous.generate_stream(
    prompt text, model text default null, options json default '{}',
    out step integer, out token_id integer, out token text, out logprob real,
    out thinking text)
returns setof record
language sql volatile parallel unsafe cost 1000000 rows 128
as $$ select * from hartonomous._generate_stream(prompt, model, options::text) $$;
comment on function hartonomous.generate_stream(text, text, json) is
    'one row a generated token; PL/V8 materialises the rows, so they leave together at the end';

revoke all on function
    hartonomous._generate(text, text, text), hartonomous.generate(text, text, json),
    hartonomous._complete(text, text, text), hartonomous.complete(text, text, json),
    hartonomous._chat(text, text, text),
    hartonomous.chat(text, text, json), hartonomous.chat(json, text, json), hartonomous.chat(jsonb, text, json),
    hartonomous._generate_stream(text, text, text), hartonomous.generate_stream(text, text, json)
from public;
grant execute on function
    hartonomous._generate(text, text, text), hartonomous.generate(text, text, json),
    hartonomous._complete(text, text, text), hartonomous.complete(text, text, json),
    hartonomous._chat(text, text, text),
    hartonomous.chat(text, text, json), hartonomous.chat(json, text, json), hartonomous.chat(jsonb, text, json),
    hartonomous._generate_stream(text, text, text), hartonomous.generate_stream(text, text, json)
to hartonomous_user;
