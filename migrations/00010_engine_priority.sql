set local role hartonomous_owner;
-- Whose requests an engine takes first.
alter table hartonomous.limits drop constraint limits_name_check, add constraint limits_name_check check (name in (
    'max_loaded_models', 'max_model_bytes', 'max_context', 'max_tokens_per_answer', 'max_calls_per_hour', 'max_tokens_per_hour',
    'recording', 'retention_days', 'engine_priority'));
reset role;
