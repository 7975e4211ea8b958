-- grant_usage runs as the owner, who therefore may hand the users' role on.
do $$
begin
    if not exists (
        select from pg_auth_members
        where roleid = 'hartonomous_user'::regrole and member = 'hartonomous_owner'::regrole and admin_option
    ) then
        begin
            grant hartonomous_user, hartonomous_reader to hartonomous_owner with admin option;
        exception when duplicate_object or unique_violation or internal_error then
            null;
        end;
    end if;
end
$$;
