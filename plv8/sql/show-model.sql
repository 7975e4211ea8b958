-- Everything that is known of one model.

create or replace function hartonomous.show_model(model text) returns jsonb
language plpgsql stable parallel safe security definer set search_path = hartonomous, pg_temp
as $$
declare
    shown jsonb;
begin
    select jsonb_build_object(
        'name', m.name, 'architecture', m.architecture, 'parameter_count', m.parameter_count,
        'layer_count', m.layer_count, 'context_length', m.context_length, 'embedding_length', m.embedding_length,
        'vocabulary_size', m.vocabulary_size,
        'storage_types', (select jsonb_object_agg(t.storage_type, t.n) from
            (select w.storage_type, count(*) as n from hartonomous.weight_matrices w where w.model_id = m.id group by 1) t),
        'source', m.source, 'source_format', m.source_format, 'digest', encode(m.source_digest, 'hex'),
        'size_bytes', m.source_bytes, 'ingested_at', m.ready_at,
        'default_options', m.default_options, 'system_prompt', m.system_prompt, 'chat_template', m.chat_template,
        'is_embedder', hartonomous._embeds(m.architecture, m.hyperparameters),
        'license', coalesce(m.hyperparameters -> 'ollama.license', m.hyperparameters -> 'general.license'), 'metadata', m.hyperparameters)
    into shown from hartonomous.models m
    -- NAME and NAME:latest are one, unless both are there
    where m.name in (show_model.model, show_model.model || ':latest', regexp_replace(show_model.model, ':latest$', '')) and m.state = 'ready'
    order by m.name = show_model.model desc limit 1;
    if shown is null then
        raise exception using errcode = 'undefined_object', message = format('model %s does not exist', left(show_model.model, 200)),
            hint = 'names are in hartonomous.model_list';
    end if;
    return shown;
end
$$;
comment on function hartonomous.show_model(text) is
    'everything that is known of a model: sizes, types, template, recommended options, metadata of its file';

revoke all on function hartonomous.show_model(text) from public;
grant execute on function hartonomous.show_model(text) to hartonomous_user, hartonomous_reader, hartonomous_admin;
