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

create or replace function hartonomous.logits(tokens integer[], model text default null, options json default '{}')
returns real[]
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.logits(tokens, model, options)}} $$;
comment on function hartonomous.logits(integer[], text, json) is
    'logits after the last of these token ids, one per vocabulary entry, before sampling';

create or replace function hartonomous._render_chat(messages text, model text, options text)
returns text
language plv8 stable parallel restricted cost 1000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.renderChatMessages(messages, model, options)}} $$;
comment on function hartonomous._render_chat(text, text, text) is 'render_chat with messages and options as text';

create or replace function hartonomous.render_chat(messages text, model text default null, options json default '{}')
returns text
language sql stable parallel restricted cost 1000
as $$ select hartonomous._render_chat(messages, model, options::text) $$;
comment on function hartonomous.render_chat(text, text, json) is
    'the text that chat gives to the model: its chat template over these messages in JSON, ready for the assistant''s turn';

create or replace function hartonomous.render_chat(messages json, model text default null, options json default '{}')
returns text
language sql stable parallel restricted cost 1000
as $$ select hartonomous._render_chat(messages::text, model, options::text) $$;
comment on function hartonomous.render_chat(json, text, json) is
    'the text that chat gives to the model: its chat template over these messages, ready for the assistant''s turn';

create or replace function hartonomous.render_chat(messages jsonb, model text default null, options json default '{}')
returns text
language sql stable parallel restricted cost 1000
as $$ select hartonomous._render_chat(messages::text, model, options::text) $$;
comment on function hartonomous.render_chat(jsonb, text, json) is
    'the text that chat gives to the model: its chat template over these messages, whose members have the order of jsonb';

revoke all on function
    hartonomous.tokenize(text, text, boolean, boolean), hartonomous.detokenize(integer[], text, boolean),
    hartonomous.token_count(text, text), hartonomous.logits(integer[], text, json), hartonomous._render_chat(text, text, text),
    hartonomous.render_chat(text, text, json), hartonomous.render_chat(json, text, json), hartonomous.render_chat(jsonb, text, json)
from public;
grant execute on function
    hartonomous.tokenize(text, text, boolean, boolean), hartonomous.detokenize(integer[], text, boolean),
    hartonomous.token_count(text, text), hartonomous.logits(integer[], text, json), hartonomous._render_chat(text, text, text),
    hartonomous.render_chat(text, text, json), hartonomous.render_chat(json, text, json), hartonomous.render_chat(jsonb, text, json)
to hartonomous_user;
