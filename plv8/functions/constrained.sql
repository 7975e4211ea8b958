-- Answers that have to be something: JSON of a schema, a text of a pattern, one of several texts

create or replace function hartonomous._generate_json(prompt text, schema jsonb, model text, options jsonb)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generateJson(prompt, schema, model, options)}} $$;
comment on function hartonomous._generate_json(text, jsonb, text, jsonb) is 'generate_json as text, in which null is not SQL null';

create or replace function hartonomous.generate_json(
    prompt text, schema jsonb, model text default null, options jsonb default '{}')
returns jsonb
language sql volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ select hartonomous._generate_json(prompt, schema, model, options)::jsonb $$;
comment on function hartonomous.generate_json(text, jsonb, text, jsonb) is
    'as generate, with an answer that is valid under a JSON schema; a keyword that is not supported is refused by name';

create or replace function hartonomous.generate_regex(
    prompt text, pattern text, model text default null, options jsonb default '{}')
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generateRegex(prompt, pattern, model, options)}} $$;
comment on function hartonomous.generate_regex(text, text, text, jsonb) is
    'as generate, with an answer that matches a JavaScript regular expression as a whole';

create or replace function hartonomous.generate_choice(
    prompt text, choices text[], model text default null, options jsonb default '{}')
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generateChoice(prompt, choices, model, options)}} $$;
comment on function hartonomous.generate_choice(text, text[], text, jsonb) is
    'as generate, with an answer that is one of these texts';

revoke all on function
    hartonomous._generate_json(text, jsonb, text, jsonb), hartonomous.generate_json(text, jsonb, text, jsonb), hartonomous.generate_regex(text, text, text, jsonb), hartonomous.generate_choice(text, text[], text, jsonb)
from public;
grant execute on function
    hartonomous.generate_json(text, jsonb, text, jsonb), hartonomous.generate_regex(text, text, text, jsonb), hartonomous.generate_choice(text, text[], text, jsonb)
to hartonomous_user;
