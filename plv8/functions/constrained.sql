-- Answers that have to be something: JSON of a schema, a text of a pattern or grammar, one of several texts

create or replace function hartonomous._generate_json(prompt text, schema text, model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateJson(prompt, schema, model, options)}} $$;
comment on function hartonomous._generate_json(text, text, text, text) is 'generate_json over texts, in which null is not SQL null';

create or replace function hartonomous.generate_json(
    prompt text, schema text, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_json(prompt, schema, model, options::text)::json $$;
comment on function hartonomous.generate_json(text, text, text, json) is
    'as generate, with an answer that is valid under a JSON schema and in its order; a keyword that is not supported is refused by name';

create or replace function hartonomous.generate_json(
    prompt text, schema json, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_json(prompt, schema::text, model, options::text)::json $$;
comment on function hartonomous.generate_json(text, json, text, json) is
    'as generate, with an answer that is valid under a JSON schema and in its order; a keyword that is not supported is refused by name';

create or replace function hartonomous.generate_json(
    prompt text, schema jsonb, model text default null, options json default '{}')
returns json
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_json(prompt, schema::text, model, options::text)::json $$;
comment on function hartonomous.generate_json(text, jsonb, text, json) is
    'as generate, with an answer that is valid under a JSON schema and in the order of jsonb, shorter names first';

create or replace function hartonomous._generate_regex(prompt text, pattern text, model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateRegex(prompt, pattern, model, options)}} $$;
comment on function hartonomous._generate_regex(text, text, text, text) is 'generate_regex with options as text';

create or replace function hartonomous.generate_regex(
    prompt text, pattern text, model text default null, options json default '{}')
returns text
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_regex(prompt, pattern, model, options::text) $$;
comment on function hartonomous.generate_regex(text, text, text, json) is
    'as generate, with an answer that matches a JavaScript regular expression as a whole';

create or replace function hartonomous._generate_grammar(prompt text, grammar text, model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateGrammar(prompt, grammar, model, options)}} $$;
comment on function hartonomous._generate_grammar(text, text, text, text) is 'generate_grammar with options as text';

create or replace function hartonomous.generate_grammar(
    prompt text, grammar text, model text default null, options json default '{}')
returns text
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_grammar(prompt, grammar, model, options::text) $$;
comment on function hartonomous.generate_grammar(text, text, text, json) is
    'as generate, with an answer that a grammar in llama.cpp''s GBNF accepts';

create or replace function hartonomous._generate_choice(prompt text, choices text[], model text, options text)
returns text
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateChoice(prompt, choices, model, options)}} $$;
comment on function hartonomous._generate_choice(text, text[], text, text) is 'generate_choice with options as text';

create or replace function hartonomous.generate_choice(
    prompt text, choices text[], model text default null, options json default '{}')
returns text
language sql volatile parallel unsafe cost 1000000
as $$ select hartonomous._generate_choice(prompt, choices, model, options::text) $$;
comment on function hartonomous.generate_choice(text, text[], text, json) is
    'as generate, with an answer that is one of these texts';

revoke all on function
    hartonomous._generate_json(text, text, text, text), hartonomous.generate_json(text, text, text, json),
    hartonomous.generate_json(text, json, text, json), hartonomous.generate_json(text, jsonb, text, json),
    hartonomous._generate_regex(text, text, text, text), hartonomous.generate_regex(text, text, text, json),
    hartonomous._generate_grammar(text, text, text, text), hartonomous.generate_grammar(text, text, text, json),
    hartonomous._generate_choice(text, text[], text, text), hartonomous.generate_choice(text, text[], text, json)
from public;
grant execute on function
    hartonomous._generate_json(text, text, text, text), hartonomous.generate_json(text, text, text, json),
    hartonomous.generate_json(text, json, text, json), hartonomous.generate_json(text, jsonb, text, json),
    hartonomous._generate_regex(text, text, text, text), hartonomous.generate_regex(text, text, text, json),
    hartonomous._generate_grammar(text, text, text, text), hartonomous.generate_grammar(text, text, text, json),
    hartonomous._generate_choice(text, text[], text, text), hartonomous.generate_choice(text, text[], text, json)
to hartonomous_user;
