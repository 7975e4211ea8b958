-- Sessions: an answer taken token by token

create or replace function hartonomous._open_session(prompt text, model text, options text)
returns bigint
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.openSession(prompt, model, options)}} $$;
comment on function hartonomous._open_session(text, text, text) is 'open_session with prompt and options as text';

create or replace function hartonomous.open_session(prompt text, model text default null, options json default '{}')
returns bigint
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._open_session(prompt, model, options::text) $$;
comment on function hartonomous.open_session(text, text, json) is
    'begin an answer to JSON: a list of {role, content} messages, as chat, or a string, as generate; returns the id for next_tokens';

create or replace function hartonomous.open_session(prompt json, model text default null, options json default '{}')
returns bigint
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._open_session(prompt::text, model, options::text) $$;
comment on function hartonomous.open_session(json, text, json) is
    'begin an answer to a list of {role, content} messages, as chat, or to one JSON string, as generate; returns the id for next_tokens';

create or replace function hartonomous.open_session(prompt jsonb, model text default null, options json default '{}')
returns bigint
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._open_session(prompt::text, model, options::text) $$;
comment on function hartonomous.open_session(jsonb, text, json) is
    'begin an answer to a list of {role, content} messages, whose members have the order of jsonb, or to one JSON string; returns the id for next_tokens';

create or replace function hartonomous.next_tokens(
    session_id bigint, n integer default 1,
    out step integer, out token_id integer, out token text, out logprob real, out done_reason text, out logprobs jsonb,
    out thinking text, out tool_calls jsonb)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 1 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.nextTokens(session_id, n)}} $$;
comment on function hartonomous.next_tokens(bigint, integer) is
    'the next tokens of a session; the last row has a done_reason, and after it there are none';

create or replace function hartonomous._close_session(session_id bigint)
returns text
language plv8 volatile parallel unsafe cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.closeSession(session_id)}} $$;
comment on function hartonomous._close_session(bigint) is 'close_session with its facts as text';

create or replace function hartonomous.close_session(session_id bigint)
returns json
language sql volatile parallel unsafe cost 1000
as $$ select hartonomous._close_session(session_id)::json $$;
comment on function hartonomous.close_session(bigint) is
    'end a session; its text and the facts that complete reports, done_reason cancelled when the answer was not complete';

create or replace function hartonomous._sessions(
    out session_id bigint, out model text, out prompt_tokens integer, out eval_count integer, out done_reason text,
    out opened_at timestamptz, out last_used_at timestamptz)
returns setof record
language plv8 volatile parallel unsafe cost 100 rows 2 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.sessions()}} $$;
comment on function hartonomous._sessions() is 'the caller''s sessions in this backend';

create or replace view hartonomous.sessions as select * from hartonomous._sessions();
comment on view hartonomous.sessions is 'the caller''s sessions in this backend';
comment on column hartonomous.sessions.session_id is 'id that next_tokens and close_session take';
comment on column hartonomous.sessions.model is 'model that answers';
comment on column hartonomous.sessions.prompt_tokens is 'tokens of the prompt';
comment on column hartonomous.sessions.eval_count is 'tokens handed out so far';
comment on column hartonomous.sessions.done_reason is 'why the answer ended; null while it goes on';
comment on column hartonomous.sessions.opened_at is 'when it was opened';
comment on column hartonomous.sessions.last_used_at is 'when it was last asked for tokens';

revoke all on function
    hartonomous._open_session(text, text, text), hartonomous.open_session(text, text, json),
    hartonomous.open_session(json, text, json), hartonomous.open_session(jsonb, text, json),
    hartonomous.next_tokens(bigint, integer), hartonomous._close_session(bigint),
    hartonomous.close_session(bigint), hartonomous._sessions()
from public;
grant execute on function
    hartonomous._open_session(text, text, text), hartonomous.open_session(text, text, json),
    hartonomous.open_session(json, text, json), hartonomous.open_session(jsonb, text, json),
    hartonomous.next_tokens(bigint, integer), hartonomous._close_session(bigint),
    hartonomous.close_session(bigint), hartonomous._sessions()
to hartonomous_user;
grant select on hartonomous.sessions to hartonomous_user;
