-- Many prompts in one call

create or replace function hartonomous.generate(
    prompts text[], model text default null, options jsonb default '{}',
    out ord integer, out text text, out done_reason text, out eval_count integer)
returns setof record
language plv8 volatile parallel unsafe cost 10000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.generateBatch(prompts, model, options)}} $$;
comment on function hartonomous.generate(text[], text, jsonb) is
    'an answer to every prompt, up to 16 computed together; each is what generate gives for that prompt alone';

revoke all on function hartonomous.generate(text[], text, jsonb) from public;
grant execute on function hartonomous.generate(text[], text, jsonb) to hartonomous_user;
