-- Letting roles use Hartonomous, for admins that may not grant roles themselves.

create or replace function hartonomous._check_grantee(role_name text) returns void
language plpgsql stable parallel safe cost 100 security definer set search_path = hartonomous, pg_temp
as $$
begin
    if role_name is null or not exists (select from pg_roles where rolname = role_name) then
        raise exception using errcode = 'undefined_object', message = format('role %s does not exist', left(coalesce(role_name, 'null'), 200));
    end if;
    if role_name like 'hartonomous\_%' then
        raise exception using errcode = 'invalid_parameter_value', message = format('role %s is one of hartonomous itself', left(role_name, 200));
    end if;
end
$$;
comment on function hartonomous._check_grantee(text) is 'an error unless the role is there and not one of hartonomous itself';

create or replace function hartonomous.grant_usage(role_name text, read_only boolean default false) returns void
language plpgsql volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$
begin
    perform hartonomous._check_grantee(role_name);
    execute format('grant %I to %I', case when read_only then 'hartonomous_reader' else 'hartonomous_user' end, role_name);
end
$$;
comment on function hartonomous.grant_usage(text, boolean) is
    'let a role call the functions, or with read_only only read the views';

create or replace function hartonomous.revoke_usage(role_name text) returns void
language plpgsql volatile parallel unsafe cost 100 security definer set search_path = hartonomous, pg_temp
as $$
begin
    perform hartonomous._check_grantee(role_name);
    execute format('revoke hartonomous_user, hartonomous_reader from %I', role_name);
end
$$;
comment on function hartonomous.revoke_usage(text) is 'take back what grant_usage gave';

revoke all on function hartonomous._check_grantee(text), hartonomous.grant_usage(text, boolean), hartonomous.revoke_usage(text) from public;
grant execute on function hartonomous.grant_usage(text, boolean), hartonomous.revoke_usage(text) to hartonomous_admin;
