-- Labels for texts

create or replace function hartonomous.classify(
    input text, labels text[], model text default null, options json default '{}',
    out label text, out probability double precision)
returns setof record
language plv8 volatile parallel unsafe cost 1000000 rows 5 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.classify(input, labels, model, options)}} $$;
comment on function hartonomous.classify(text, text[], text, json) is
    'how likely the model answers with each label when asked which fits the text, likeliest first; option instruction puts the question';

revoke all on function hartonomous.classify(text, text[], text, json) from public;
grant execute on function hartonomous.classify(text, text[], text, json) to hartonomous_user;
