create or replace function hartonomous._tell(heard boolean, message text) returns void
language plpgsql volatile parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
    if heard then
        raise notice '%', message;
    else
        raise debug '%', message;
    end if;
end
$$;
comment on function hartonomous._tell(boolean, text) is
    'a notice to the client, or a line for who asks for debug1; a statement, so that a cancel is an error in it as in any other';
revoke all on function hartonomous._tell(boolean, text) from public;
