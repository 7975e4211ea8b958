-- Chunks of texts

create or replace function hartonomous.chunk(
    input text, model text default null, options json default '{}',
    out number integer, out "from" integer, out "to" integer, out text text)
returns setof record
language plv8 stable parallel restricted cost 100000 rows 8 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.chunk(input, model, options)}} $$;
comment on function hartonomous.chunk(text, text, json) is
    'a text in pieces of at most so many tokens of a model; from and to are the places of a piece''s first and last character: substr(input, "from", "to" - "from" + 1) is its text';

revoke all on function hartonomous.chunk(text, text, json) from public;
grant execute on function hartonomous.chunk(text, text, json) to hartonomous_user;
