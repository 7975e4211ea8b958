-- Many prompts in one call

create or replace function hartonomous._generate_batch(
    prompts text[], model text, options text,
    out ord integer, out text text, out done_reason text, out eval_count integer)
returns setof record
language plv8 volatile parallel unsafe cost 10000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$ {{engine.generateBatch(prompts, model, options)}} $$;
comment on function hartonomous._generate_batch(text[], text, text) is 'generate for many prompts with options as text';

create or replace function hartonomous.generate(
    prompts text[], model text default null, options json default '{}',
    out ord integer, out text text, out done_reason text, out eval_count integer)
returns setof record
language sql volatile parallel unsafe cost 10000000 rows 16
as $$ select * from hartonomous._generate_batch(prompts, model, options::text) $$;
comment on function hartonomous.generate(text[], text, json) is
    'an answer to every prompt, up to 16 computed together; each is what generate gives for that prompt alone';

revoke all on function hartonomous._generate_batch(text[], text, text), hartonomous.generate(text[], text, json) from public;
grant execute on function hartonomous._generate_batch(text[], text, text), hartonomous.generate(text[], text, json) to hartonomous_user;
