-- The engine of this database, which the host starts and which calls this as long as it lives.

create or replace function hartonomous._engine_turn() returns boolean
language plv8 volatile parallel unsafe cost 1000000 security definer set search_path = hartonomous, pg_temp
as $$ {{entry.engineTurn()}} $$;
comment on function hartonomous._engine_turn() is
    'in the process of an engine: do some of the work that callers left; whether there is more';
revoke all on function hartonomous._engine_turn() from public;
